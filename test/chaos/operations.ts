// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Random operations from a seed on two nodes: pushes, mounts, tags, moves, deletions, indexes, referrers and pulls, several at a time; the phases of collections; crashes,
 * restarts, days that pass, and rebuilds of the database. In between, and in the end, the invariants are checked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Drill } from '../drills/drill.js';
import type { DrilledNode } from '../drills/drilled-node.js';
import { absent } from '../drills/history.js';
import { Random } from '../drills/random.js';
import { pickOperation, type Known } from '../drills/workload.js';
import { table } from '../support/table.js';
import type { Verdicts } from '../support/verdicts.js';
import { phases } from './hand-collector.js';
import { deadOf, goneBetween, takeSnapshot, viewOfSnapshot, type Snapshot } from './liveness.js';
import { remainsOf } from './invariants.js';
import { Place, type PlaceOptions } from './place.js';

export interface OperationsOptions extends PlaceOptions {
  readonly seed: number;
  readonly operations: number;
  /** Prints each operation. */
  readonly verbose: boolean;
}

const mostAtOnce = 8;
/** Between the request that a crash waits for and the crash. */
const longestMomentMs = 15;
/** What the collector may take a little later counts as what it may take. */
const slackMs = 10 * 60_000;
const hour = 60;
/** No sum of them comes near a lifetime: 24 hours, and 7 days. */
const agesMinutes = [5 * hour, 25 * hour, 200 * hour];
const toldForMinutes = hour;
const pushedForMinutes = 24 * hour;
const lifetimes = { untaggedAfterMs: 7 * 24 * hour * 60_000, undoWindowMs: 7 * 24 * hour * 60_000, keepPulledMs: 7 * 24 * hour * 60_000 };
const progressEvery = 500;
/** The longest chain of what keeps what, and twice the delay. */
const mostGenerations = 12;

export async function runOperations(options: OperationsOptions, verdicts: Verdicts): Promise<void> {
  const kept = new Kept();
  const place = await Place.open(options, (key, how) => kept.note(key, how));
  await new Operations(options, place, kept).run(verdicts);
}

/** Until when clients may count on keys, by the clock that only `pass` moves. */
class Kept {
  minutes = 0;
  private readonly until = new Map<string, number>();

  note(key: string, how: 'pushed' | 'told'): void {
    const until = this.minutes + (how === 'told' ? toldForMinutes : pushedForMinutes);
    this.until.set(key, Math.max(until, this.until.get(key) ?? 0));
  }

  minutesLeft(key: string): number {
    return (this.until.get(key) ?? 0) - this.minutes;
  }
}

class Operations {
  private readonly options: OperationsOptions;
  private readonly place: Place;
  private readonly drill: Drill;
  private readonly plan: Random;
  private readonly known: Known = { manifests: [], layers: [], loose: [] };
  private readonly times: Record<string, number> = {};
  private readonly kept: Kept;
  private collectsFrom = 0;
  private done = 0;
  private collected = 0;
  private certain = 0;

  constructor(options: OperationsOptions, place: Place, kept: Kept) {
    this.kept = kept;
    this.options = options;
    this.place = place;
    this.plan = new Random(options.seed);
    const counts = { acknowledged: 0, inDoubt: 0, refused: 0, reads: 0, resumed: 0 };
    this.drill = {
      node: place.nodes,
      history: place.history,
      random: this.plan,
      failures: place.failures.clients,
      counts,
      refused: new Set(),
      largestBlob: 300_000,
      deletesLayers: true,
    };
  }

  async run(verdicts: Verdicts): Promise<void> {
    const { failures } = this.place;
    const failed = (): boolean => Object.values(failures).some((found) => found.length > 0);
    while (this.done < this.options.operations && !failed()) await this.round();
    if (!failed()) await this.check(undefined);
    if (!failed()) await this.rebuild(this.plan);
    if (!failed()) await this.forgetEverything();
    await this.place.close();
    verdicts.give('no client saw an error, or anything but what it was told', failures.clients);
    verdicts.give(
      `bytes, references, deletions: ${this.times['checks'] ?? 0} times, in the database, the store and the API`,
      failures.state,
    );
    verdicts.give('nothing live was collected, and nothing dead was left', failures.collection);
    verdicts.give('each rebuild gave the same rows', failures.rebuild);
    verdicts.give('no error in the logs, and each restart was a clean one', failures.nodes);
    this.report();
  }

  /** Several operations at once, until one that has to be alone. */
  private async round(): Promise<void> {
    const { plan } = this;
    const atOnce: (() => Promise<unknown>)[] = [];
    let alone: (() => Promise<void>) | undefined;
    for (let left = plan.between(1, mostAtOnce + 1); left > 0 && alone === undefined && this.done < this.options.operations; left--) {
      const random = new Random(plan.between(0, 2 ** 31));
      const share = plan.next();
      if (share < 0.88) {
        const operation = pickOperation({ ...this.drill, random }, this.known, `n${this.done}`);
        this.count('by clients', operation.what);
        atOnce.push(() => operation.run());
      } else if (share < 0.963) {
        const phase = random.pick(phases);
        this.count(`collections: ${phase}`, phase);
        atOnce.push(() => this.place.collector.perform(phase, random));
      } else if (share < 0.971) {
        this.count('crashes');
        this.place.happens(() => this.crash(random));
      } else if (share < 0.977) {
        this.count('restarts');
        this.place.happens(() => this.place.restart(random.pick(this.place.nodes.nodes)));
      } else if (share < 0.997) {
        const minutes = random.pick(agesMinutes);
        this.count('days that pass', `${minutes / hour} hours pass`);
        alone = () => this.age(minutes, random);
      } else {
        this.count('rebuilds');
        alone = () => this.check(random).then(() => this.rebuild(random));
      }
    }
    await Promise.all(atOnce.map((run) => run()));
    await alone?.();
  }

