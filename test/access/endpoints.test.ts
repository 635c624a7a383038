// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Every endpoint, asked by everybody: what each of them is answered, on both engines. */
import type { Test } from 'tap';
import { endpoints } from '../../src/http/routes.js';
import { errorCode, jsonOf, type Answer, type Exchange } from '../support/http-client.js';
import { bytesOf, digestOf, imageOf, locationOf, onBothEngines, types, type WireNode } from '../support/wire-suite.js';
import { basic, bearer, secretsOf, settings } from './people.js';

const callers = ['anonymous', 'wrong', 'reader', 'writer', 'stranger', 'admin'] as const;
type Who = (typeof callers)[number];

const credentials: Readonly<Record<Who, Record<string, string>>> = {
  anonymous: {},
  wrong: basic('writer', 'not-the-password-3e'),
  reader: basic('reader'),
  writer: basic('writer'),
  stranger: basic('stranger'),
  admin: basic('admin'),
};

/** What each caller is answered, in the order of `callers`. */
type Expected = readonly [number, number, number, number, number, number];

const forAll = (status: number): Expected => [status, status, status, status, status, status];
const reads = (status: number): Expected => [401, 401, status, status, 403, status];
const writes = (status: number): Expected => [401, 401, 403, status, 403, status];
const pulls = { kind: 'public', expected: (status: number): Expected => [status, 401, status, status, status, status] };

interface Row {
  /** `<kind> <method>` of the endpoint in routes.ts. */
  readonly endpoint: string;
  readonly expected: Expected;
  /** What is asked; `prepared` is what `prepare` returned for this caller. */
  readonly path: (prepared: string, who: Who) => string;
  readonly method?: string;
  readonly exchange?: Exchange;
  /** Done by the writer beforehand, once for each caller. */
  readonly prepare?: (node: WireNode, who: Who) => Promise<string>;
}

const writer = { headers: credentials.writer };
const layer = bytesOf(2_000, 'layer');
const image = imageOf([layer]);
const layerDigest = digestOf(layer);
const imageDigest = digestOf(image);

