// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Serve, SetReceiveBuffer } from '../contract.js';
import { nodeServe } from './node-server.js';
import { loadUws } from './uws-server.js';

export interface Engine {
  readonly engine: 'uws' | 'node';
  readonly serve: Serve;
  /** Why `auto` did not take uWS: one line for the log. */
  readonly reason?: string;
}

/**
 * `auto` is uWS where its binary loads and `setReceiveBuffer` is there (without it a fast sender is buffered by megabytes before a pause works),
 * otherwise node. `uws` that does not load is an error.
 */
export async function chooseEngine(wanted: 'auto' | 'uws' | 'node', setReceiveBuffer?: SetReceiveBuffer): Promise<Engine> {
  const node = nodeServe(setReceiveBuffer);
  if (wanted === 'node') return { engine: 'node', serve: node };
  if (wanted === 'auto' && setReceiveBuffer === undefined) {
    return { engine: 'node', serve: node, reason: 'uWebSockets.js needs the native addon to bound its buffers' };
  }
  const uws = await loadUws(setReceiveBuffer);
  if (typeof uws === 'function') return { engine: 'uws', serve: uws };
  if (wanted === 'auto') return { engine: 'node', serve: node, reason: `uWebSockets.js does not load: ${uws.reason}` };
  throw new Error(`server.engine is uws, but uWebSockets.js does not load: ${uws.reason}`);
}
