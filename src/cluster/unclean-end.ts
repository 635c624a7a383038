// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What a start can see of a database that was set back while no node ran, by less than what the store was told of its sequences (a minute). Nodes that leave take their
 * row and their mark in the store with them. Those that were killed leave both: a mark without a row means that the database is from before that node. Where a row is
 * there, and the server was started later than its node was last heard, it may be an older copy of the data that was started: nothing tells, so the store is walked.
 */
import type { Client } from 'pg';
import type { BlobStore } from '../storage/blob-store.js';
import { nodeKey, nodeOf, nodesPrefix } from '../storage/keys.js';
import { endedBeforeServer, listUnknownNodes } from './cluster-queries.js';

export interface Doubt {
  readonly reason: string;
  /** Marks that have nothing more to tell once the reason was heeded. */
  readonly marks: readonly string[];
}

/** For a start while no other node lives. */
export async function findDoubt(client: Client, store: BlobStore): Promise<Doubt | undefined> {
  const marked = (await store.list(nodesPrefix)).flatMap((key) => nodeOf(key) ?? []);
  const unknown = await listUnknownNodes(client, marked);
  if (unknown.length > 0) return { reason: 'nodes that it does not know have used the store', marks: unknown.map(nodeKey) };
  if (!(await endedBeforeServer(client))) return undefined;
  return { reason: 'its server was started anew after all nodes had ended without a word', marks: [] };
}