async function send(node: WireNode, method: string, path: string, exchange: Exchange, status: number): Promise<Answer> {
  const answer = await node.client.send(method, path, exchange);
  if (answer.status !== status) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.toString()}`);
  return answer;
}

async function ownBlob(node: WireNode, who: Who): Promise<string> {
  const bytes = bytesOf(500, who);
  await send(node, 'POST', `/v2/team/app/blobs/uploads/?digest=${digestOf(bytes)}`, { ...writer, body: bytes }, 201);
  return digestOf(bytes);
}

async function ownManifest(node: WireNode, who: Who): Promise<string> {
  const body = imageOf([layer], { annotations: { who } });
  await send(
    node,
    'PUT',
    `/v2/team/app/manifests/delete-${who}`,
    { headers: { ...credentials.writer, 'Content-Type': types.manifest }, body },
    201,
  );
  return digestOf(body);
}

/** A session that the caller began, where they may, else one of the writer's. */
async function session(node: WireNode, who: Who): Promise<string> {
  const headers = who === 'admin' ? credentials.admin : credentials.writer;
  return locationOf(await send(node, 'POST', '/v2/team/app/blobs/uploads/', { headers, body: '' }, 202));
}

const rows: readonly Row[] = [
  { endpoint: 'livez GET', expected: forAll(200), path: () => '/livez' },
  { endpoint: 'readyz GET', expected: forAll(200), path: () => '/readyz' },
  {
    endpoint: 'token GET',
    expected: [200, 401, 200, 200, 200, 200],
    path: () => '/token?service=ha-registry&scope=repository:team/app:pull',
  },
  { endpoint: 'token POST', expected: forAll(400), path: () => '/token', exchange: { body: 'grant_type=none' } },
  { endpoint: 'metrics GET', expected: [401, 401, 403, 403, 403, 200], path: () => '/metrics' },
  {
    endpoint: 'explain POST',
    expected: [401, 401, 403, 403, 403, 200],
    path: () => '/api/v1/policy/explain',
    exchange: { body: '{"identity":"reader","action":"get-blob","name":"team/app"}' },
  },
  {
    endpoint: 'revoke POST',
    expected: [401, 401, 403, 403, 403, 204],
    path: () => '/api/v1/tokens/revoke',
    exchange: { body: '{"identity":"nobody"}' },
  },
  { endpoint: 'tag-history GET', expected: [401, 401, 403, 403, 403, 200], path: () => '/api/v1/repositories/team/app/tags/v1/history' },
  {
    endpoint: 'tag-restore POST',
    expected: [401, 401, 403, 403, 403, 200],
    path: () => '/api/v1/repositories/team/app/tags/v1/restore',
    exchange: { body: JSON.stringify({ to: imageDigest }) },
  },
  {
    endpoint: 'manifest-restore POST',
    expected: [401, 401, 403, 403, 403, 200],
    path: () => `/api/v1/repositories/team/app/manifests/${imageDigest}/restore`,
    exchange: { body: '' },
  },
  { endpoint: 'base GET', expected: [401, 401, 200, 200, 200, 200], path: () => '/v2/' },
  { endpoint: 'catalog GET', expected: [200, 401, 200, 200, 200, 200], path: () => '/v2/_catalog' },
  { endpoint: 'tags GET', expected: reads(200), path: () => '/v2/team/app/tags/list' },
  { endpoint: 'tags GET', expected: pulls.expected(200), path: () => '/v2/public/app/tags/list' },
  { endpoint: 'referrers GET', expected: reads(200), path: () => `/v2/team/app/referrers/${imageDigest}` },
  { endpoint: 'manifest GET', expected: reads(200), path: () => '/v2/team/app/manifests/v1' },
  { endpoint: 'manifest GET', expected: reads(200), path: () => '/v2/team/app/manifests/v1', method: 'HEAD' },
  { endpoint: 'manifest GET', expected: reads(200), path: () => `/v2/team/app/manifests/${imageDigest}` },
  { endpoint: 'manifest GET', expected: reads(404), path: () => '/v2/team/app/manifests/none' },
  { endpoint: 'manifest GET', expected: pulls.expected(200), path: () => '/v2/public/app/manifests/v1' },
  { endpoint: 'blob GET', expected: reads(200), path: () => `/v2/team/app/blobs/${layerDigest}` },
  { endpoint: 'blob GET', expected: reads(200), path: () => `/v2/team/app/blobs/${layerDigest}`, method: 'HEAD' },
  { endpoint: 'blob GET', expected: pulls.expected(200), path: () => `/v2/public/app/blobs/${layerDigest}` },
  { endpoint: 'blob GET', expected: [401, 401, 403, 403, 403, 403], path: () => `/v2/elsewhere/app/blobs/${layerDigest}` },
  { endpoint: 'blob DELETE', expected: writes(202), path: (digest) => `/v2/team/app/blobs/${digest}`, prepare: ownBlob },
  {
    endpoint: 'manifest PUT',
    expected: writes(201),
    path: (_prepared, who) => `/v2/team/app/manifests/put-${who}`,
    exchange: { headers: { 'Content-Type': types.manifest }, body: image },
  },
  {
    endpoint: 'manifest PUT',
    expected: [401, 401, 403, 201, 403, 403],
    path: () => '/v2/public/app/manifests/v1',
    exchange: { headers: { 'Content-Type': types.manifest }, body: image },
  },
  { endpoint: 'manifest DELETE', expected: writes(202), path: (digest) => `/v2/team/app/manifests/${digest}`, prepare: ownManifest },
  { endpoint: 'uploads POST', expected: writes(202), path: () => '/v2/team/app/blobs/uploads/', exchange: { body: '' } },
  {
    endpoint: 'uploads POST',
    expected: writes(201),
    path: () => `/v2/team/app/blobs/uploads/?digest=${digestOf('x')}`,
    exchange: { body: 'x' },
  },
  {
    endpoint: 'uploads POST',
    expected: writes(201),
    path: () => `/v2/team/mounted/blobs/uploads/?mount=${layerDigest}&from=team/app`,
    exchange: { body: '' },
  },
  { endpoint: 'session GET', expected: writes(204), path: (location) => location, prepare: session },
  { endpoint: 'session PATCH', expected: writes(202), path: (location) => location, exchange: { body: 'x' }, prepare: session },
  {
    endpoint: 'session PUT',
    expected: writes(201),
    path: (location) => `${location}?digest=${digestOf('y')}`,
    exchange: { body: 'y' },
    prepare: session,
  },
  { endpoint: 'session DELETE', expected: writes(204), path: (location) => location, prepare: session },
];

async function fill(node: WireNode): Promise<void> {
  for (const repository of ['team/app', 'public/app', 'tags/app', 'open/app']) {
    const headers = { ...credentials.writer, 'Content-Type': types.manifest };
    for (const blob of ['{}', layer])
      await send(node, 'POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(blob)}`, { ...writer, body: blob }, 201);
    for (const tag of repository === 'tags/app' ? ['v1', 'secret'] : ['v1'])
      await send(node, 'PUT', `/v2/${repository}/manifests/${tag}`, { headers, body: image }, 201);
  }
  const bytes = bytesOf(700, 'other');
  await send(node, 'POST', `/v2/other/app/blobs/uploads/?digest=${digestOf(bytes)}`, { headers: credentials.stranger, body: bytes }, 201);
}

