// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Test } from 'tap';
import { errorCode, exchangeRaw, jsonOf, type HttpClient } from './support/http-client.js';
import {
  digestOf,
  imageWithBlobs,
  locationOf,
  onBothEngines,
  openSession,
  pushBlob,
  putManifest,
  startWireNode,
  stopWireNode,
  types,
  type WireNode,
} from './support/wire-suite.js';

const allowedOrigin = 'https://ui.example';

onBothEngines({ server: { allowed_origins: [allowedOrigin] } }, async (t, node) => {
  const { client, engine } = node;
  await t.test('endpoints', (t) => endpoints(t, client));
  await t.test('methods', (t) => methods(t, client));
  await t.test('names', (t) => names(t, client));
  await t.test('paths that lead elsewhere', (t) => traversal(t, node));
  await t.test('headers', (t) => headers(t, node));
  await t.test('other origins', (t) => origins(t, client));
  await t.test('delete.enabled: false', (t) => deletionDisabled(t, engine));
});

async function endpoints(t: Test, client: HttpClient): Promise<void> {
  for (const url of ['/v2/', '/v2']) {
    const base = await client.send('GET', url);
    t.strictSame([base.status, base.body.toString(), base.headers['docker-distribution-api-version']], [200, '{}', 'registry/2.0'], url);
    const head = await client.send('HEAD', url);
    t.strictSame([head.status, head.body.length, head.headers['content-length']], [200, 0, '2'], `HEAD ${url}`);
  }
  for (const url of ['/livez', '/readyz']) t.equal((await client.send('GET', url)).status, 200, url);
  for (const url of [
    '/',
    '/x',
    '/v1/',
    '/v2x',
    '/V2/',
    '/v2/a',
    '/v2/a/b/c',
    '/v2/a/tags',
    '/v2/a/tags/',
    '/v2/a/tags/lists',
    '/v2/a/uploads/x',
    '/v2/_catalog/',
    '/v2/_catalog/x',
    '/v2/a/manifests/%zz',
    '/v2/a/manifests/%',
    '/v2/a/manifests/%c3%28',
    '/livez/x',
    '/favicon.ico',
  ]) {
    const answer = await client.send('GET', url);
    t.strictSame([answer.status, errorCode(answer)], [404, 'NOT_FOUND'], url);
    const head = await client.send('HEAD', url);
    t.strictSame([head.status, head.body.length, head.headers['content-length']], [404, 0, String(answer.body.length)], `HEAD ${url}`);
  }
  const image = await imageWithBlobs(client, 'v2/manifests/blobs/uploads', ['layer']);
  t.equal((await putManifest(client, 'v2/manifests/blobs/uploads', 'tags', image)).status, 201, 'a name of words that mean something');
  t.equal((await client.send('GET', '/v2/v2/manifests/blobs/uploads/manifests/tags')).body.toString(), image, 'is read');
  t.equal((await client.send('GET', '/v2/v2%2Fmanifests%2Fblobs%2Fuploads/manifests/tags')).status, 200, 'also with its slashes escaped');
  t.equal(
    (await client.send('GET', '/v2/v2/manifests/blobs/uploads/manifests/tags?ns=docker.io&x=%zz')).status,
    200,
    'queries that nobody knows',
  );
}

async function methods(t: Test, client: HttpClient): Promise<void> {
  const digest = digestOf('x');
  const session = await openSession(client, 'methods');
  for (const [url, allowed] of [
    ['/v2/', ['GET']],
    ['/livez', ['GET']],
    ['/v2/_catalog', ['GET']],
    [`/v2/methods/blobs/${digest}`, ['GET', 'DELETE']],
    ['/v2/methods/manifests/v1', ['GET', 'PUT', 'DELETE']],
    ['/v2/methods/blobs/uploads/', ['POST']],
    [session, ['GET', 'PATCH', 'PUT', 'DELETE']],
    ['/v2/methods/tags/list', ['GET']],
    [`/v2/methods/referrers/${digest}`, ['GET']],
  ] as const) {
    const expected = [...allowed, ...(allowed.includes('GET' as never) ? ['HEAD'] : []), 'OPTIONS'].sort();
    for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'PROPFIND', 'TRACE', 'LINK']) {
      if (expected.includes(method)) continue;
      const answer = await client.send(method, url, method === 'POST' || method === 'PUT' ? { body: 'x' } : {});
      t.equal(answer.status, 405, `${method} ${url}`);
      t.strictSame(String(answer.headers.allow).split(', ').sort(), expected, 'Allow');
      if (method !== 'HEAD') t.equal(errorCode(answer), 'UNSUPPORTED', 'JSON');
    }
    const options = await client.send('OPTIONS', url);
    t.strictSame([options.status, options.body.length], [204, 0], `OPTIONS ${url}`);
  }
}

