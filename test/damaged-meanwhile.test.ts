// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { openPlace } from './gc/place.js';
import { bytesOf, digestOf, pushBlob } from './support/wire-suite.js';

void t.test('an upload keeps its bytes when those that it would share are found damaged before it is committed', async (t) => {
  const place = await openPlace(t);
  const { client, sql, store } = place;
  const bytes = bytesOf(70_000, 'meanwhile');
  await pushBlob(client, 'one', bytes);
  const hold = place.hold('write.prepared');
  const push = pushBlob(client, 'two', bytes);
  await hold.reached;
  const [data] = await sql<{ key: string }>(
    `SELECT data_key(b.uuid) AS key, mark_damaged(n.id, b.digest, b.uuid, 'lost') FROM blobs b, nodes n`,
  );
  await store.delete([data?.key ?? '']);
  hold.release();
  await push;
  const pull = await client.send('GET', `/v2/two/blobs/${digestOf(bytes)}`);
  t.ok(pull.body.equals(bytes), 'what was acknowledged is read');
});
