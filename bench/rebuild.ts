// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * `ha-registry rebuild` on the filesystem store: manifests per second and peak RSS of the command, at 1,000, 10,000 … manifests. Each manifest is an image with a layer of
 * its own and a config that all share, with a tag; 100 to a repository. The store is written as the layout has it, without a registry.
 *
 *     npx tsx bench/rebuild.ts [--counts 1000,10000,100000] [--root DIR]
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { dataKey, entryKey, linkTemplate, manifestTemplate, tagTemplate } from '../src/storage/keys.js';
import type { Digest } from '../src/oci/digest.js';
import type { Tag } from '../src/oci/reference.js';
import type { RepositoryName } from '../src/oci/repository-name.js';
import { spawnTracked } from '../test/support/command.js';
import { table } from '../test/support/table.js';
import { digestOf, imageOf } from '../test/support/wire-suite.js';

const { values } = parseArgs({
  options: { counts: { type: 'string', default: '1000,10000' }, root: { type: 'string', default: tmpdir() } },
});
const perRepository = 100;
const rows: string[][] = [['manifests', 'seconds', 'manifests/s', 'peak MiB']];
for (const count of values.counts.split(',').map(Number)) {
  const root = mkdtempSync(path.join(values.root, 'ha-registry-bench-rebuild-'));
  try {
    writeStore(path.join(root, 'store'), count);
    const { seconds, peakMiB } = await measure(root);
    rows.push([String(count), seconds.toFixed(2), String(Math.round(count / seconds)), String(peakMiB)]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
console.log(table(rows));

function writeStore(store: string, count: number): void {
  const put = (key: string, bytes: string): void => {
    const file = path.join(store, key);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, bytes);
  };
  let sequence = 1n;
  const config = randomUUID();
  put(dataKey(config), '{}');
  for (let index = 0; index < count; index++) {
    const repository =
      `${(Math.floor(index / perRepository) % 36).toString(36)}team/app${Math.floor(index / perRepository)}` as RepositoryName;
    const layer = `layer ${index}`;
    const image = imageOf([layer], { annotations: { 'org.opencontainers.image.title': `image ${index}` } });
    const digest = digestOf(image) as Digest;
    const uuid = randomUUID();
    put(dataKey(uuid), layer);
    put(entryKey(linkTemplate(repository, digestOf(layer) as Digest, uuid), sequence++), '');
    if (index % perRepository === 0) put(entryKey(linkTemplate(repository, digestOf('{}') as Digest, config), sequence++), '');
    put(entryKey(manifestTemplate(repository, digest), sequence), `Content-Type: application/vnd.oci.image.manifest.v1+json\n\n${image}`);
    const body = JSON.stringify({ at: new Date().toISOString(), by: '' });
    put(entryKey(tagTemplate(repository, `v${index}` as Tag, digest), sequence++), body);
  }
}

/** The time is the command's own: without the start of the program and of its Postgres. */
async function measure(root: string): Promise<{ seconds: number; peakMiB: number }> {
  const main = path.resolve(import.meta.dirname, '../dist/main.js');
  const child = spawnTracked(process.execPath, [main, 'rebuild', '--root', root, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let peakMiB = 0;
  child.stdout?.on('data', (piece: Buffer) => (output += piece.toString()));
  const timer = setInterval(() => {
    try {
      const [, kib = '0'] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8')) ?? [];
      peakMiB = Math.max(peakMiB, Math.round(Number(kib) / 1024));
    } catch {
      // It has ended.
    }
  }, 50);
  const code = await new Promise((resolve) => child.once('close', resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`the rebuild ended with ${String(code)}`);
  const { seconds, findings } = JSON.parse(output) as { seconds: number; findings: number };
  if (findings !== 0) throw new Error(`${findings} findings`);
  return { seconds, peakMiB };
}