onBothEngines(await settings(), async (t, node) => {
  await fill(node);
  await t.test('every endpoint is in the table', (t) => everyEndpoint(t));
  await t.test('every endpoint, for everybody', (t) => everyCaller(t, node));
  await t.test('no answer tells what there is', (t) => noOracle(t, node));
  await t.test('lists show what the caller may see', (t) => lists(t, node));
  await t.test('mounts', (t) => mounts(t, node));
  await t.test('uploads belong to whoever began them', (t) => sessions(t, node));
  await t.test('tags', (t) => tags(t, node));
  await t.test('no password and no token is in the log', (t) => {
    for (const secret of secretsOf()) t.notMatch(node.log(), secret);
    t.end();
  });
});

function everyEndpoint(t: Test): void {
  const there = Object.entries(endpoints).flatMap(([kind, methods]) => Object.keys(methods).map((method) => `${kind} ${method}`));
  t.strictSame([...new Set(rows.map(({ endpoint }) => endpoint))].sort(), there.sort());
  t.end();
}

async function everyCaller(t: Test, node: WireNode): Promise<void> {
  for (const { endpoint, expected, path, method = endpoint.split(' ')[1] ?? '', exchange = {}, prepare } of rows) {
    const statuses: number[] = [];
    for (const who of callers) {
      const prepared = prepare === undefined ? '' : await prepare(node, who);
      const headers = { ...exchange.headers, ...credentials[who] };
      const answer = await node.client.send(method, path(prepared, who), { ...exchange, headers });
      statuses.push(answer.status);
      if (answer.status === 401)
        t.match(
          answer.headers['www-authenticate'],
          /^(Bearer realm="http:\/\/127\.0\.0\.1:\d+\/token",service="ha-registry"|Basic realm=)/,
          `${endpoint}, ${who}: a challenge`,
        );
      if (method !== 'HEAD' && answer.status === 401) t.equal(errorCode(answer), 'UNAUTHORIZED');
      if (method !== 'HEAD' && answer.status === 403) t.equal(errorCode(answer), 'DENIED');
    }
    t.strictSame(statuses, expected, `${method} ${path('…', 'reader')}`);
  }
}

/** Status, headers and body, without what differs from one request to the next. */
function faceOf({ status, headers, body }: Answer, ...names: readonly string[]): unknown {
  const { date: _date, 'x-request-id': _id, ...rest } = headers;
  const neutral = (text: string): string =>
    names.reduce((changed, name) => changed.replaceAll(name, '*'), text).replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<id>');
  return [status, neutral(JSON.stringify(rest)), neutral(body.toString())];
}

