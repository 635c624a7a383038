// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Connection, type Address } from './wire.js';

export interface Timings {
  readonly seconds: number;
  readonly latenciesMs: readonly number[];
  readonly errors: number;
}

/** Does `count` operations over `width` connections and times each; a failed one is counted, told once, and not repeated. */
export async function timeOperations(
  address: Address,
  { count, width, readBufferBytes }: { count: number; width: number; readBufferBytes?: number },
  operation: (connection: Connection, index: number) => Promise<void>,
): Promise<Timings> {
  const latenciesMs: number[] = [];
  let errors = 0;
  let next = 0;
  const lane = async () => {
    let connection = new Connection(address, readBufferBytes);
    while (next < count) {
      const index = next++;
      const start = performance.now();
      try {
        await operation(connection, index);
        latenciesMs.push(performance.now() - start);
      } catch (error) {
        if (errors++ === 0) console.error(`first error of ${address.host}:${address.port}: ${String(error)}`);
        connection.close();
        connection = new Connection(address, readBufferBytes);
      }
    }
    connection.close();
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: Math.min(width, count) }, lane));
  return { seconds: (performance.now() - start) / 1000, latenciesMs, errors };
}

/** Preparation that fails is no measurement. */
export async function fill(
  { name, address }: { name: string; address: Address },
  { count, width }: { count: number; width: number },
  operation: Parameters<typeof timeOperations>[2],
): Promise<void> {
  const { errors } = await timeOperations(address, { count, width }, operation);
  if (errors > 0) throw new Error(`${errors} of ${count} operations failed while ${name} was being filled`);
}
