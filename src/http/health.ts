// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Reply } from './contract.js';

/** What the probes are told. */
export interface Health {
  /** True from the first sign that the node is to end. */
  readonly draining: boolean;
  /** The database cannot be asked, so nothing but pulls is served. */
  readonly degraded: boolean;
  /** The store that answers is not the one that it was, so not even pulls are served. */
  readonly storeLost: boolean;
}

const json = { 'Content-Type': 'application/json' };

/** end-1: GET /v2/. */
export function getBase(): Reply {
  return { status: 200, headers: { ...json, 'Docker-Distribution-API-Version': 'registry/2.0' }, body: '{}' };
}

/** The process answers. */
export function getLivez(): Reply {
  return { status: 200, headers: json, body: '{"status":"alive"}' };
}

/** The node serves. One that has lost its database is ready all the same, since it serves pulls. Anybody may ask, so where the database is, and what it said, stays in the log. */
export function getReadyz({ draining, degraded, storeLost }: Health): Reply {
  if (draining || storeLost) {
    const reason = draining ? 'draining' : 'the store is not there, or another';
    return { status: 503, headers: { ...json, 'Retry-After': '2' }, body: JSON.stringify({ status: 'not ready', reason }) };
  }
  return {
    status: 200,
    headers: json,
    body: degraded ? '{"status":"degraded","reason":"the database is away, or cannot be used"}' : '{"status":"ready"}',
  };
}