const nowhere = '00000000-0000-4000-8000-000000000000';

/** What there is, and what there is not, to be asked for alike. */
async function pairs(node: WireNode): Promise<readonly (readonly [method: string, there: string, not: string, body?: string])[]> {
  const missing = digestOf('nobody has this');
  const began = await session(node, 'writer');
  const invented = began.replace(/[^/]+$/, nowhere);
  const history = '/api/v1/repositories/team/app';
  return [
    ['GET', `/v2/team/app/manifests/v1`, `/v2/team/none/manifests/v1`],
    ['GET', `/v2/team/app/manifests/v1`, `/v2/team/app/manifests/v2`],
    ['GET', `/v2/team/app/manifests/${imageDigest}`, `/v2/team/app/manifests/${missing}`],
    ['HEAD', `/v2/team/app/manifests/v1`, `/v2/team/app/manifests/v2`],
    ['HEAD', `/v2/team/app/manifests/v1`, `/v2/team/none/manifests/v1`],
    ['GET', `/v2/team/app/blobs/${layerDigest}`, `/v2/team/app/blobs/${missing}`],
    ['HEAD', `/v2/team/app/blobs/${layerDigest}`, `/v2/team/none/blobs/${missing}`],
    ['DELETE', `/v2/team/app/blobs/${layerDigest}`, `/v2/team/app/blobs/${missing}`],
    ['DELETE', `/v2/team/app/manifests/v1`, `/v2/team/app/manifests/v2`],
    ['DELETE', `/v2/team/app/manifests/${imageDigest}`, `/v2/team/none/manifests/${imageDigest}`],
    ['PUT', `/v2/team/app/manifests/v1`, `/v2/team/none/manifests/v1`, image],
    ['PUT', `/v2/team/app/manifests/v1`, `/v2/team/app/manifests/v2`, 'not a manifest'],
    ['GET', `/v2/team/app/tags/list`, `/v2/team/none/tags/list`],
    ['GET', `/v2/team/app/referrers/${imageDigest}`, `/v2/team/app/referrers/${missing}`],
    ['GET', `/v2/team/app/referrers/${imageDigest}`, `/v2/team/none/referrers/${imageDigest}`],
    ['POST', `/v2/team/app/blobs/uploads/`, `/v2/team/none/blobs/uploads/`, ''],
    ['POST', `/v2/team/app/blobs/uploads/?mount=${layerDigest}`, `/v2/team/app/blobs/uploads/?mount=${missing}`, ''],
    ['GET', began, invented],
    ['PATCH', began, invented, 'x'],
    ['PUT', `${began}?digest=${digestOf('x')}`, `${invented}?digest=${digestOf('x')}`, 'x'],
    ['DELETE', began, invented],
    ['GET', `${history}/tags/v1/history`, `${history}/tags/v2/history`],
    ['POST', `${history}/tags/v1/restore`, `${history}/tags/v2/restore`, JSON.stringify({ to: imageDigest })],
    ['POST', `${history}/manifests/${imageDigest}/restore`, `${history}/manifests/${missing}/restore`, ''],
  ];
}

