// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { GenerationMark } from '../storage/cluster-marks.js';
import type { DatabaseFacts } from './cluster-queries.js';

/** How the database differs from the one that was verified. */
export function changeBetween(known: DatabaseFacts, facts: DatabaseFacts, highest: bigint): string | undefined {
  if (facts.unfit !== undefined) return facts.unfit;
  if (facts.fingerprint !== known.fingerprint) return `it was ${known.fingerprint} and is ${facts.fingerprint}`;
  if (facts.generation !== known.generation) return `its generation was ${known.generation} and is ${facts.generation}`;
  if (facts.startedAt !== known.startedAt) return 'its server was started anew';
  return facts.sequence < highest ? `its sequence was ${highest} and is ${facts.sequence}` : undefined;
}

/** How the database contradicts what the store, or this node, knows of it. */
export function goneBack(mark: GenerationMark, facts: DatabaseFacts, highWater: bigint, highest: bigint): string | undefined {
  if (facts.generation === mark.generation && facts.fingerprint !== mark.fingerprint)
    return `it was ${mark.fingerprint} and is ${facts.fingerprint}`;
  if (facts.sequence < highWater) return `its sequence is ${facts.sequence}, the store knows of ${highWater}`;
  return facts.sequence < highest ? `its sequence was ${highest} and is ${facts.sequence}` : undefined;
}
