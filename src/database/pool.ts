// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Client, Pool, type ClientBase, type ClientConfig, type PoolClient } from 'pg';
import { isConnectionLoss, sqlStateOf } from './failures.js';
import type { Servers } from './servers.js';
import { collectorSettings, optionsOf, pooledSettings, SettingsDelivery, type SessionSettings } from './session-settings.js';
import { connectTo } from './single-client.js';

/** A pool, or one connection that holds a transaction: whatever can run a statement. */
export type Queryer = Pick<Pool, 'query'> | Pick<ClientBase, 'query'>;

/** Connections to whichever server takes writes now. */
export interface ServerPool {
  query: Pool['query'];
  connect(): Promise<PoolClient>;
  /** Connections there are, those that nobody uses, and statements that wait for one. */
  readonly totalCount: number;
  readonly idleCount: number;
  readonly waitingCount: number;
}

/** What a read needs: where it reads, and where it moves on the time of what it found. */
export interface ReadPools {
  readonly reads: Queryer;
  readonly writes: Queryer;
}

/** The pools of a node. Reads are batched, so few connections carry them; writes are kept at 16, past which locks on the nodes row cost a third. */
export interface Database {
  readonly reads: ServerPool;
  readonly writes: ServerPool;
  /** The collector's own: whatever it waits for, it waits briefly, and lets a push go first. */
  readonly collector: ServerPool;
  /** A connection of its own, for who must hold or see something on it. It passes no check; the caller ends it. */
  connectAlone(name: string, settings: SessionSettings, timeoutMs: number): Promise<Client>;
  /** Gives up all connections; new ones go to the server that takes writes now. */
  reconnect(): void;
  /** What failed on a connection of its own: when it was the server's fault, the one that takes writes is looked for. */
  suspect(error: unknown): void;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly servers: Servers;
  readonly sizes: { readonly reads: number; readonly writes: number };
  /** What next_due() adds (migrations/0021). */
  readonly gcDelayMs: number;
  /** What undo_window() reads (migrations/0026). */
  readonly undoWindows: string;
  /** Told once per connection that was lost. */
  readonly onLoss: (error: Error) => void;
  /** Looks at a new connection before anybody may use it; a rejection ends it. */
  readonly admit?: (client: ClientBase) => Promise<void>;
  /** Throws when nothing may be written now. */
  readonly checkWritable?: () => void;
}

/** Longer than any statement may take: a server that vanished without a word is given up. Who reads does not wait that long (availability.ts); this gives its connection up. */
const timeouts = {
  reads: { connectMs: 3_000, queryMs: 4_000 },
  writes: { connectMs: 10_000, queryMs: 40_000 },
  collector: { connectMs: 10_000, queryMs: 40_000 },
} as const;
/** One for what is collected logically, one for the trash. */
export const collectorConnections = 2;
/** Statements that wait for a connection of a pool that is given up get theirs within this time, or fail. */
const drainMs = 10_000;

