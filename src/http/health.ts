// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Reply } from './contract.js';

/** What the probes are told. */
export interface Health {
  /** Resolves when the node can serve; rejects with the reason when not. */
  check(): Promise<void>;
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

/** The node serves: it is not draining, and its database answers. */
export async function getReadyz(health: Health): Promise<Reply> {
  try {
    await health.check();
    return { status: 200, headers: json, body: '{"status":"ready"}' };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { status: 503, headers: { ...json, 'Retry-After': '2' }, body: JSON.stringify({ status: 'not ready', reason }) };
  }
}
