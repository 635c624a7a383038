// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import type { TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import type { Handler } from '../../src/http/contract.js';
import { eventually, makeCertificates, start, type Stage } from './engine-stage.js';
import { HashSink, noise, ReusedBufferSource, sha256 } from './sinks.js';
import { Wire } from './wire.js';

export async function tlsSuite(t: Test, stage: Stage): Promise<void> {
  const files = makeCertificates(t);
  if (files === undefined) {
    t.comment('NOT TESTED: TLS, as there is no openssl to make certificates with');
    return;
  }
  const { certificateFile, keyFile, clientCaFile } = files;
  const content = noise(20_000_003);

  await t.test('requests, uploads and downloads over TLS', async (t) => {
    const sources: ReusedBufferSource[] = [];
    const handler: Handler = async ({ method, body, remoteAddress, clientCertificate }) => {
      if (method === 'PUT') {
        const sink = new HashSink(3_000_000);
        await body.pipe(sink);
        return { status: 201, body: sink.digest() };
      }
      if (method === 'POST') return { status: 200, body: `${remoteAddress} ${clientCertificate}` };
      const source = new ReusedBufferSource(content, 1024 * 1024);
      sources.push(source);
      return { status: 200, body: { length: content.length, open: () => Promise.resolve(source) } };
    };
    const { open, errors } = await start(t, stage, handler, { tls: { certificateFile, keyFile } });
    const wire = await open();
    for (let round = 0; round < 2; round++) {
      await wire.request('POST /');
      t.equal(String((await wire.response())?.body), '127.0.0.1 undefined');
      await wire.request('PUT /', [`Content-Length: ${content.length}`], content);
      t.equal(String((await wire.response())?.body), sha256(content));
      await wire.request('GET /');
      t.equal(sha256((await wire.response())?.body ?? Buffer.alloc(0)), sha256(content));
    }
    await eventually(() => sources.every(({ closes }) => closes > 0));
    t.same(
      sources.map(({ closes }) => closes),
      [1, 1],
    );
    t.same(errors, []);
  });

  await t.test('client certificates are asked for, not required, and verified', async (t) => {
    const { server, open } = await start(t, stage, showCertificate, { tls: { certificateFile, keyFile, clientCaFile } });
    t.equal(await ask(await open()), 'none');
    const { client, stranger } = files;
    const shown = await ask(await Wire.open(server.port, await identity(client)));
    t.equal(new X509Certificate(shown).subject, 'CN=alice');
    const refused = await Wire.open(server.port, await identity(stranger)).then(ask, () => 'undefined');
    t.equal(refused, 'undefined', 'a certificate of another authority is no anonymous client');
  });

  await t.test('certificates are renewed while everything goes on', async (t) => {
    const { server, open, errors } = await start(t, stage, takeOrTell, { tls: { certificateFile, keyFile } });
    const [idle, upload] = [await open(), await open()];
    const half = content.length / 2;
    await upload.request('PUT /', [`Content-Length: ${content.length}`], content.subarray(0, half));
    await t.rejects(server.renewTls({ ...files.renewed, keyFile }), /does not belong/, 'half of a pair is not taken');
    t.equal(nameOf(await open()), 'localhost', 'and changes nothing');

    const renewal = { isOver: false };
    const outcomes: string[] = [];
    const knock = async (): Promise<void> => {
      while (!renewal.isOver) {
        const wire = await Wire.open(server.port, {});
        outcomes.push(await ask(wire));
      }
    };
    const knocking = [knock(), knock(), knock(), knock()];
    for (let round = 0; round < 10; round++) {
      await server.renewTls({ certificateFile, keyFile });
      await server.renewTls(files.renewed);
      await eventually(() => outcomes.length > 4 * round);
    }
    renewal.isOver = true;
    await Promise.all(knocking);
    t.ok(outcomes.length > 30, `${outcomes.length} connections meanwhile`);
    t.same([...new Set(outcomes)], ['none'], 'none is refused or reset');
    t.equal(nameOf(await open()), 'renewed', 'new connections see the new one');
    t.same([nameOf(idle), await ask(idle)], ['localhost', 'none'], 'a connection that was there goes on');
    await upload.send(content.subarray(half));
    t.equal(String((await upload.response())?.body), sha256(content), 'and so does an upload');

    await server.renewTls({ ...files.renewed, clientCaFile });
    const client = await identity(files.client);
    t.equal(await ask(await Wire.open(server.port, client)), 'some', 'clients may be asked for certificates from now on');
    await server.renewTls({ ...files.renewed, clientCaFile: files.stranger.certificateFile });
    t.not(await Wire.open(server.port, client).then(ask, () => 'refused'), 'some', 'of another authority');
    await server.renewTls(files.renewed);
    t.equal(await ask(await Wire.open(server.port, client)), 'none', 'and no more');
    t.same(errors, []);
  });

  await t.test('a session that is resumed has the certificate that it began with', async (t) => {
    const { server } = await start(t, stage, showCertificate, { tls: { certificateFile, keyFile, clientCaFile } });
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const client = { ...(await identity(files.client)), maxVersion };
      const first = await Wire.open(server.port, client);
      await first.request('GET /');
      const shown = String((await first.response())?.body);
      const session = (first.socket as TLSSocket).getSession();
      const again = await Wire.open(server.port, { ...client, ...(session === undefined ? {} : { session }) });
      t.ok((again.socket as TLSSocket).isSessionReused(), maxVersion);
      t.equal(await ask(again), shown);
      first.socket.destroy();
    }
  });

  await t.test('limits hold on TLS', async (t) => {
    const { open } = await start(t, stage, () => ({ status: 200, body: 'ok' }), { tls: { certificateFile, keyFile }, maxConnections: 1 });
    const first = await open();
    const second = await open().catch(() => undefined);
    await second?.request('GET /');
    t.ok([503, undefined].includes((await second?.response())?.status));
    await second?.closed;
    await first.request('GET /');
    t.equal((await first.response())?.status, 200);
  });

  await t.test('files that are no good are told by name', async (t) => {
    const broken = `${keyFile}.broken`;
    await writeFile(broken, '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n');
    const startWith = (tls: { certificateFile: string; keyFile: string; clientCaFile?: string }): Promise<unknown> =>
      start(t, stage, () => ({ status: 200 }), { tls });
    await t.rejects(startWith({ certificateFile: '/nowhere.crt', keyFile }), /certificate \/nowhere.crt.*ENOENT/);
    await t.rejects(startWith({ certificateFile, keyFile: broken }), /key .*broken can't be used/);
    await t.rejects(startWith({ certificateFile: broken, keyFile }), /certificate .*broken can't be used/);
    await t.rejects(startWith({ certificateFile, keyFile: files.client.keyFile }), /does not belong/);
    await t.rejects(startWith({ certificateFile, keyFile, clientCaFile: '/nowhere.ca' }), /client CA \/nowhere.ca/);
  });
}

const takeOrTell: Handler = async ({ method, body, clientCertificate }) => {
  if (method === 'GET') return { status: 200, body: clientCertificate === undefined ? 'none' : 'some' };
  const sink = new HashSink(3_000_000);
  await body.pipe(sink);
  return { status: 201, body: sink.digest() };
};

const showCertificate: Handler = async ({ clientCertificate }) => {
  await new Promise(setImmediate);
  return { status: 200, body: clientCertificate ?? 'none' };
};

function nameOf({ socket }: Wire): string {
  return String((socket as TLSSocket).getPeerCertificate().subject?.CN);
}

async function ask(wire: Wire): Promise<string> {
  await wire.request('GET /');
  const response = await wire.response();
  wire.socket.destroy();
  return String(response?.body);
}

async function identity(files: { certificateFile: string; keyFile: string }): Promise<{ cert: Buffer; key: Buffer }> {
  return { cert: await readFile(files.certificateFile), key: await readFile(files.keyFile) };
}
