// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Whether the database that answers is the one that goes with the store, and has not gone back in time: by a failover to a standby that lagged, a restored dump, or an
 * old server that came back. Every new connection is looked at; what does not fit closes the node for writes (and for reads from Postgres) until this node, and every
 * other one that lives, has verified the writes that it acknowledged within the last hour, and has given back those that are lost.
 */
import type { Client, ClientBase } from 'pg';
import { databaseChanged, isConnectionLoss, isTransient, isUnavailable, sqlState, sqlStateOf, unavailable } from '../database/failures.js';
import type { Database } from '../database/pool.js';
import type { BlobStore } from '../storage/blob-store.js';
import { adopt, listUnknownWrites } from './adopt-writes.js';
import {
  beginGeneration,
  countUnverified,
  findFacts,
  isNode,
  jumpSequence,
  recordHighWater,
  setNodeGeneration,
  type DatabaseFacts,
} from './cluster-queries.js';
import {
  blockSize,
  readBlocksEnd,
  readGeneration,
  readHighWater,
  writeBlocksEnd,
  writeGeneration,
  writeHighWater,
  type GenerationMark,
} from '../storage/cluster-marks.js';
import { nodeKey, ownerKey } from '../storage/keys.js';
import { storeLost, StoreLost } from '../storage/store-lost.js';
import { RecentWrites, type RecentWrite } from './recent-writes.js';
import { changeBetween, goneBack } from './database-changes.js';
import { findDoubt, type Doubt } from './unclean-end.js';

export interface ContinuityOptions {
  readonly store: BlobStore;
  /** One line per change, for the operator. */
  readonly log: (level: 'info' | 'warn' | 'error', line: string, error?: unknown) => void;
}

/** How often the store is asked for its generation, and for how long an answer counts. */
export const markIntervalMs = 10_000;
const markValidMs = 30_000;
const retryMs = 1_000;
/** For a database that is older than its store, where only an operator helps. */
const refusedRetryMs = 5_000;
const checkTimeoutMs = 30_000;
/** For how long a node that lives, but does not verify its writes, is waited for. */
const othersMs = 60_000;
/** To give one write back, each up to `lock_timeout`. */
const mostAttempts = 10;

export class Continuity {
  private readonly store: BlobStore;
  private readonly log: ContinuityOptions['log'];
  private readonly recent = new RecentWrites();
  private database: Database | undefined;
  /** This node's row; undefined before it has one. */
  private nodeId: () => string | undefined = () => undefined;

  private known: DatabaseFacts | undefined;
  private markReadAt = -Infinity;
  /** When the store's marks were last looked at. */
  private lookedAt = -Infinity;
  /** Since when the store has been without the marks of this cluster. */
  private lostSince: number | undefined;
  private highestSeen = 0n;
  private blocksEnd = 0n;
  private extending: Promise<void> | undefined;

  private reason: string | undefined = 'the database was not looked at yet';
  private checking: Promise<void> | undefined;
  private closed = false;
  private count = 0;

  constructor({ store, log }: ContinuityOptions) {
    this.store = store;
    this.log = log;
  }

  /** Looks at the database for the first time. `alone`: no other node lives. Throws an Error for the operator when nothing may be written. */
  async open(database: Database, client: Client, alone: boolean): Promise<void> {
    this.database = database;
    const doubt = alone ? await findDoubt(client, this.store) : undefined;
    const refused = await this.verify(client, alone, doubt);
    if (refused !== undefined) throw new Error(refused);
    if (doubt !== undefined) await this.store.delete(doubt.marks);
    this.reason = undefined;
  }

  /** From now on this node has a row, and writes. */
  join(nodeId: () => string): void {
    this.nodeId = nodeId;
  }

  /** Why nothing may be written or deleted now; undefined when it may. */
  get obstacle(): string | undefined {
    if (this.reason !== undefined) return this.reason;
    if (this.isStoreLost) return 'the store has lost its marks';
    return performance.now() - this.markReadAt > markValidMs ? 'the store could not be asked for its generation' : undefined;
  }

