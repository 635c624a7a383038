// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Which migration has the text of each of the database's functions that counts, since a landed migration is never changed: `npx tsx test/support/function-index.ts` writes it down. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const directory = path.resolve(import.meta.dirname, '../../src/database/migrations');
export const indexFile = path.join(directory, 'README.md');

export function functionIndex(): string {
  const current = new Map<string, string>();
  const files = readdirSync(directory).filter((name) => name.endsWith('.sql'));
  for (const file of files.toSorted()) {
    const statements = readFileSync(path.join(directory, file), 'utf8').replaceAll(/--.*$/gm, '');
    for (const [, verb, name = ''] of statements.matchAll(
      /\b(create|drop)\s+(?:or\s+replace\s+)?function\s+(?:if\s+exists\s+)?([a-z_]+)/gi,
    )) {
      if (verb?.toLowerCase() === 'drop') current.delete(name);
      else current.set(name, file);
    }
  }
  const lines = [...current].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, file]) => `- \`${name}\`: [${file}](${file})`);
  return `# The database's functions\n\nThe migration that holds the text in force of each. A migration that has landed is never changed; a function is changed by a later one that replaces it.\n\n${lines.join('\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(indexFile, functionIndex());