async function names(t: Test, client: HttpClient): Promise<void> {
  const digest = digestOf('x');
  const good = [
    'a',
    '0',
    'a.b',
    'a_b',
    'a__b',
    'a-b',
    'a--b',
    'a---b',
    'a/b/c/d/e',
    'a'.repeat(255),
    `${'a/'.repeat(127)}b`,
    'uploads',
    'blobs/uploads',
  ];
  for (const name of good) {
    const opened = await client.send('POST', `/v2/${name}/blobs/uploads/`, { body: '' });
    t.equal(opened.status, 202, name);
    t.ok(locationOf(opened).startsWith(`/v2/${name}/blobs/uploads/`), 'Location');
  }
  const long = 'a'.repeat(255);
  const image = await imageWithBlobs(client, long, ['layer']);
  t.equal((await putManifest(client, long, 't'.repeat(128), image)).status, 201, 'the longest name and tag');
  t.equal((await client.send('GET', `/v2/${long}/manifests/${'t'.repeat(128)}`)).body.toString(), image, 'are read');

  const bad = [
    'A',
    'a___b',
    'a..b',
    'a._b',
    '-a',
    'a-',
    '.a',
    'a.',
    '_a',
    'a//b',
    'a/',
    '/a',
    '',
    'a%20b',
    'ä',
    '%C3%A4',
    'a:b',
    'a@b',
    'a/B',
    '~',
    'a%00',
    '%2e',
  ];
  const tooLong = ['a'.repeat(256), `${'a/'.repeat(128)}b`, 'a'.repeat(5000)];
  for (const name of [...bad, ...tooLong]) {
    const raw = encodeURI(name).replaceAll('%25', '%');
    for (const [method, url] of [
      ['GET', `/v2/${raw}/manifests/v1`],
      ['HEAD', `/v2/${raw}/manifests/v1`],
      ['PUT', `/v2/${raw}/manifests/v1`],
      ['GET', `/v2/${raw}/blobs/${digest}`],
      ['POST', `/v2/${raw}/blobs/uploads/`],
      ['POST', `/v2/${raw}/blobs/uploads/?mount=${digest}`],
      ['GET', `/v2/${raw}/tags/list`],
      ['GET', `/v2/${raw}/referrers/${digest}`],
      ['DELETE', `/v2/${raw}/manifests/v1`],
    ] as const) {
      const answer = await client.send(method, url, method === 'PUT' || method === 'POST' ? { body: '' } : {});
      t.equal(answer.status, 400, `${method} ${name.slice(0, 20)} ${url.slice(-30)}`);
      if (method !== 'HEAD') t.equal(errorCode(answer), 'NAME_INVALID', 'told');
    }
  }
}

