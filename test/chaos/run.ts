// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Two nodes, and whatever can happen to them. Three kinds:
 *
 *     npm run chaos -- [--seconds N]    clients behind a balancer, while nodes are killed, frozen and rolled, and Postgres and S3 go away
 *     npm run chaos -- --ops N          N random operations, collections, crashes and rebuilds, and all that must hold after them
 *     npm run chaos -- --gc-stress [--seconds N]    collection every second, with delays of seconds, under pushes and pulls
 *
 * with [--seed N] [--engine uws|node] [--store filesystem|s3] [--verbose].
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { filesOf, objectsOf, type StoredObjects } from '../drills/stored-objects.js';
import { quickDirectory } from '../support/registry.js';
import { s3Server, s3Settings, stopS3Servers } from '../support/s3-server.js';
import { notRun, Verdicts } from '../support/verdicts.js';
import { runFaults } from './faults.js';
import { runStress } from './gc-stress.js';
import { runOperations } from './operations.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    seconds: { type: 'string', default: '60' },
    ops: { type: 'string' },
    'gc-stress': { type: 'boolean', default: false },
    engine: { type: 'string', default: 'uws' },
    store: { type: 'string', default: 'filesystem' },
    verbose: { type: 'boolean', default: false },
  },
});
const { engine, verbose } = values;
const seed = Number(values.seed);
const seconds = Number(values.seconds);
const kind = values.store === 's3' ? 's3' : 'filesystem';
const verdicts = new Verdicts();

if (values['gc-stress']) {
  console.log(`gc-stress: seed ${seed}, ${seconds} s, engine ${engine}, store ${kind}`);
  await verdicts.judge('the stress', async () => {
    await runStress({ seed, seconds, engine, ...(await openPlace()) }, verdicts);
    await stopS3Servers();
  });
} else if (values.ops === undefined) {
  console.log(`chaos: seed ${seed}, ${seconds} s, engine ${engine}, store ${kind}`);
  await verdicts.judge('the chaos', () => runFaults({ seed, seconds, engine, store: kind }, verdicts));
} else {
  const operations = Number(values.ops);
  console.log(`chaos: seed ${seed}, ${operations} operations, engine ${engine}, store ${kind}`);
  await verdicts.judge('the chaos', async () => {
    await runOperations({ seed, operations, engine, verbose, ...(await openPlace()) }, verdicts);
    await stopS3Servers();
  });
}

/** A store of one's own, for the nodes and from behind. */
async function openPlace(): Promise<{ readonly root: string; readonly storage: object; readonly objects: StoredObjects }> {
  const root = await quickDirectory('chaos-');
  if (kind === 'filesystem') return { root, storage: {}, objects: filesOf(path.join(root, 'store')) };
  const server = await s3Server();
  if ('missing' in server) return notRun(server.missing);
  const s3 = await s3Settings(server);
  return { root, storage: { s3 }, objects: objectsOf(server.client, s3.bucket) };
}