async function noOracle(t: Test, node: WireNode): Promise<void> {
  const elsewhere = await tokenFor(node, 'writer', 'repository:public/app:pull,push,delete');
  const here = await tokenFor(node, 'reader', 'repository:team/app:pull');
  const asked = await pairs(node);
  for (const [who, headers] of [
    ['anonymous', {}],
    ['wrong', credentials.wrong],
    ['stranger', credentials.stranger],
    ['a token for elsewhere', elsewhere],
    ['a token of nobody', await tokenFor(node, undefined, 'repository:public/app:pull')],
  ] as const) {
    for (const [method, there, not, body] of asked) {
      const ask = (path: string) => node.client.send(method, path, { headers, ...(body === undefined ? {} : { body }) });
      const [one, two] = [await ask(there), await ask(not)];
      t.strictSame(faceOf(one, 'team/app'), faceOf(two, 'team/none', 'team/app'), `${who}: ${method} ${there} and ${not}`);
      t.ok(one.status === 401 || one.status === 403, `${who} is refused: ${one.status}`);
    }
  }
  for (const [who, headers] of [
    ['reader', credentials.reader],
    ['a token to pull', here],
  ] as const) {
    for (const [method, there, not, body] of asked.filter((pair) => pair[0] !== 'GET' && pair[0] !== 'HEAD')) {
      const ask = (path: string) => node.client.send(method, path, { headers, ...(body === undefined ? {} : { body }) });
      t.strictSame(
        faceOf(await ask(there), 'team/app'),
        faceOf(await ask(not), 'team/none', 'team/app'),
        `${who}: ${method} ${there} and ${not}`,
      );
    }
  }
  const began = await session(node, 'writer');
  for (const [method, query, body] of [
    ['GET', ''],
    ['PATCH', '', 'x'],
    ['PUT', `?digest=${digestOf('x')}`, 'x'],
    ['DELETE', ''],
  ] as const) {
    const ask = (path: string) =>
      node.client.send(method, path + query, { headers: credentials.admin, ...(body === undefined ? {} : { body }) });
    const [other, none] = [await ask(began), await ask(began.replace(/[^/]+$/, nowhere))];
    t.strictSame(faceOf(other), faceOf(none), `${method}: another identity's upload is as one that never was`);
    t.equal(other.status, 404);
  }
  const mount = (digest: string, from: string) =>
    node.client.send('POST', `/v2/other/app/blobs/uploads/?mount=${digest}&from=${from}`, { headers: credentials.stranger, body: '' });
  const secret = await pushAs(node, 'team/app', 'what the stranger may not mount');
  const faces = [await mount(secret, 'team/app'), await mount(digestOf('no such blob'), 'team/app'), await mount(secret, 'team/none')];
  t.equal(faces[0]?.status, 202);
  t.strictSame(faceOf(faces[0] as Answer), faceOf(faces[1] as Answer), 'a mount does not tell what the source has');
  t.strictSame(faceOf(faces[0] as Answer), faceOf(faces[2] as Answer), 'nor whether there is one');
}

async function tokenFor(node: WireNode, who: Who | undefined, scope: string): Promise<Record<string, string>> {
  const headers = who === undefined ? {} : credentials[who];
  const answer = await send(node, 'GET', `/token?service=ha-registry&scope=${scope}`, { headers }, 200);
  return bearer(jsonOf<{ readonly token: string }>(answer).token);
}

async function lists(t: Test, node: WireNode): Promise<void> {
  const names = async (who: Who, query = ''): Promise<string[]> =>
    (
      JSON.parse((await node.client.send('GET', `/v2/_catalog${query}`, { headers: credentials[who] })).body.toString()) as {
        repositories: string[];
      }
    ).repositories;
  t.strictSame(await names('anonymous'), ['public/app']);
  t.strictSame(await names('reader'), ['open/app', 'public/app', 'tags/app', 'team/app', 'team/mounted']);
  t.strictSame(await names('stranger'), ['other/app', 'public/app']);
  t.strictSame(await names('reader', '?n=1&last=open/app'), ['public/app'], 'a page');
  const page = await node.client.send('GET', '/v2/_catalog?n=1', { headers: credentials.stranger });
  t.notMatch(page.headers['link'], /team|tags|open/, 'a link names nothing that is hidden');
  const tagsOf = async (who: Who) =>
    (
      JSON.parse((await node.client.send('GET', '/v2/tags/app/tags/list', { headers: credentials[who] })).body.toString()) as {
        tags: string[];
      }
    ).tags;
  t.strictSame(await tagsOf('reader'), ['v1']);
  t.strictSame(await tagsOf('writer'), ['secret', 'v1']);
}

