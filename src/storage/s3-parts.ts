// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { PartRule } from './blob-store.js';

const MiB = 1024 * 1024;

/** S3's own limits. */
const smallestPartBytes = 5 * MiB;
const largestPartBytes = 5 * 1024 * MiB;
const mostParts = 10_000;
/** So many parts of one size, then twice the size: 8 MiB for the first 8 GiB of a blob, and with the 10,000th it could have 7.8 TiB; S3 takes 5. */
const partsOfOneSize = 1_000;

export function partRule({ partSizeBytes, equalParts }: { readonly partSizeBytes: number; readonly equalParts: boolean }): PartRule {
  return {
    numbered: true,
    smallestBytes: equalParts ? partSizeBytes : smallestPartBytes,
    equal: equalParts,
    most: mostParts,
    wantedBytes(number) {
      if (equalParts) return partSizeBytes;
      return Math.min(largestPartBytes, partSizeBytes * 2 ** Math.floor((number - 1) / partsOfOneSize));
    },
  };
}
