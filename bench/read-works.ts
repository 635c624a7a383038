// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mebibyte } from './content.js';
import { makeImage, pushImage } from './push.js';
import { fill } from './timing.js';
import type { Target } from './measure.js';
import type { Scale, Work } from './works.js';

const connections = 64;
export const readImage = makeImage([1024, mebibyte]);

/** One GET over and over, 64 connections, after the image and a hundred tags were pushed. */
export function readWork(name: string, path: string, { load, seconds }: Scale): Work {
  const filled = new WeakSet<Target>();
  return {
    name,
    unit: 'request',
    heavy: false,
    async prepare(target) {
      const { address } = target;
      if (!filled.has(target)) {
        await fill(target, { count: 100, width: 1 }, (connection, index) =>
          pushImage(connection, 'bench/read', index === 0 ? 'latest' : `t${index}`, readImage),
        );
        filled.add(target);
      }
      const request = { address, path: `/v2/bench/read${path}`, connections };
      await load({ ...request, seconds: 1 });
      return async () => {
        const { requests, ...result } = await load({ ...request, seconds });
        return { amount: requests, ...result };
      };
    },
  };
}
