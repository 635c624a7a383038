// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { atExit } from '../test/support/command.js';
import { type RunningRegistry, startRegistry } from '../test/support/registry.js';
import type { ServerKind } from './launches.js';
import type { Address } from './wire.js';

/** A server under measurement, on a free loopback port, with a directory of its own that goes when it stops. */
export class Server {
  readonly name: string;
  readonly directory: string;
  readonly #kind: ServerKind;
  #process: RunningRegistry | undefined;

  private constructor(name: string, place: string, kind: ServerKind) {
    this.name = name;
    this.directory = mkdtempSync(join(place, 'ha-registry-bench-'));
    this.#kind = kind;
    atExit(() => this.#removeData());
  }

  /** Starts a server whose data lie in a new directory below `place`; resolves when it answers. */
  static async start(name: string, place: string, kind: ServerKind): Promise<Server> {
    const server = new Server(name, place, kind);
    await server.#run();
    return server;
  }

  get address(): Address {
    return { host: '127.0.0.1', port: this.#process?.port ?? 0 };
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  /** What it wrote last to standard output and error. */
  lastWords(): string {
    return this.#process?.log().slice(-1000) ?? '';
  }

  /** Stops the server and starts it again with no data. */
  async renew(): Promise<void> {
    await this.stop();
    mkdirSync(this.directory);
    await this.#run();
  }

  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
    this.#removeData();
  }

  async #run(): Promise<void> {
    this.#process = await startRegistry({ root: this.directory, launch: this.#kind.launch, readyPath: this.#kind.readyPath });
  }

  #removeData(): void {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