export function openDatabase({ servers, sizes, gcDelayMs, undoWindows, onLoss, admit, checkWritable }: DatabaseOptions): Database {
  const settings = { ...pooledSettings, 'ha_registry.gc_delay': `${gcDelayMs}ms`, 'ha_registry.undo_windows': undoWindows };
  // Of one server; another may stand behind something else.
  let delivery = new SettingsDelivery();
  let closing = false;
  // While closing, what is left of the connections may be cut: that is no loss.
  const told = (error: Error): void => {
    if (!closing) onLoss(error);
  };
  const failed = (error: unknown): void => {
    if (closing || !isConnectionLoss(error)) return;
    // What became read-only is the primary no more, also where the same address now leads to another server.
    if (sqlStateOf(error) === readOnly) reconnect();
    void follow();
  };
  const follow = async (): Promise<void> => {
    if (await servers.find()) reconnect();
  };
  const open =
    (max: number, name: keyof typeof timeouts, own: SessionSettings = {}) =>
    (): Pool => {
      const wanted = { ...settings, ...own };
      const known = delivery;
      const begin = async (client: ClientBase): Promise<void> => {
        await known.confirm(client, wanted);
        await admit?.(client);
      };
      const pool = new Pool({
        max,
        Client: class extends Client {
          // A password may have been changed since the pool was opened.
          constructor(config?: ClientConfig) {
            super({ ...config, ...servers.current() });
          }
        },
        application_name: `ha-registry ${name}`,
        options: optionsOf(wanted),
        keepAlive: true,
        keepAliveInitialDelayMillis: 10_000,
        connectionTimeoutMillis: timeouts[name].connectMs,
        query_timeout: timeouts[name].queryMs,
        idleTimeoutMillis: 0,
        // The pool waits for it, whatever its type says.
        onConnect: (client) => begin(client) as unknown as undefined,
      });
      // Without these listeners a Postgres that stops would end the process.
      pool.on('error', told);
      pool.on('error', failed);
      pool.on('connect', (client) => client.on('error', told));
      return pool;
    };
  const reads = new FollowingPool(open(sizes.reads, 'reads'), failed, () => undefined);
  const writes = new FollowingPool(open(sizes.writes, 'writes'), failed, () => checkWritable?.());
  const collector = new FollowingPool(open(collectorConnections, 'collector', collectorSettings), failed, () => checkWritable?.());
  const reconnect = (): void => {
    if (closing) return;
    delivery = new SettingsDelivery();
    for (const pool of [reads, writes, collector]) pool.reopen();
  };
  return {
    reads,
    writes,
    collector,
    reconnect,
    suspect: failed,
    async connectAlone(name, own, timeoutMs) {
      try {
        const wanted = { ...settings, ...own };
        return await connectTo(servers.current(), { name, connectMs: timeoutMs, queryMs: timeoutMs, settings: wanted, delivery });
      } catch (error) {
        failed(error);
        throw error;
      }
    },
    async close() {
      closing = true;
      await Promise.allSettled([reads.end(), writes.end(), collector.end()]);
    },
  };
}

const readOnly = '25006';

/** Of the many forms of `query` the one that returns a promise. */
interface Promising {
  query(...args: readonly unknown[]): Promise<unknown>;
}

/** A pool that is replaced by another when the server changes. */
class FollowingPool implements ServerPool {
  private pool: Pool;
  private readonly open: () => Pool;
  private readonly failed: (error: unknown) => void;
  private readonly check: () => void;

  constructor(open: () => Pool, failed: (error: unknown) => void, check: () => void) {
    this.open = open;
    this.failed = failed;
    this.check = check;
    this.pool = open();
  }

  /** hot: one promise more than the pool's own. */
  query = (async (...args: Parameters<Pool['query']>): Promise<unknown> => {
    this.check();
    try {
      return await (this.pool as unknown as Promising).query(...args);
    } catch (error) {
      this.failed(error);
      throw error;
    }
  }) as unknown as Pool['query'];

  async connect(): Promise<PoolClient> {
    this.check();
    try {
      return await this.pool.connect();
    } catch (error) {
      this.failed(error);
      throw error;
    }
  }

  get totalCount(): number {
    return this.pool.totalCount;
  }

  get idleCount(): number {
    return this.pool.idleCount;
  }

  get waitingCount(): number {
    return this.pool.waitingCount;
  }

  reopen(): void {
    const old = this.pool;
    this.pool = this.open();
    void endWhenAnswered(old);
  }

  end(): Promise<void> {
    return this.pool.end();
  }
}

/** A pool that ends forgets who waits for a connection, and so it ends when nobody does. */
async function endWhenAnswered(pool: Pool): Promise<void> {
  const deadline = performance.now() + drainMs;
  while (pool.waitingCount > 0 && performance.now() < deadline) await new Promise((resolve) => void setTimeout(resolve, 50));
  await pool.end().catch(() => undefined);
}
