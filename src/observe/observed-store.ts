// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Appending, BlobStore, DataWriter } from '../storage/blob-store.js';
import { operationSeconds, type Counter, type Histogram, type Metrics } from './metrics.js';
import type { Tracer } from './tracer.js';

interface Operation {
  readonly name: string;
  readonly seconds: Histogram;
  readonly ok: Counter;
  readonly failed: Counter;
}

/** The same store, with every operation of it and of its writers timed; whatever method it has, so also those that only one kind of store has. */
export function observeStore(store: BlobStore, metrics: Metrics, tracer: Tracer | undefined): BlobStore {
  const labels = ['store', 'operation'];
  const seconds = metrics.histogram('registry_store_operation_seconds', 'Time of operations of the blob store.', labels, operationSeconds);
  const total = metrics.counter(
    'registry_store_operations_total',
    'Operations of the blob store; a write that failed because the disk is full is an error, too.',
    [...labels, 'result'],
  );
  const operations = new Map<string, Operation>();
  const operationOf = (name: string): Operation => {
    let operation = operations.get(name);
    if (operation === undefined) {
      const of = [store.kind, name] as const;
      operation = { name, seconds: seconds.with(...of), ok: total.with(...of, 'ok'), failed: total.with(...of, 'error') };
      operations.set(name, operation);
    }
    return operation;
  };
  const attributes = { 'registry.store': store.kind };
  const run = <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const operation = operationOf(name);
    return timed(operation, tracer === undefined ? work : () => tracer.span(`store ${name}`, attributes, work));
  };
  const observeWriter = (writer: DataWriter): DataWriter => observeMethods(writer, run);
  return observeMethods(store, async (name, work) => {
    const result = await run(name, work);
    return name === 'write' ? (observeWriter(result as DataWriter) as typeof result) : result;
  });
}

type Run = <T>(name: string, work: () => Promise<T>) => Promise<T>;

/** A part is timed until it is stored. Methods that return something else than promises are left as they are, and so are values. */
function observeMethods<Target extends object>(target: Target, run: Run): Target {
  const observed = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(_target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function' || typeof name !== 'string') return value;
      let method = observed.get(name);
      if (method === undefined) {
        method = (...args: unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, target, args);
          if (result instanceof Promise) return run(name, () => result as Promise<unknown>);
          return isAppending(result) ? { ...result, stored: run(name, () => result.stored) } : result;
        };
        observed.set(name, method);
      }
      return method;
    },
  });
}

function isAppending(result: unknown): result is Appending {
  return typeof result === 'object' && result !== null && 'stored' in result && result.stored instanceof Promise;
}

async function timed<T>({ seconds, ok, failed }: Operation, work: () => Promise<T>): Promise<T> {
  const since = performance.now();
  try {
    const result = await work();
    (hasFailure(result) ? failed : ok).add();
    return result;
  } catch (error) {
    failed.add();
    throw error;
  } finally {
    seconds.observe((performance.now() - since) / 1000);
  }
}

/** A part that was not stored comes back as a value, with its buffer. */
function hasFailure(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'failure' in result && result.failure !== undefined;
}
