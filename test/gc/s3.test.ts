// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from '../support/s3-server.js';
import { digestOf, pushBlob } from '../support/wire-suite.js';
import { interleavings } from './interleavings.js';
import { openPlace } from './place.js';

const server = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in server && `GARBAGE COLLECTION ON S3 IS NOT TESTED: ${server.missing}`;
if (missing) console.error(missing);
const onS3 = async (more: object = {}) => ({ storage: { s3: await s3Settings(server as S3Server, more) } });

interleavings(t, () => onS3(), missing);

void t.test('an address that was given out before the collection delivers after it', { skip: missing }, async (t) => {
  const place = await openPlace(t, await onS3({ redirect: true }));
  const content = 'redirected';
  const digest = await pushBlob(place.client, 'away/a', content);
  const { status, headers } = await place.client.send('GET', `/v2/away/a/blobs/${digest}`);
  t.equal(status, 307);
  await place.age('25 hours');
  await place.collect();
  t.strictSame(await place.store.list('repositories/away/'), [], 'the link is collected');
  const answer = await fetch(String(headers['location']));
  t.strictSame([answer.status, await answer.text()], [200, content], 'the bytes are there');
  t.equal((await place.client.send('GET', `/v2/away/a/blobs/${digest}`)).status, 404);
  t.equal(digestOf(content), digest);
});