  /** The store that answers is not the one that it was. */
  get isStoreLost(): boolean {
    return this.lostSince !== undefined;
  }

  /** The generation that this node works in. */
  get generation(): bigint {
    return this.known?.generation ?? 0n;
  }

  /** Changes whenever it became uncertain which database answers: an outcome from before says nothing about what there is now. */
  get epoch(): number {
    return this.count;
  }

  /** The highest sequence seen: one that is drawn by a statement sent from now on is higher. */
  get highest(): bigint {
    return this.highestSeen;
  }

  /** Throws 503 when nothing may be written. */
  checkWritable(): void {
    const { obstacle } = this;
    if (this.isStoreLost) throw storeLost(this.store.location);
    if (obstacle !== undefined) throw unavailable(`nothing can be written now: ${obstacle}`);
  }

  /** A new connection of a pool: nobody uses it unless it leads to the database that was verified. */
  async admit(client: ClientBase): Promise<void> {
    const before = this.highestSeen;
    const facts = await findFacts(client);
    const change = this.known === undefined ? 'it was not looked at yet' : changeBetween(this.known, facts, before);
    if (change === undefined && this.reason === undefined) return;
    if (change !== undefined && this.known !== undefined) this.suspect(change);
    throw Object.assign(new Error(`the database is being verified: ${change ?? this.reason}`), { code: databaseChanged });
  }

  /** A sequence that was drawn by a statement sent when the highest was `before`. Throws 503 when it is an old one. Waits while its block is not recorded. */
  async drawn(sequence: bigint, before: bigint): Promise<void> {
    if (sequence <= before) {
      this.suspect(`it gave out the sequence ${sequence} after ${before}`);
      throw unavailable('the database has gone back in time');
    }
    if (sequence > this.highestSeen) this.highestSeen = sequence;
    const needed = (sequence / blockSize + 2n) * blockSize;
    if (needed > this.blocksEnd) {
      const extending = this.extendBlocks(needed);
      if (sequence >= this.blocksEnd) await extending;
      else extending.catch((error: unknown) => this.log('warn', 'the store could not be told how far the sequences are', error));
    }
  }

  /** Keeps a committed write for an hour. False when the database was in doubt meanwhile: then nobody may be told that it succeeded. */
  remember(write: RecentWrite, epoch: number): boolean {
    if (epoch !== this.count) return false;
    this.recent.remember(write.sequence, write.templates);
    return true;
  }

  /** Reads the store's generation. To be called every `markIntervalMs`, and more often while the store is lost. */
  async refresh(): Promise<void> {
    const at = performance.now();
    const mark = await readGeneration(this.store);
    const isOurs = await this.isOurs(mark);
    // Several look at once when something is missing: who began last has seen what is newest.
    if (at < this.lookedAt) return;
    this.lookedAt = at;
    if (!isOurs) return this.loseStore();
    await this.regainStore();
    this.markReadAt = at;
    if (mark === undefined || this.known === undefined || this.checking !== undefined) return;
    const { generation, fingerprint } = this.known;
    if (mark.generation !== generation) this.suspect(`the store goes with generation ${mark.generation} of the database`);
    else if (mark.fingerprint !== fingerprint) this.suspect(`the store goes with ${mark.fingerprint}, and this is ${fingerprint}`);
  }

  /**
   * Throws 503 unless the store has this node's mark. To be called after what it has was looked at or changed, and before anybody concludes from what it has not: on a directory that is
   * not mounted everything is missing, every deletion succeeds, and what is written is hidden when the mount is back.
   */
  async requireStore(): Promise<void> {
    const node = this.nodeId();
    if ((await this.store.size(node === undefined ? ownerKey : nodeKey(node))) !== undefined) return;
    await this.refresh().catch(() => undefined);
    throw storeLost(this.store.location);
  }