async function mounts(t: Test, node: WireNode): Promise<void> {
  const mount = (who: Who, repository: string, digest: string, from: string) =>
    node.client.send('POST', `/v2/${repository}/blobs/uploads/?mount=${digest}${from}`, { headers: credentials[who], body: '' });
  t.equal((await mount('stranger', 'other/app', layerDigest, '&from=team/app')).status, 202, 'without the right to pull the source');
  t.equal((await mount('stranger', 'other/app', digestOf('nothing'), '&from=team/app')).status, 202, 'nor where it has no such blob');
  t.equal((await mount('stranger', 'other/app', layerDigest, '&from=public/app')).status, 201, 'with it');
  const secret = await pushAs(node, 'team/app', 'only the team has this');
  t.equal((await mount('stranger', 'other/app', secret, '')).status, 202, 'from anywhere, but only from where it may read');
  t.equal((await mount('admin', 'team/elsewhere', secret, '')).status, 201);
  const held = await pushAs(node, 'drop/app', 'whoever may only push is not told of it');
  const faces = [
    await mount('stranger', 'drop/app', held, '&from=public/app'),
    await mount('stranger', 'drop/app', secret, '&from=public/app'),
  ];
  t.strictSame(faceOf(faces[0] as Answer), faceOf(faces[1] as Answer), 'whoever may not pull the target does not learn what it has');
  t.equal((await mount('stranger', 'drop/app', layerDigest, '&from=public/app')).status, 201, 'but mounts what the source has');
  const head = await node.client.send('HEAD', `/v2/other/app/blobs/${secret}`, { headers: credentials.stranger });
  t.equal(head.status, 404, 'nothing came with the refusal');
}

async function pushAs(node: WireNode, repository: string, text: string): Promise<string> {
  await send(node, 'POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(text)}`, { ...writer, body: text }, 201);
  return digestOf(text);
}

async function sessions(t: Test, node: WireNode): Promise<void> {
  const location = await session(node, 'writer');
  const path = (repository: string) => location.replace('/v2/team/app/', `/v2/${repository}/`);
  for (const [method, query] of [
    ['GET', ''],
    ['PATCH', ''],
    ['PUT', `?digest=${digestOf('z')}`],
    ['DELETE', ''],
  ] as const) {
    const body = method === 'PATCH' || method === 'PUT' ? { body: 'z' } : {};
    const other = await node.client.send(method, location + query, { headers: credentials.admin, ...body });
    t.strictSame([other.status, errorCode(other)], [404, 'BLOB_UPLOAD_UNKNOWN'], `${method} by another identity that may push there`);
    const elsewhere = await node.client.send(method, path('team/other') + query, { ...writer, ...body });
    t.equal(elsewhere.status, 404, `${method} in another repository`);
  }
  t.equal((await node.client.send('PATCH', location, { ...writer, body: 'z' })).status, 202, 'it is still there, where it was');
  t.equal((await node.client.send('PUT', `${location}?digest=${digestOf('z')}`, { ...writer, body: '' })).status, 201);
}

async function tags(t: Test, node: WireNode): Promise<void> {
  const headers = { ...credentials.reader, 'Content-Type': types.manifest };
  const put = (path: string) => node.client.send('PUT', `/v2/tags/app/manifests/${path}`, { headers, body: image });
  t.equal((await put('free')).status, 201, 'a policy about tags lets one pass');
  t.equal((await put('secret')).status, 403, 'and keeps another');
  t.equal((await put(`${imageDigest}?tag=free&tag=secret`)).status, 403, 'also as one of many');
  t.equal((await node.client.send('GET', '/v2/tags/app/manifests/secret', { headers: credentials.reader })).status, 403);
  t.equal(
    (await node.client.send('GET', '/v2/open/app/tags/list', { headers: credentials.reader })).status,
    200,
    'a namespace that is open',
  );
  t.equal((await node.client.send('GET', '/v2/open/app/tags/list')).status, 401, 'but not to whom a policy denies it');
  t.equal((await node.client.send('GET', '/v2/open/app/tags/list', { headers: credentials.stranger })).status, 403);
}
