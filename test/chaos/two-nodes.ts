// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Two nodes on one database and one store, and a client of both: each request goes to the next that is up, as behind a balancer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DrilledNode, type Answering } from '../drills/drilled-node.js';
import type { Answer, Message } from '../drills/http-client.js';

const longestWaitMs = 2_000;

export class TwoNodes implements Answering {
  readonly nodes: readonly [DrilledNode, DrilledNode];
  private turn = 0;
  private waiting: { left: number; resolve: () => void }[] = [];

  private constructor(nodes: readonly [DrilledNode, DrilledNode]) {
    this.nodes = nodes;
  }

  static async prepare(settings: object, failures: string[], root: string): Promise<TwoNodes> {
    return new TwoNodes([await DrilledNode.prepare(settings, failures, root), await DrilledNode.prepare(settings, failures, root)]);
  }

  async request(method: string, target: string, message?: Message, onSend?: (life: number) => void): Promise<Answer | 'in doubt'> {
    for (;;) {
      const first = this.turn++ % 2;
      const node = [this.nodes[first], this.nodes[1 - first]].find((each) => each?.isUp);
      if (node === undefined) {
        await Promise.race(this.nodes.map((each) => each.untilUp()));
        continue;
      }
      this.countDown();
      const result = await node.attempt(method, target, message, onSend);
      if (result !== 'not sent') return result;
    }
  }

  /** Resolves when so many more requests are being sent, or none comes for a while. */
  async afterRequests(count: number): Promise<void> {
    await Promise.race([new Promise<void>((resolve) => this.waiting.push({ left: count, resolve })), sleep(longestWaitMs)]);
  }

  private countDown(): void {
    for (const wait of this.waiting) if (--wait.left === 0) wait.resolve();
    this.waiting = this.waiting.filter(({ left }) => left > 0);
  }
}
