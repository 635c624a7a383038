// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';

/** A connection to the embedded database of a node that runs on this data directory, through its socket; the caller ends it. */
export async function connectEmbedded(root: string): Promise<Client> {
  // The fifth line is the socket's directory.
  const [, , , , host = ''] = (await readFile(path.join(root, 'postgres/cluster/postmaster.pid'), 'utf8')).split('\n');
  const client = new Client({ host, port: 5432, user: 'ha_registry', database: 'ha_registry' });
  await client.connect();
  return client;
}