async function traversal(t: Test, { client, root, port }: WireNode): Promise<void> {
  await writeFile(path.join(root, 'secret.txt'), 'the secret of this machine');
  const digest = await pushBlob(client, 'traversal/a', 'a blob');
  const ups = [
    '../',
    '..%2f',
    '..%2F',
    '%2e%2e/',
    '%2e%2e%2f',
    '%2E%2E%2F',
    '..\\',
    '..%5c',
    '.%2e/',
    '....//',
    '%252e%252e%252f',
    '..%00/',
    '%c0%ae%c0%ae/',
    '..;/',
  ];
  for (const up of ups) {
    for (const depth of [1, 3, 8]) {
      const climb = up.repeat(depth);
      for (const url of [
        `/${climb}secret.txt`,
        `/v2/${climb}secret.txt`,
        `/v2/${climb}etc/passwd`,
        `/v2/traversal/${climb}manifests/v1`,
        `/v2/traversal/a/blobs/${climb}secret.txt`,
        `/v2/traversal/a/blobs/sha256:${climb}secret.txt`,
        `/v2/traversal/a/blobs/uploads/${climb}secret.txt`,
        `/v2/traversal/a/manifests/${climb}secret.txt`,
        `/v2/traversal/b/${climb}a/blobs/${digest}`,
        `/v2/traversal/a/referrers/${climb}x`,
        `/v2/traversal/a/tags/${climb}list`,
      ]) {
        const answer = await client.send('GET', url);
        const isFine =
          answer.status >= 400 && answer.status < 500 && /^[A-Z_]{4,}$/.test(errorCode(answer)) && !answer.body.includes('the secret of');
        if (!isFine) t.fail(`GET ${url}: ${answer.status} ${answer.body.toString().slice(0, 100)}`);
      }
    }
  }
  for (const [method, url] of [
    ['PUT', '/v2/traversal/a/manifests/..%2f..%2fx'],
    ['PUT', `/v2/..%2f..%2fx/manifests/${digest}`],
    ['POST', '/v2/../../x/blobs/uploads/'],
    ['POST', `/v2/traversal%2f..%2fa/blobs/uploads/?digest=${digestOf('x')}`],
    ['DELETE', '/v2/traversal/a/manifests/..%2f..%2fx'],
    ['DELETE', `/v2/traversal/b/../a/blobs/${digest}`],
    ['PATCH', '/v2/traversal/a/blobs/uploads/..%2f..%2fx'],
  ] as const) {
    const answer = await client.send(method, url, { body: 'x' });
    t.ok(answer.status >= 400 && answer.status < 500 && errorCode(answer) !== 'no code', `${method} ${url}: ${answer.status}`);
  }
  const mounted = await client.send('POST', `/v2/traversal/c/blobs/uploads/?mount=${digest}&from=../traversal/a`, { body: '' });
  t.equal(mounted.status, 202, 'a source of a mount that is no name');
  const absolute = await exchangeRaw(port, 'GET http://127.0.0.1/v2/../../secret.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  // uWS takes it for HTTP/1.0.
  t.match(absolute, /^HTTP\/1\.1 (4\d\d|505) /, 'an absolute target');
  t.notMatch(absolute, 'the secret of', 'leads nowhere');
  t.equal((await client.send('GET', `/v2/traversal/a/blobs/${digest}`)).body.toString(), 'a blob', 'nothing was changed');
}

async function headers(t: Test, { client, port }: WireNode): Promise<void> {
  const large = 'x'.repeat(60 * 1024);
  t.equal((await client.send('GET', '/v2/', { headers: { Authorization: `Bearer ${large}` } })).status, 200, '60 KB in one header');
  const many = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`X-Header-${index}`, 'y'.repeat(1000)]));
  t.equal((await client.send('GET', '/v2/', { headers: many })).status, 200, '60 KB in 60 headers');
  const post = await client.send('POST', '/v2/headers/blobs/uploads/', { headers: { Authorization: large }, body: '' });
  t.equal(post.status, 202, '60 KB before a body');
  const overflow = await exchangeRaw(
    port,
    `GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(200 * 1024)}\r\nConnection: close\r\n\r\n`,
  ).catch(() => '');
  t.notMatch(overflow, /^HTTP\/1\.1 [25]/, 'more than that is refused');

  const framing: Record<string, string> = {
    'two equal Content-Lengths': 'Content-Length: 1\r\nContent-Length: 1\r\n',
    'two Content-Lengths': 'Content-Length: 1\r\nContent-Length: 2\r\n',
    'two Content-Lengths in one': 'Content-Length: 1, 1\r\n',
    'Content-Length and Transfer-Encoding': 'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n',
    'a negative Content-Length': 'Content-Length: -1\r\n',
    'Content-Length +1': 'Content-Length: +1\r\n',
    'Content-Length 0x1': 'Content-Length: 0x1\r\n',
    'Transfer-Encoding twice': 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n',
    'another Transfer-Encoding': 'Transfer-Encoding: gzip, chunked\r\n',
    'two Hosts': 'Content-Length: 1\r\nHost: y\r\n',
  };
  const smuggled = 'GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n';
  for (const [what, lines] of Object.entries(framing)) {
    const head = `POST /v2/headers/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n${lines}\r\n`;
    const refused = await exchangeRaw(port, `${head}x`);
    t.match(refused, /^HTTP\/1\.1 400 /, `${what}: 400`);
    // uWS may close before the reply is out when more has come than it was to read.
    const received = await exchangeRaw(port, `${head}${smuggled}`);
    t.match(received, /^(HTTP\/1\.1 400 |$)/, `${what}: with something behind it`);
    t.notMatch(received.slice(9), /HTTP\/1\.1/, 'which is not taken for a request');
  }
  t.equal((await client.send('GET', '/v2/')).status, 200, 'it serves on');
}

