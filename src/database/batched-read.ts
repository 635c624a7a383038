// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who wants to know of batches. */
export interface BatchWatch {
  /** A batch begins. */
  began(keys: number): void;
  /** Only while traces are taken: goes around each look-up. */
  readonly around?: (<T>(find: () => Promise<T>) => Promise<T>) | undefined;
}

/** By the name of the read. */
export type WatchBatches = (read: string) => BatchWatch;

/** Answers a key of a batch that failed, or rejects with that failure. */
export type Elsewhere<Key, Value> = (key: Key, failure: unknown) => Promise<Value>;

/**
 * Reads that are asked in the same turn of the event loop share one query. A batch always begins after its requests arrived, so an answer is
 * never older than its question: no cache, and every node reads what any node wrote.
 */
export class BatchedRead<Key, Value> {
  private waiting: { key: Key; resolve: (value: Value) => void; reject: (error: unknown) => void }[] = [];
  private inFlight = 0;
  private scheduled = false;
  private readonly run: (keys: readonly Key[]) => Promise<readonly Value[]>;
  private readonly watch: BatchWatch | undefined;
  private readonly elsewhere: Elsewhere<Key, Value>;

  /** `run` answers every key at its own index. */
  constructor(
    run: (keys: readonly Key[]) => Promise<readonly Value[]>,
    watch?: BatchWatch,
    elsewhere: Elsewhere<Key, Value> = (_key, failure) => Promise.reject(failure),
  ) {
    this.run = run;
    this.elsewhere = elsewhere;
    this.watch = watch;
  }

  find(key: Key): Promise<Value> {
    const around = this.watch?.around;
    return around === undefined ? this.ask(key) : around(() => this.ask(key));
  }

  private ask(key: Key): Promise<Value> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ key, resolve, reject });
      this.schedule();
    });
  }

  private schedule(): void {
    if (this.scheduled || this.inFlight >= batchesInFlight || (this.inFlight > 0 && this.waiting.length < worthASecond)) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      void this.flush();
    });
  }

  private async flush(): Promise<void> {
    const batch = this.waiting.splice(0, largestBatch);
    this.inFlight++;
    this.watch?.began(batch.length);
    try {
      const values = await this.run(batch.map(({ key }) => key));
      for (let index = 0; index < batch.length; index++) batch[index]?.resolve(values[index] as Value);
    } catch (error) {
      for (const { key, resolve, reject } of batch) this.elsewhere(key, error).then(resolve, reject);
    } finally {
      this.inFlight--;
      if (this.waiting.length > 0) this.schedule();
    }
  }
}

/** Two: one is parsed here while the other is executed there. More would only make them smaller. */
const batchesInFlight = 2;
/**
 * While one is on its way, so many must wait before another follows it: otherwise the first few of a burst go alone, and what a batch costs (a wake-up of Postgres
 * above all) is paid for them.
 */
const worthASecond = 16;
/** Bounds the time of one query; a burst beyond it simply makes the next batch. */
const largestBatch = 256;
