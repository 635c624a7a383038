// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Uploads of more parts, and of more bytes, than a test has time for, at two nodes in turn: `npm run large-uploads -- [--store s3] [--patches 10500] [--gib 6]`.
 * Needs twice the bytes of room in TMPDIR.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { parseArgs } from 'node:util';
import { bytesOf, digestOf } from '../support/bytes.js';
import { HttpClient } from '../support/http-client.js';
import { freshDatabase } from '../support/postgres.js';
import { startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { s3Server, s3Settings, stopS3Servers } from '../support/s3-server.js';

const MiB = 1024 * 1024;
const { values } = parseArgs({
  options: {
    store: { type: 'string', default: 'filesystem' },
    patches: { type: 'string', default: '10500' },
    gib: { type: 'string', default: '6' },
  },
});

interface Member extends RunningRegistry {
  readonly client: HttpClient;
}

const members = await startMembers();
const results: string[] = [];
try {
  await manyPatches(Number(values.patches));
  await largeBlob(Number(values.gib) * 1024 * MiB);
} finally {
  for (const { client, stop } of members) {
    client.close();
    await stop().catch((error: unknown) => console.error(error));
  }
  await stopS3Servers();
}
console.log(`${results.length} passed, ${2 - results.length} failed, 0 skipped`);
process.exitCode = results.length === 2 ? 0 : 1;

async function startMembers(): Promise<readonly [Member, Member]> {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('large-');
  const storage = values.store === 's3' ? { s3: await bucket() } : {};
  const start = async (engine: string): Promise<Member> => {
    const config = { database: { url }, storage, server: { engine }, log: { level: 'warn' } };
    const registry = await startRegistry({ root, config });
    return { ...registry, client: new HttpClient(registry.port) };
  };
  return [await start('uws'), await start('node')];
}

async function bucket(): Promise<object> {
  const server = await s3Server('minio', temporaryDirectory);
  if ('missing' in server) throw new Error(server.missing);
  return s3Settings(server);
}

async function openSession(client: HttpClient, repository: string): Promise<string> {
  const { status, headers } = await client.send('POST', `/v2/${repository}/blobs/uploads/`, { body: '' });
  if (status !== 202 || headers.location === undefined) throw new Error(`POST: ${status}`);
  return headers.location;
}

/** More of them than S3 has numbers for parts. */
async function manyPatches(count: number): Promise<void> {
  const since = performance.now();
  const size = 701;
  const bytes = bytesOf(count * size, 'many');
  const session = await openSession(members[0].client, 'many');
  for (let index = 0; index < count; index++) {
    const { client } = members[index % 2] as Member;
    const answer = await client.send('PATCH', session, { body: bytes.subarray(index * size, (index + 1) * size) });
    if (answer.status !== 202 || answer.headers.range !== `0-${(index + 1) * size - 1}`) {
      throw new Error(`PATCH ${index}: ${answer.status} ${answer.headers.range} ${answer.body.toString()}`);
    }
  }
  const digest = digestOf(bytes);
  const put = await members[0].client.send('PUT', `${session}?digest=${digest}`, { body: '' });
  if (put.status !== 201) throw new Error(`PUT: ${put.status} ${put.body.toString()}`);
  const { body } = await members[1].client.send('GET', `/v2/many/blobs/${digest}`);
  if (!body.equals(bytes)) throw new Error('it is read with other bytes');
  tell(`${count} PATCHes of ${size} bytes, at two nodes in turn`, since);
}

/** In three PATCHes, at the one node, the other, and the one again; the PUT at the other. */
async function largeBlob(size: number): Promise<void> {
  const since = performance.now();
  const hash = createHash('sha256');
  const session = await openSession(members[0].client, 'large');
  const third = Math.floor(size / 3 / MiB) * MiB + 12_345;
  for (const [index, length] of [third, third, size - 2 * third].entries()) {
    const { request, answer } = (members[index % 2] as Member).client.open('PATCH', session, { 'Content-Length': String(length) });
    for (let sent = 0; sent < length;) {
      const piece = bytesOf(Math.min(MiB, length - sent), `${index} ${sent}`);
      hash.update(piece);
      sent += piece.byteLength;
      if (!request.write(piece)) await once(request, 'drain');
    }
    request.end();
    const { status, body } = await answer;
    if (status !== 202) throw new Error(`PATCH: ${status} ${body.toString()}`);
  }
  const digest = `sha256:${hash.digest('hex')}`;
  const put = await members[1].client.send('PUT', `${session}?digest=${digest}`, { body: '' });
  if (put.status !== 201) throw new Error(`PUT: ${put.status} ${put.body.toString()}`);
  tell(`a blob of ${size} bytes pushed in three PATCHes, at two nodes in turn`, since, false);
  const pulled = performance.now();
  const read = await digestOfBlob(`${members[0].url}/v2/large/blobs/${digest}`);
  if (read !== digest) throw new Error(`it is read with the digest ${read}`);
  tell('and pulled with the same digest', pulled);
}

async function digestOfBlob(url: string): Promise<string> {
  const [response] = (await once(get(url), 'response')) as [AsyncIterable<Buffer> & { statusCode?: number }];
  if (response.statusCode !== 200) throw new Error(`GET: ${response.statusCode}`);
  const hash = createHash('sha256');
  for await (const piece of response) hash.update(piece);
  return `sha256:${hash.digest('hex')}`;
}

function tell(what: string, since: number, isResult = true): void {
  const seconds = Math.round((performance.now() - since) / 1000);
  const peaks = members.map(
    ({ pid }) => `${Math.round(Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024)} MiB`,
  );
  const line = `${values.store}: ${what}: ${seconds} s, peak memory of the nodes ${peaks.join(' and ')}`;
  console.log(line);
  if (isResult) results.push(line);
}
