// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { rmSync } from 'node:fs';
import { mkdtemp, readFile, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { atExit, run, spawnTracked } from './support/command.js';
import { errorCode, HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { freePort, temporaryDirectory } from './support/registry.js';
import {
  bytesOf,
  dataObjects,
  digestOf,
  engines,
  imageOf,
  imageWithBlobs,
  openSession,
  pushBlob,
  putManifest,
  startWireNode,
  stopWireNode,
  until,
  withDigest,
  type Engine,
} from './support/wire-suite.js';

const small = await smallDisk();
const noDisk = small === undefined && 'A FULL DISK IS NOT TESTED: mounting a tmpfs needs root and mount(8)';
if (noDisk) console.error(noDisk);
const certificate = await selfSigned();
const noCertificate = certificate === undefined && 'TLS IS NOT TESTED: there is no openssl(1)';
if (noCertificate) console.error(noCertificate);

t.jobs = 2;
for (const engine of engines) void t.test(`${engine}: a full disk`, { skip: noDisk, buffered: true }, (t) => fullDisk(t, engine));
for (const engine of engines) void t.test(`${engine}: TLS`, { skip: noCertificate, buffered: true }, (t) => overTls(t, engine));

async function fullDisk(t: Test, engine: Engine): Promise<void> {
  const root = await smallDisk();
  if (root === undefined) throw new Error('it could be mounted before');
  const node = await startWireNode(engine, { log: { level: 'silent' } }, { root });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const image = await imageWithBlobs(client, 'full', ['layer']);
  await putManifest(client, 'full', 'v1', image);
  const kept = await pushBlob(client, 'full', bytesOf(100_000, 'kept'));
  let objects = (await dataObjects(node)).size;
  const readsGoOn = async () => {
    t.equal((await client.send('GET', `/v2/full/blobs/${kept}`)).status, 200, 'blobs are read');
    t.equal((await client.send('GET', '/v2/full/manifests/v1')).status, 200, 'and manifests');
  };
  const recovers = async (what: string) => {
    await until(`${what}: what it has written is gone`, async () => (await dataObjects(node)).size === objects, 20_000).then(
      () => t.pass(`${what}: what it has written is gone`),
      (error: Error) => t.fail(error.message),
    );
    const bytes = bytesOf(500_000, what);
    const answer = await client.send('POST', `/v2/full/blobs/uploads/?digest=${digestOf(bytes)}`, { body: bytes });
    t.equal(answer.status, 201, `${what}: and the next push succeeds`);
    objects++;
  };
  const tooMuch = bytesOf(14_000_000, 'too much');
  const digest = digestOf(tooMuch);
  for (const [form, chunked] of [
    ['POST', false],
    ['PATCH', true],
    ['PUT', false],
  ] as const) {
    const what = `${form}${chunked ? ', chunked' : ''}`;
    const session = form === 'POST' ? `/v2/full/blobs/uploads/?digest=${digest}` : await openSession(client, 'full');
    const answer = await client.send(form, form === 'PUT' ? withDigest(session, digest) : session, { body: tooMuch, chunked });
    t.strictSame([answer.status, errorCode(answer)], [507, 'INSUFFICIENT_STORAGE'], `${what}: past the end of the disk`);
    await readsGoOn();
    await recovers(what);
    if (t.counts.fail > 0) return;
  }

  const stone = path.join(root, 'stone');
  await fill(stone, root);
  for (const [what, send] of [
    ['a small blob', () => client.send('POST', `/v2/full/blobs/uploads/?digest=${digestOf('small')}`, { body: 'small' })],
    ['a manifest', () => putManifest(client, 'full', 'v2', imageOf(['layer'], { annotations: { a: 'x'.repeat(20_000) } }))],
  ] as const) {
    const answer = await send();
    t.strictSame([answer.status, errorCode(answer)], [507, 'INSUFFICIENT_STORAGE'], `${what} on a full disk`);
    await readsGoOn();
  }
  rmSync(stone);
  t.equal(
    (await client.send('POST', `/v2/full/blobs/uploads/?digest=${digestOf('small')}`, { body: 'small' })).status,
    201,
    'with room again, a blob',
  );
  const again = imageOf(['layer'], { annotations: { a: 'x'.repeat(20_000) } });
  t.equal((await putManifest(client, 'full', 'v2', again)).status, 201, 'and a manifest');
  t.equal((await client.send('GET', '/v2/full/manifests/v2')).body.toString(), again, 'are stored');
}

/** To the last byte, and the last page of a directory. */
async function fill(file: string, root: string): Promise<void> {
  for (;;) {
    const { bavail, bsize } = await statfs(root);
    if (bavail === 0) return;
    await writeFile(file, Buffer.alloc(bavail * bsize), { flag: 'a' });
  }
}

/** A tmpfs of 10 MB; undefined where none can be mounted. */
async function smallDisk(): Promise<string | undefined> {
  const directory = await mkdtemp(path.join(tmpdir(), 'ha-registry-small-disk-'));
  const remove = () => rmSync(directory, { recursive: true, force: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=10m', 'tmpfs', directory], { stdio: 'ignore' });
    atExit(() => {
      execFileSync('umount', ['-l', directory], { stdio: 'ignore' });
      remove();
    });
    return directory;
  } catch {
    remove();
    return undefined;
  }
}

interface Certificate {
  readonly certificateFile: string;
  readonly keyFile: string;
}

async function selfSigned(): Promise<Certificate | undefined> {
  const directory = await temporaryDirectory('tls-');
  const [certificateFile, keyFile] = [path.join(directory, 'certificate.pem'), path.join(directory, 'key.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
  try {
    await run('openssl', ['req', '-x509', '-days', '2', ...key, ...subject, '-out', certificateFile]);
    return { certificateFile, keyFile };
  } catch {
    return undefined;
  }
}

async function overTls(t: Test, engine: Engine): Promise<void> {
  if (certificate === undefined) throw new Error('there was one before');
  const port = await startSecure(t, engine, certificate);
  const client = new HttpClient(port, await readFile(certificate.certificateFile, 'utf8'));
  const layer = bytesOf(5_000_000, 'tls');
  const image = await imageWithBlobs(client, 'secure', [layer, 'small']);
  t.equal((await putManifest(client, 'secure', 'v1', image)).status, 201, 'pushed');
  t.equal((await client.send('GET', '/v2/secure/manifests/v1')).body.toString(), image, 'pulled');
  t.ok((await client.send('GET', `/v2/secure/blobs/${digestOf(layer)}`)).body.equals(layer), 'with its layer, byte for byte');
  const session = await openSession(client, 'secure');
  const patched = await client.send('PATCH', session, { body: layer.subarray(0, 1_000_000), chunked: true });
  t.equal(patched.headers.range, '0-999999', 'a chunk');
  const put = await client.send('PUT', withDigest(session, digestOf(layer, 'sha512')), { body: layer.subarray(1_000_000) });
  t.equal(put.status, 201, 'and the rest');
  const ranges = await client.send('GET', `/v2/secure/blobs/${digestOf(layer)}`, { headers: { Range: 'bytes=5-9,0-2000000' } });
  t.equal(ranges.status, 206, 'ranges');
  t.ok(ranges.body.includes(layer.subarray(0, 2_000_001)), 'of right bytes');
  const plain = new HttpClient(port);
  await t.rejects(plain.send('GET', '/v2/'), 'no plain text is answered');
  for (const each of [client, plain]) each.close();
}

/** Over TLS nobody can ask whether it is ready before the certificate is known, so its log tells. */
async function startSecure(t: Test, engine: Engine, { certificateFile, keyFile }: Certificate): Promise<number> {
  const directory = await temporaryDirectory('secure-');
  const port = await freePort();
  const config = path.join(directory, 'registry.yaml');
  const { url } = await freshDatabase();
  const server = { engine, tls: { server_certificate_bundle: certificateFile, server_private_key: keyFile } };
  await writeFile(config, JSON.stringify({ server, database: { url }, workers: { threads: 2 } }));
  const main = path.resolve(import.meta.dirname, '../dist/main.js');
  const args = [main, 'serve', '--config', config, '--root', directory, '-p', String(port)];
  const child = spawnTracked(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => (log += piece.toString()));
  t.teardown(async () => {
    child.kill('SIGTERM');
    await until('it has stopped', () => child.exitCode !== null);
  });
  await until(`it listens\n${log}`, () => {
    if (child.exitCode !== null) throw new Error(`it has ended\n${log}`);
    return log.includes(`listening on https://127.0.0.1:${port}`);
  });
  return port;
}
