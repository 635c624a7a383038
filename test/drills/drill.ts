// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the parts of a drill share: who answers, what was asked, and how it was answered. */
import type { History } from './history.js';
import type { Answer, Message } from './http-client.js';
import type { Answering } from './drilled-node.js';
import type { Random } from './random.js';

export interface Drill {
  readonly node: Answering;
  readonly history: History;
  readonly random: Random;
  /** Whatever must not be; the drill fails when there is any. */
  readonly failures: string[];
  readonly counts: { acknowledged: number; inDoubt: number; refused: number; reads: number; resumed: number };
  /** Keys of what was refused, and so must never be seen. */
  readonly refused: Set<string>;
  /** Bytes. */
  readonly largestBlob: number;
  /** Clients delete blobs of images, too. */
  readonly deletesLayers: boolean;
}

export const blobKey = (repository: string, digest: string) => `b ${repository} ${digest}`;
export const manifestKey = (repository: string, digest: string) => `m ${repository} ${digest}`;
export const tagKey = (repository: string, tag: string) => `t ${repository} ${tag}`;
export const present = 'present';

export interface Change {
  readonly key: string;
  readonly value: string;
  readonly onlyIf?: string;
}

/** Sends a request that makes these changes, all or none of them, when it is answered with `success`. */
export async function change(
  { node, history, counts }: Drill,
  changes: readonly Change[],
  success: number,
  method: string,
  target: string,
  message?: Message,
): Promise<Answer | 'in doubt'> {
  const writes = changes.map(({ key, value, onlyIf }) => history.begin(key, value, onlyIf));
  const answer = await node.request(method, target, message, (life) => history.sent(writes, life));
  if (answer === 'in doubt') counts.inDoubt++;
  else if (answer.status === success) {
    history.acknowledge(writes);
    counts.acknowledged++;
  } else history.refuse(writes);
  return answer;
}

export function describe(answer: Answer): string {
  return `${answer.status} ${answer.body.toString().slice(0, 300)}`;
}
