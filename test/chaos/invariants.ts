// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What must hold whenever nothing is under way: what clients were told is so, in the database, in the store and by the API; every byte is there and has its digest; what was
 * deleted is gone; nothing is left over.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Drill } from '../drills/drill.js';
import { absent } from '../drills/history.js';
import type { Random } from '../drills/random.js';
import type { Readings } from '../drills/read-store.js';
import type { StoredObjects } from '../drills/stored-objects.js';
import { checkView, differences, viewOfApi, viewOfStore } from '../drills/views.js';
import { rowsOf } from '../support/database-state.js';
import { takeSnapshot, viewOfSnapshot, type Snapshot } from './liveness.js';

/** A killed node is declared dead within 10 s; then what it had begun is ended. */
const endsWithinMs = 60_000;
const sampled = 60;

/** Resolves when no write is pending any more. */
export async function untilNothingPends(url: string, failures: string[]): Promise<void> {
  for (const deadline = Date.now() + endsWithinMs; ; await sleep(100)) {
    const rows = await rowsOf<{ node: string; templates: string[] }>(url, 'SELECT node, templates FROM pending_writes');
    if (rows.length === 0) return;
    if (Date.now() < deadline) continue;
    failures.push(`${rows.length} pending writes that nobody ends, such as ${JSON.stringify(rows[0])}`);
    return;
  }
}

/** Resolves when everything that is due has been deleted from the store, by whomever. */
export async function untilTrashIsEmpty(url: string, emptyTrash: () => Promise<void>, failures: string[]): Promise<void> {
  for (const deadline = Date.now() + endsWithinMs; ; await sleep(100)) {
    await emptyTrash();
    const rows = await rowsOf<{ key: string }>(
      url,
      'SELECT key FROM object_trash WHERE not_before <= clock_timestamp() AND removed_at IS NULL',
    );
    if (rows.length === 0) return;
    if (Date.now() < deadline) continue;
    failures.push(`${rows.length} objects that stay in the trash, such as ${rows[0]?.key}`);
    return;
  }
}

export interface Checked {
  readonly snapshot: Snapshot;
  /** Keys whose value could be only one. */
  readonly certain: number;
  /** Uuids of data objects that no row of the database names. */
  readonly unknownData: readonly string[];
}

/** Compares, notes what is wrong in `drill.failures`, and takes what was found for what is. `random` chooses what the API is asked for; without it, everything is pulled. */
export async function checkInvariants(
  drill: Drill,
  url: string,
  objects: StoredObjects,
  read: Readings,
  random: Random | undefined,
): Promise<Checked> {
  const { history, failures } = drill;
  const snapshot = await takeSnapshot(url);
  const view = viewOfSnapshot(snapshot);
  const certain = checkView(drill, view, 'database');
  const { view: stored, content } = await viewOfStore(objects, read);
  failures.push(...differences(view, stored, 'the database'), ...content.problems.slice(0, 8));
  failures.push(...(await unknownMissing(url, content.missing)));

  const keys = history.keys();
  const asked = random === undefined ? keys : Array.from({ length: Math.min(sampled, keys.length) }, () => random.pick(keys));
  const api = await viewOfApi(drill, true, asked);
  const expected = new Map([...view].filter(([key]) => api.has(key) || asked.includes(key)));
  failures.push(...differences(expected, api, 'the database').map((line) => line.replace('the store', 'the API')));
  for (const key of new Set([...keys, ...view.keys()])) if (!key.startsWith('r ')) history.settle(key, view.get(key) ?? absent);
  return { snapshot, certain, unknownData: await unknownData(url, objects) };
}

/** What an image lacks must be known to be missing: a client has deleted it. */
async function unknownMissing(url: string, missing: readonly string[]): Promise<string[]> {
  if (missing.length === 0) return [];
  const rows = await rowsOf<{ line: string }>(
    url,
    `SELECT r.name || '@sha256:' || encode(substr(m.manifest, 2), 'hex') || ': no link to sha256:' || encode(substr(m.digest, 2), 'hex') AS line
     FROM missing_references m JOIN repositories r ON r.id = m.repository_id WHERE m.kind = 'blob'`,
  );
  const known = new Set(rows.map(({ line }) => line));
  return missing.filter((line) => !known.has(line)).slice(0, 8);
}

/** Names are read after the listing: what is named later than listed is no leak. */
export async function unknownData(url: string, objects: StoredObjects): Promise<string[]> {
  const keys = await objects.list('data');
  const rows = await rowsOf<{ uuid: string }>(
    url,
    `SELECT data_uuid AS uuid FROM upload_sessions UNION SELECT uuid FROM blobs UNION SELECT right(key, 36)::uuid FROM object_trash WHERE key LIKE 'data/%'`,
  );
  const named = new Set(rows.map(({ uuid }) => uuid));
  return keys.map((key) => path.basename(key)).filter((uuid) => !named.has(uuid));
}

/** What neither database nor store should hold once everything is dead and gone. Uploads under way, and what tells of deletions, may be. */
export async function remainsOf(url: string, objects: StoredObjects): Promise<string[]> {
  const remains: string[] = [];
  for (const table of [
    'manifests',
    'repository_blobs',
    'blobs',
    'missing_references',
    'manifest_blobs',
    'manifest_children',
    'object_trash',
  ]) {
    const [{ count } = { count: '0' }] = await rowsOf<{ count: string }>(url, `SELECT count(*) FROM ${table}`);
    if (count !== '0') remains.push(`${count} rows in ${table}`);
  }
  const uploads = new Set((await rowsOf<{ uuid: string }>(url, 'SELECT data_uuid AS uuid FROM upload_sessions')).map(({ uuid }) => uuid));
  const data = (await objects.list('data')).filter((key) => !uploads.has(path.basename(key)));
  const entries = (await objects.list('repositories')).filter((key) => !key.includes('/_tags/') && !key.endsWith('.deleted'));
  for (const key of [...data, ...entries].slice(0, 8)) remains.push(`${key} is still in the store`);
  return remains;
}