  private async crash(random: Random): Promise<void> {
    const { nodes } = this.place.nodes;
    const victims: readonly DrilledNode[] = random.chance(0.25) ? nodes : [random.pick(nodes)];
    const moment = this.place.nodes.afterRequests(random.between(1, 12)).then(() => sleep(random.between(0, longestMomentMs)));
    await Promise.all(victims.map((node) => this.place.kill(node, moment)));
    await Promise.all(victims.map((node) => this.place.start(node)));
  }

  /** All is quiet, and everything is compared. */
  private async check(random: Random | undefined): Promise<Snapshot> {
    this.times['checks'] = (this.times['checks'] ?? 0) + 1;
    await this.place.settle();
    // What a collector died with is taken up by the next.
    await this.pass(6);
    await this.place.untilTrashIsEmpty();
    const { snapshot, certain } = await this.place.check(this.drill, random);
    this.certain += certain;
    return snapshot;
  }

  private async pass(minutes: number): Promise<void> {
    this.kept.minutes += minutes;
    await this.place.age(minutes);
  }

  /** Time passes, and what is due then is collected: at once, while nothing else goes on, or bit by bit among the operations that follow. */
  private async age(minutes: number, random: Random): Promise<void> {
    const before = await this.check(random);
    await this.pass(minutes);
    const dead = deadOf(before, minutes * 60_000, lifetimes);
    const { history, failures } = this.place;
    for (const key of dead) {
      const left = this.kept.minutesLeft(key);
      if (left > 0) failures.collection.push(`${key}: its time is up, though a client may count on it for ${left} minutes more`);
    }
    const mayGo = deadOf(before, minutes * 60_000 + slackMs, lifetimes);
    if (random.chance(0.5)) await this.collectAlone(before, mayGo);
    else for (const key of mayGo) history.doom(key);
  }

  private async collectAlone(before: Snapshot, mayGo: ReadonlySet<string>): Promise<void> {
    const { history, failures, collector, url } = this.place;
    const hindrance = await collector.round();
    if (hindrance !== undefined && this.kept.minutes >= this.collectsFrom) failures.collection.push(`nothing is collected: ${hindrance}`);
    const after = await takeSnapshot(url);
    const gone = goneBetween(viewOfSnapshot(before), viewOfSnapshot(after));
    for (const key of gone) {
      if (!mayGo.has(key)) failures.collection.push(`${key}: collected, though it lives`);
      history.settle(key, absent);
    }
    this.collected += gone.length;
    if (hindrance !== undefined) return;
    for (const key of deadOf(after, 0, lifetimes)) failures.collection.push(`${key}: dead, and not collected`);
  }

  /** Nothing is collected until a delay has passed since. */
  private async rebuild(random: Random): Promise<void> {
    await this.place.rebuild(random);
    this.collectsFrom = this.kept.minutes + pushedForMinutes;
  }

  /** Without tags everything dies, and in the end neither database nor store holds anything but what tells of deletions. */
  private async forgetEverything(): Promise<void> {
    await this.place.deleteTags(this.drill);
    for (let generation = 0; generation < mostGenerations; generation++) {
      await this.pass(200 * hour);
      await this.place.collector.round();
    }
    // The sweep sees an orphan every few hours for two days.
    for (let hours = 0; hours <= 56; hours += 7) {
      await this.pass(7 * hour);
      await this.place.collector.sweep();
    }
    await this.place.untilTrashIsEmpty();
    this.place.failures.collection.push(...(await remainsOf(this.place.url, this.options.objects)));
  }

  private count(what: string, detail = what): void {
    this.done++;
    this.times[what] = (this.times[what] ?? 0) + 1;
    if (this.options.verbose) console.log(`${this.done}: ${detail}`);
    else if (this.done % progressEvery === 0) console.log(`${this.done} operations`);
  }

  private report(): void {
    const { counts } = this.drill;
    const { counters, deaths } = this.place.collector;
    console.log(
      table([
        ...Object.entries(this.times).map(([what, times]) => [what, String(times)]),
        ['changes acknowledged', String(counts.acknowledged)],
        ['in doubt', String(counts.inDoubt)],
        ['refused, as they must be', String(counts.refused)],
        ['reads', String(counts.reads)],
        ['uploads continued after a crash', String(counts.resumed)],
        ['collected: manifests, links, blobs', `${counters.manifests}, ${counters.links}, ${counters.blobs}`],
        ['of them while all else was quiet', String(this.collected)],
        ['skipped since a push held them, batches given up', `${counters.skippedLocked}, ${counters.yielded}`],
        ['objects deleted, not deleted at first', `${counters.objects}, ${counters.failedObjects}`],
        ['collectors that died', String(deaths.count)],
        ['values that could be only one', String(this.certain)],
      ]),
    );
  }
}
