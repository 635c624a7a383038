// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { Pool } from 'pg';
import t from 'tap';
import { inTransaction } from '../../src/database/transaction.js';
import { freshDatabase } from '../support/postgres.js';

void t.test('a server that has vanished amid a transaction', async (t) => {
  const { url } = await freshDatabase();
  const pool = new Pool({ connectionString: url, query_timeout: 500 });
  t.teardown(() => pool.end());
  const asked: string[] = [];
  const work = inTransaction(pool, async (client) => {
    const query = client.query.bind(client) as (text: string) => Promise<unknown>;
    client.query = ((text: string) => {
      asked.push(text);
      return query(text);
    }) as typeof client.query;
    await client.query('SELECT pg_sleep(60)');
  });
  await t.rejects(work, /timeout/);
  t.strictSame(asked, ['SELECT pg_sleep(60)'], 'is not asked to roll back, which would take as long again');
  t.equal(pool.totalCount, 0, 'and its connection is not used again');
});
