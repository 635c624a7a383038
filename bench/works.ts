// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The work that `run.ts` gives to every registry. */
import { contentsOf, gibibyte, mebibyte } from './content.js';
import { type LoadClient, loadWithSockets } from './load-client.js';
import type { Outcome, Target } from './measure.js';
import { bigPullWork, blobPushWork, imagePushWork, mountWork } from './push-works.js';
import { readImage, readWork } from './read-works.js';

export interface Work {
  readonly name: string;
  readonly unit: 'request' | 'byte';
  /** Writes so much that a registry started here gets an empty directory for each round. */
  readonly heavy: boolean;
  /** Everything that comes before the clock, with the warm-up; gives what is to be measured. */
  prepare(target: Target): Promise<() => Promise<Outcome>>;
}

export interface Scale {
  readonly load: LoadClient;
  /** For bodies of a megabyte. */
  readonly bodyLoad: LoadClient;
  readonly seconds: number;
  readonly bigBlobBytes: number;
  readonly parallelPushes: number;
  readonly parallelBlobBytes: number;
  readonly smallPushes: number;
}

export function listWorks(scale: Scale): Work[] {
  const bigBlobs = contentsOf(scale.bigBlobBytes);
  const { config, layers, manifest } = readImage;
  const [kilobyte = config, megabyte = config] = layers;
  return [
    readWork('manifest-by-tag', '/manifests/latest', scale),
    readWork('manifest-by-digest', `/manifests/${manifest.digest}`, scale),
    readWork('manifest-head', '/manifests/latest', { ...scale, load: loadWithSockets('HEAD') }),
    readWork('tags-list', '/tags/list', scale),
    readWork('blob-1k', `/blobs/${kilobyte.digest}`, scale),
    readWork('blob-1m', `/blobs/${megabyte.digest}`, { ...scale, load: scale.bodyLoad }),
    blobPushWork('big-push-put', 'put', scale.bigBlobBytes, 1, bigBlobs),
    blobPushWork('big-push-patch', 'patch', scale.bigBlobBytes, 1, bigBlobs),
    bigPullWork(scale.bigBlobBytes, bigBlobs),
    blobPushWork('parallel-pushes', 'put', scale.parallelBlobBytes, scale.parallelPushes, contentsOf(scale.parallelBlobBytes)),
    imagePushWork(scale.smallPushes),
    mountWork(scale.smallPushes),
  ];
}

export const fullScale = { seconds: 5, bigBlobBytes: gibibyte, parallelPushes: 32, parallelBlobBytes: 100 * mebibyte, smallPushes: 1000 };
export const quickScale = {
  seconds: 2,
  bigBlobBytes: 64 * mebibyte,
  parallelPushes: 8,
  parallelBlobBytes: 16 * mebibyte,
  smallPushes: 100,
};
