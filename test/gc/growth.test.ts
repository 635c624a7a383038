// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a collection reads grows with what it collects, not with its square; also where everything came at once, after plans were made for empty tables. */
import t from 'tap';
import { pushBlob, until } from '../support/wire-suite.js';
import { openPlace } from './place.js';

const links = 2_000;

void t.test('a collection of much that came at once', async (t) => {
  const place = await openPlace(t, { scrub: { enabled: false } });
  const { sql } = place;
  await pushBlob(place.client, 'before/it', 'a blob');
  await place.age('25 hours');
  // So often that every statement has its plan.
  for (let round = 0; round < 6; round++) await place.collect();
  await sql(
    `WITH r AS (INSERT INTO repositories (name) SELECT 'dead/r' || i FROM generate_series(0, 9) i RETURNING id),
          b AS (INSERT INTO blobs (digest, uuid, size) SELECT '\\x01'::bytea || sha256(i::text::bytea), gen_random_uuid(), 1000 FROM generate_series(1, $1) i RETURNING digest, uuid)
     SELECT count(*) FROM r, b`,
    [links],
  );
  await sql(
    `INSERT INTO repository_blobs (digest, uuid, repository_id, sequence, due_at)
     SELECT digest, uuid, (SELECT min(id) FROM repositories WHERE name LIKE 'dead/%') + row_number() OVER () % 10, row_number() OVER (), now() - interval '1 hour' FROM blobs`,
  );
  for (let round = 0; round < 3; round++) {
    await place.collect();
    await place.age('25 hours');
  }
  t.strictSame(await sql('SELECT key FROM object_trash'), [], 'all of it is gone');
  const readBy = (tables: string, column: string) =>
    sql<{ read: string }>(`SELECT sum(${column}) AS read FROM ${tables} WHERE schemaname = current_schema()`).then(([row]) =>
      Number(row?.read),
    );
  await until('the last of it is counted', async () => (await readBy('pg_stat_user_tables', 'n_tup_del')) >= links * 5);
  const read = (await readBy('pg_stat_user_indexes', 'idx_tup_read')) / links;
  // How soon the statistics follow depends on the machine; without them each link reads all of several indexes.
  t.ok(read < links, `${read} index entries for each link`);
});