  /** Records how far the database is. To be called every minute by one node, and at the end. */
  async recordHighWater(): Promise<void> {
    if (this.database === undefined || this.obstacle !== undefined) return;
    const { epoch } = this;
    const sequence = await recordHighWater(this.database.writes);
    if (epoch === this.count && sequence > (await readHighWater(this.store))) await writeHighWater(this.store, sequence);
  }

  async close(): Promise<void> {
    if (this.nodeId() !== undefined) {
      await this.recordHighWater().catch((error: unknown) =>
        this.log('warn', 'the store could not be told how far the database is', error),
      );
    }
    this.closed = true;
    await this.checking;
  }

  /** A node has its mark for as long as it has its row; the generation's is there since the database was verified. */
  private async isOurs(mark: GenerationMark | undefined): Promise<boolean> {
    // Without the database a node starts on a store that has an owner.
    if (this.known === undefined || this.database === undefined) return (await this.store.size(ownerKey)) !== undefined;
    if (mark === undefined) return false;
    const node = this.nodeId();
    if (node === undefined || (await this.store.size(nodeKey(node))) !== undefined) return true;
    // Whoever was declared dead has lost both, and comes back under a new id. Without the database nobody can tell.
    return !(await isNode(this.database.reads, node).catch(() => false));
  }

  private loseStore(): void {
    if (this.lostSince !== undefined) return;
    this.lostSince = performance.now();
    const { message } = new StoreLost(this.store.location);
    this.log(
      'error',
      `${message} Nothing is written until it is back; after it was restored from a copy all nodes have to be started anew`,
    );
  }

  private async regainStore(): Promise<void> {
    const since = this.lostSince;
    if (since === undefined) return;
    // What was noted in the place of the store is not known to it.
    const blocksEnd = await readBlocksEnd(this.store);
    if (this.lostSince !== since) return;
    this.blocksEnd = blocksEnd;
    const seconds = Math.round((performance.now() - since) / 100) / 10;
    this.lostSince = undefined;
    this.log('info', `the store is back after ${seconds} s`);
  }

  /** Closes the node for writes until the database is verified. */
  private suspect(change: string): void {
    if (this.checking !== undefined || this.closed) return;
    this.count++;
    this.reason = 'the database is being verified';
    this.log('warn', `the database may have gone back in time (${change}): nothing is written until it is verified`);
    this.database?.reconnect();
    this.checking = this.check().finally(() => (this.checking = undefined));
  }

  private async check(): Promise<void> {
    let told: string | undefined;
    while (!this.closed) {
      try {
        const client = await this.connect();
        let refused: string | undefined;
        try {
          refused = await this.verify(client, true);
        } finally {
          await client.end().catch(() => undefined);
        }
        if (refused === undefined) {
          this.reason = undefined;
          return;
        }
        this.reason = refused;
        if (told !== refused) this.log('error', `nothing is written: ${refused}`);
        told = refused;
        this.database?.suspect(Object.assign(new Error(refused), { code: databaseChanged }));
        await pause(refusedRetryMs);
      } catch (error) {
        const { message } = error as Error;
        if (told !== message) this.log('warn', 'the database cannot be verified yet', error);
        told = message;
        await pause(retryMs);
      }
    }
  }

  private connect(): Promise<Client> {
    if (this.database === undefined) throw new Error('not open');
    return this.database.connectAlone('continuity', {}, checkTimeoutMs);
  }

