// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * `ha-registry rebuild` on the filesystem store at 1,000, 10,000 … manifests: manifests per second, CPU seconds per 1,000 (the command with its threads, and Postgres), and
 * peak RSS of the command. Each manifest is an image with a layer of its own, a config that all share, and a tag; 100 to a repository. The store is written as the layout
 * has it, without a registry. CPU is that of the rebuild: what an empty store costs is taken off.
 *
 *     npx tsx bench/rebuild.ts [--counts 1000,10000,100000] [--root DIR] [--rounds N]
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { dataKey, entryKey, linkTemplate, manifestTemplate, tagTemplate } from '../src/storage/keys.js';
import type { Digest } from '../src/oci/digest.js';
import type { Tag } from '../src/oci/reference.js';
import type { RepositoryName } from '../src/oci/repository-name.js';
import { spawnTracked } from '../test/support/command.js';
import { table } from '../test/support/table.js';
import { cpuSeconds, peakRssMiB } from './process-usage.js';
import { median } from './statistics.js';

const { values } = parseArgs({
  options: {
    counts: { type: 'string', default: '1000,10000' },
    root: { type: 'string', default: tmpdir() },
    rounds: { type: 'string', default: '1' },
  },
});
const perRepository = 100;

interface Usage {
  readonly seconds: number;
  readonly server: number;
  readonly postgres: number;
  readonly peakMiB: number;
}

const start = await measured(1);
const rows: string[][] = [['manifests', 'seconds', 'manifests/s', 'CPU s per 1,000', 'of which Postgres', 'peak MiB']];
for (const count of values.counts.split(',').map(Number)) {
  const { seconds, server, postgres, peakMiB } = await measured(count);
  const per1000 = (cpu: number): string => ((cpu * 1000) / count).toFixed(2);
  const used = { server: Math.max(0, server - start.server), postgres: Math.max(0, postgres - start.postgres) };
  rows.push([
    String(count),
    seconds.toFixed(2),
    String(Math.round(count / seconds)),
    per1000(used.server + used.postgres),
    per1000(used.postgres),
    String(Math.round(peakMiB)),
  ]);
}
console.log(table(rows));

/** The median of each. */
async function measured(count: number): Promise<Usage> {
  const root = mkdtempSync(path.join(values.root, 'ha-registry-bench-rebuild-'));
  try {
    writeStore(path.join(root, 'store'), count);
    const usages: Usage[] = [];
    for (let round = 0; round < Number(values.rounds); round++) usages.push(await run(root));
    const of = (name: keyof Usage): number => median(usages.map((usage) => usage[name]));
    return { seconds: of('seconds'), server: of('server'), postgres: of('postgres'), peakMiB: of('peakMiB') };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

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
    const image = imageOf(layer, `image ${index}`);
    const digest = digestOf(image);
    const uuid = randomUUID();
    put(dataKey(uuid), layer);
    put(entryKey(linkTemplate(repository, digestOf(layer), uuid), sequence++), '');
    if (index % perRepository === 0) put(entryKey(linkTemplate(repository, digestOf('{}'), config), sequence++), '');
    put(entryKey(manifestTemplate(repository, digest), sequence), `Content-Type: application/vnd.oci.image.manifest.v1+json\n\n${image}`);
    const body = JSON.stringify({ at: new Date().toISOString(), by: '' });
    put(entryKey(tagTemplate(repository, `v${index}` as Tag, digest), sequence++), body);
  }
}

function described(mediaType: string, bytes: string): object {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

function imageOf(layer: string, title: string): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: described('application/vnd.oci.image.config.v1+json', '{}'),
    layers: [described('application/vnd.oci.image.layer.v1.tar+gzip', layer)],
    annotations: { 'org.opencontainers.image.title': title },
  });
}

function digestOf(bytes: string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

/** Seconds are the command's own: without the start of the program and of its Postgres. */
async function run(root: string): Promise<Usage> {
  const main = path.resolve(import.meta.dirname, '../dist/main.js');
  const args = [main, 'rebuild', '--replace', '--root', root, '--json'];
  const child = spawnTracked(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  let last = { server: 0, postgres: 0, peakMiB: 0 };
  child.stdout?.on('data', (piece: Buffer) => (output += piece.toString()));
  const timer = setInterval(() => {
    try {
      // When it has ended there is nothing to be read.
      const { server, postgres } = cpuSeconds(child.pid ?? 0, root);
      const peakMiB = peakRssMiB(child.pid ?? 0);
      if (server + postgres > last.server + last.postgres && !Number.isNaN(peakMiB)) last = { server, postgres, peakMiB };
    } catch {
      // It ended meanwhile.
    }
  }, 100);
  const code = await new Promise((resolve) => child.once('close', resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`the rebuild ended with ${String(code)}`);
  const { seconds, findings } = JSON.parse(output) as { seconds: number; findings: number };
  if (findings !== 0) throw new Error(`${findings} findings`);
  return { seconds, ...last };
}
