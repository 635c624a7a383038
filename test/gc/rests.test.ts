// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Collection leaves the machine to clients: by a clock of the test's own. */
import { Pool } from 'pg';
import t from 'tap';
import { openRests } from '../../src/collector/rests.js';
import { migrate } from '../../src/database/migrate.js';
import { freshDatabase } from '../support/postgres.js';

void t.test('it rests for longer while anybody pushes', async (t) => {
  const { url } = await freshDatabase();
  await migrate(url);
  const pool = new Pool({ connectionString: url });
  t.teardown(() => pool.end());
  // The first one of all is not seen: last_value has it before it was drawn.
  await pool.query(`SELECT nextval('entry_sequence')`);
  let nowMs = 0;
  const pauses: number[] = [];
  const rest = openRests(pool, { now: () => nowMs, pause: (ms) => Promise.resolve(pauses.push(ms)) });
  await rest(10);
  nowMs += 6_000;
  await rest(10);
  await pool.query(`SELECT nextval('entry_sequence')`);
  await rest(10);
  nowMs += 4_000;
  await rest(10);
  nowMs += 2_000;
  await rest(10);
  t.strictSame(pauses, [150, 10, 150, 150, 10], 'until nobody has for five seconds');
  await pool.query(`SELECT nextval('entry_sequence')`);
  await rest(60_000);
  t.equal(pauses.at(-1), 2_000, 'but not for ever');
});