  /** Why nothing may be written through this database; undefined when all is well. With `jump`, the sequence goes past whatever may be in use. */
  private async verify(client: Client, jump: boolean, doubt?: Doubt): Promise<string | undefined> {
    const at = performance.now();
    const mark = await readGeneration(this.store);
    if (mark === undefined && this.known !== undefined) throw new StoreLost(this.store.location);
    const [highWater, blocksEnd] = [await readHighWater(this.store), await readBlocksEnd(this.store)];
    const before = this.highestSeen;
    let facts = await findFacts(client);
    if (facts.unfit !== undefined) return `the database cannot be used: ${facts.unfit}`;
    if (mark !== undefined && facts.generation < mark.generation) {
      return (
        `the database is of generation ${facts.generation}, but the store goes with generation ${mark.generation}: an old database has come back. ` +
        'Use the newer one (database.url), or have this one catch up: ha-registry rebuild --catch-up'
      );
    }
    const node = this.nodeId();
    // Its presence tells it so, and it comes back under a new id.
    if (node !== undefined && !(await isNode(client, node))) throw new Error('the database does not know this node yet');
    const change = mark === undefined ? undefined : goneBack(mark, facts, highWater, before);
    this.blocksEnd = blocksEnd;
    if (jump) await jumpSequence(client, max(blocksEnd, before + 1n) - 1n);
    facts = { ...facts, sequence: (await findFacts(client)).sequence };
    await this.extendBlocks((facts.sequence / blockSize + 2n) * blockSize);

    const writes = this.recent.list();
    const lost = await listUnknownWrites(client, writes);
    const isNews = this.known === undefined || this.known.generation === facts.generation;
    const certain = change ?? (isNews && lost.length > 0 ? `${lost.length} acknowledged writes are missing` : undefined);
    // A generation that the store has not heard of was begun because somebody knew.
    const cause = certain ?? (mark?.generation === facts.generation ? doubt?.reason : undefined);
    if (cause !== undefined && (mark === undefined || mark.generation === facts.generation)) {
      const how = certain === undefined ? 'may have' : 'has';
      this.log('warn', `the database ${how} gone back in time (${cause}): a new generation begins, and the store has to be walked`);
      await beginGeneration(client, facts.generation);
      facts = { ...(await findFacts(client)), sequence: facts.sequence };
    }
    const now = { generation: facts.generation, fingerprint: facts.fingerprint };
    if (mark === undefined || mark.generation < now.generation) await writeGeneration(this.store, now);
    if (node !== undefined) {
      await this.giveBack(client, node, writes.length, lost);
      await setNodeGeneration(client, node, facts.generation);
    }
    if (cause !== undefined || !isNews) await this.awaitOthers(client, facts.generation);
    this.known = facts;
    this.markReadAt = at;
    if (facts.sequence > this.highestSeen) this.highestSeen = facts.sequence;
    return undefined;
  }

  private async giveBack(client: Client, node: string, verified: number, lost: readonly RecentWrite[]): Promise<void> {
    let adopted = 0;
    for (const write of lost) {
      try {
        await retrying(() => adopt(client, this.store, node, write));
        adopted++;
      } catch (error) {
        // Then nothing else of it can be given back either: the database is verified once more.
        if (isConnectionLoss(error) || isUnavailable(error)) throw error;
        this.log('error', `the write with sequence ${write.sequence} could not be given back to the database`, error);
      }
    }
    if (verified > 0)
      this.log('info', `${verified} acknowledged writes of the last hour were verified, ${adopted} of them given back to the database`);
  }

  private async awaitOthers(client: Client, generation: bigint): Promise<void> {
    const deadline = performance.now() + othersMs;
    while (!this.closed && (await countUnverified(client, generation)) > 0) {
      // It may have come back under a new id meanwhile.
      const node = this.nodeId();
      if (node !== undefined) await setNodeGeneration(client, node, generation);
      if (performance.now() > deadline) return this.log('warn', 'another node has not verified its writes; going on without it');
      await pause(200);
    }
  }

  /** One at a time; whoever comes meanwhile waits for it, and looks again. */
  private async extendBlocks(end: bigint): Promise<void> {
    while (end > this.blocksEnd) {
      this.extending ??= writeBlocksEnd(this.store, end)
        .then(() => void (this.blocksEnd = max(this.blocksEnd, end)))
        .finally(() => (this.extending = undefined));
      await this.extending;
    }
  }
}

/** Somebody's lock may be in the way; a newer write is for good. */
async function retrying(act: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!isTransient(error) || sqlStateOf(error) === sqlState.startAgain || attempt >= mostAttempts) throw error;
    }
  }
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms).unref());
}