async function origins(t: Test, client: HttpClient): Promise<void> {
  const url = '/v2/origins/manifests/v1';
  const image = await imageWithBlobs(client, 'origins', ['layer']);
  await putManifest(client, 'origins', 'v1', image);
  const preflight = await client.send('OPTIONS', url, {
    headers: { Origin: allowedOrigin, 'Access-Control-Request-Method': 'PUT', 'Access-Control-Request-Headers': 'content-type' },
  });
  t.equal(preflight.status, 204, 'a preflight');
  t.match(
    preflight.headers,
    { 'access-control-allow-origin': allowedOrigin, 'access-control-allow-methods': /PUT/, 'access-control-allow-headers': /content-type/ },
    'which allows',
  );
  const read = await client.send('GET', url, { headers: { Origin: allowedOrigin } });
  t.match(read.headers, { 'access-control-allow-origin': allowedOrigin, vary: 'Origin' }, 'reading is allowed');
  for (const name of ['Docker-Content-Digest', 'Link', 'WWW-Authenticate', 'Location']) {
    t.match(read.headers['access-control-expose-headers'], name, `${name} may be seen`);
  }
  const missing = await client.send('GET', '/v2/origins/manifests/v2', { headers: { Origin: allowedOrigin } });
  t.strictSame([missing.status, missing.headers['access-control-allow-origin']], [404, allowedOrigin], 'errors may be seen too');
  const written = await putManifest(client, 'origins', 'v2', image, types.manifest, { headers: { Origin: allowedOrigin } });
  t.equal(written.status, 201, 'writing is allowed');
  const own = await client.send('DELETE', '/v2/origins/manifests/v2', { headers: { Origin: `http://127.0.0.1:${client.port}` } });
  t.equal(own.status, 202, 'as it is from the registry itself');

  for (const origin of [
    'https://evil.example',
    `${allowedOrigin}.evil.example`,
    `${allowedOrigin}:444`,
    'http://ui.example',
    'null',
    'x',
  ]) {
    const foreign = { Origin: origin };
    const got = await client.send('GET', url, { headers: foreign });
    t.strictSame([got.status, got.headers['access-control-allow-origin']], [200, undefined], `${origin} may not see what it reads`);
    const asked = await client.send('OPTIONS', url, { headers: { ...foreign, 'Access-Control-Request-Method': 'PUT' } });
    t.strictSame(
      [asked.headers['access-control-allow-origin'], asked.headers['access-control-allow-methods']],
      [undefined, undefined],
      'nor plan to write',
    );
    for (const [method, target] of [
      ['PUT', '/v2/origins/manifests/v3'],
      ['POST', '/v2/origins/blobs/uploads/'],
      ['POST', `/v2/origins/blobs/uploads/?digest=${digestOf('evil')}`],
      ['DELETE', url],
      ['PATCH', '/v2/origins/blobs/uploads/x'],
    ] as const) {
      const refused = await client.send(method, target, { headers: foreign, body: method === 'DELETE' ? '' : 'evil' });
      t.strictSame([refused.status, errorCode(refused)], [403, 'DENIED'], `${method} is refused`);
    }
  }
  t.equal((await client.send('GET', `/v2/origins/blobs/${digestOf('evil')}`)).status, 404, 'nothing was written');
  t.equal((await client.send('GET', url)).status, 200, 'nothing was deleted');
}

async function deletionDisabled(t: Test, engine: 'uws' | 'node'): Promise<void> {
  const node = await startWireNode(engine, { delete: { enabled: false } });
  t.teardown(() => stopWireNode(node));
  const { client } = node;
  const image = await imageWithBlobs(client, 'kept', ['layer']);
  await putManifest(client, 'kept', 'v1', image);
  for (const target of [
    'manifests/v1',
    `manifests/${digestOf(image)}`,
    `blobs/${digestOf('layer')}`,
    'manifests/none',
    `blobs/${digestOf('none')}`,
  ]) {
    const answer = await client.send('DELETE', `/v2/kept/${target}`);
    t.strictSame([answer.status, errorCode(answer)], [405, 'UNSUPPORTED'], target);
    t.match(answer.headers.allow, /GET/, 'with what is allowed instead');
    t.notMatch(answer.headers.allow, /DELETE/, 'which deletion is not');
  }
  t.strictSame(jsonOf(await client.send('GET', '/v2/kept/tags/list')), { name: 'kept', tags: ['v1'] }, 'nothing was deleted');
  t.equal((await client.send('DELETE', await openSession(client, 'kept'))).status, 204, 'an upload may be cancelled all the same');
}
