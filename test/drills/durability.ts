// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Kills a node twenty times while it is pushed to, and looks afterwards whether all that it acknowledged is there, in the API and in the store alone, and nothing else.
 *
 *     npx tsx test/drills/durability.ts [--seed N] [--kills N] [--engine uws|node]
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { table } from '../support/table.js';
import { Verdicts } from '../support/verdicts.js';
import type { Drill } from './drill.js';
import { DrilledNode } from './drilled-node.js';
import { History } from './history.js';
import { findLeaks, type Leaks } from './leaks.js';
import { repositories } from './push-manifests.js';
import { newReadings, type Readings } from './read-store.js';
import { filesOf, type StoredObjects } from './stored-objects.js';
import { Random } from './random.js';
import { trickleUntilKilled } from './upload-blob.js';
import { checkView, differences, viewOfApi, viewOfStore, type View } from './views.js';
import { runWorkload, type Known } from './workload.js';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    kills: { type: 'string', default: '20' },
    engine: { type: 'string', default: 'uws' },
  },
});
const seed = Number(values.seed);
const kills = Number(values.kills);

/** Longer than the time between two checkpoints of an upload. */
const trickleMs = 11_500;
/** A node that is killed while it empties the trash leaves what it had claimed leased for 5 minutes; nothing else takes that long. */
const leaksEndWithinMs = 330_000;
const viewsAgreeWithinMs = leaksEndWithinMs;
const mostFailures = 20;

const verdicts = new Verdicts();

interface DurabilityDrill extends Drill {
  readonly node: DrilledNode;
}

async function drill(): Promise<void> {
  const failures: string[] = [];
  const node = await DrilledNode.prepare({ server: { engine: values.engine }, log: { level: 'warn' } }, failures);
  const history = new History();
  const counts = { acknowledged: 0, inDoubt: 0, refused: 0, reads: 0, resumed: 0 };
  const it: DurabilityDrill = {
    node,
    history,
    random: new Random(seed),
    failures,
    counts,
    refused: new Set(),
    largestBlob: 20_000_000,
    deletesLayers: false,
  };
  const known: Known = { manifests: [], layers: [], loose: [] };
  await node.start();
  await killAgainAndAgain(it, known);
  verdicts.give('no 5xx, no wrong read, no lost chunk, no manual step while it was killed', failures);

  const read = newReadings();
  const api = await viewOfApi(it, true);
  const certain = checkView(it, api, 'API');
  verdicts.give(`all ${certain} certain values of ${history.keys().length} by the API, byte for byte`, failures);
  const store = filesOf(path.join(node.root, 'store'));
  await agree(it, store, api, read, 'while the node runs', viewsAgreeWithinMs);

  await node.stop();
  await agree(it, store, api, read, 'while the node is stopped', 0);

  await node.start({ uploads: { expire_after: '2s' } });
  const leaks = await findLeaks(node.root, read, leaksEndWithinMs);
  judgeLeaks(leaks, failures);
  const later = await viewOfApi(it, false);
  failures.push(...differences(later, api));
  await agree(it, store, later, read, 'after uploads have expired', viewsAgreeWithinMs);
  const problems = node
    .log()
    .split('\n')
    .filter((line) => /"level":(50|60)/.test(line));
  failures.push(...problems);
  verdicts.give('no error in the log of the last life', failures);
  await node.stop();
  report(it, api, leaks);
}

async function killAgainAndAgain(it: DurabilityDrill, known: Known): Promise<void> {
  const { node, random, history, failures } = it;
  const timing = new Random(seed + 1);
  let over = false;
  const load = runWorkload(it, known, () => over);
  let trickle: Promise<void> | undefined;
  while (node.kills < kills) {
    const last = node.kills === kills - 1;
    if (last) {
      await new Promise<void>((resolve) => {
        trickle = trickleUntilKilled(it, random.pick(repositories), resolve);
      });
    }
    await sleep(last ? trickleMs : timing.between(150, 2500));
    await node.kill();
    // Some are killed again before they are up.
    while (node.kills < kills && timing.chance(0.15)) await node.killWhileStarting(timing.between(20, 900));
    await node.start({}, (life) => history.endLives((other) => other < life));
    node.checkProcesses();
    if (failures.length > mostFailures) break;
  }
  await sleep(500);
  over = true;
  await load;
  await trickle;
}

/** Store and API say the same, once the trash is emptied of what was withdrawn at the start. */
async function agree(it: Drill, store: StoredObjects, api: View, read: Readings, when: string, withinMs: number): Promise<void> {
  for (const deadline = Date.now() + withinMs; ; await sleep(500)) {
    const { view, content } = await viewOfStore(store, read);
    const differing = [...differences(api, view), ...content.problems.slice(0, 8), ...content.missing.slice(0, 8)];
    if (differing.length > 0 && Date.now() < deadline) continue;
    it.failures.push(...differing);
    checkView(it, view, 'store');
    verdicts.give(`the store alone says what the API says, ${when}: ${view.size} values`, it.failures);
    return;
  }
}

function judgeLeaks({ pendingWrites, sessions, overdueTrash, unknownData, trashInUse }: Leaks, failures: string[]): void {
  if (pendingWrites > 0) failures.push(`${pendingWrites} pending writes that nobody ends`);
  if (sessions > 0) failures.push(`${sessions} upload sessions that do not expire`);
  if (overdueTrash > 0) failures.push(`${overdueTrash} objects that stay in the trash`);
  if (trashInUse > 0) failures.push(`${trashInUse} data objects in the trash that a blob has`);
  for (const uuid of unknownData.slice(0, 8)) failures.push(`data object ${uuid}: no link, session, blob or due trash names it`);
  verdicts.give('no pending write, session, trash or data is left over', failures);
}

function report({ node, counts }: DurabilityDrill, api: View, { uncollected }: Leaks): void {
  const kindOf = (letter: string) => [...api.keys()].filter((key) => key.startsWith(letter)).length;
  const [median = 0, slowest = 0] = [0.5, 1].map(
    (share) => node.restartsMs.toSorted((a, b) => a - b)[Math.ceil(share * node.restartsMs.length) - 1],
  );
  console.log(
    table([
      ['changes acknowledged', String(counts.acknowledged)],
      ['in doubt', String(counts.inDoubt)],
      ['refused, as they must be', String(counts.refused)],
      ['uploads continued after a kill', String(counts.resumed)],
      ['reads meanwhile', String(counts.reads)],
      ['kills', String(node.kills)],
      ['starts', `${node.restartsMs.length}, median ${median.toFixed(0)} ms, slowest ${slowest.toFixed(0)} ms`],
      ['verified tags', String(kindOf('t'))],
      ['verified manifests', String(kindOf('m'))],
      ['verified blobs', String(kindOf('b'))],
      ['subjects with referrers', String(kindOf('r'))],
      ['data without a link, until collected', String(uncollected)],
    ]),
  );
}

console.log(`durability: seed ${seed}, ${kills} kills, engine ${values.engine}`);
await verdicts.judge('the drill', drill);
