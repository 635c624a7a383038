// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `ha-registry rebuild --from distribution`: a directory or a bucket that docker-registry 2.8 wrote is served where it lies. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { databaseState, rowsOf, stateDifferences } from './support/database-state.js';
import { startDockerRegistry } from './support/docker-registry.js';
import { HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { ha, main } from './support/program.js';
import { startRegistry, temporaryDirectory, type Launch, type Place, type RunningRegistry } from './support/registry.js';
import { s3Server, s3Settings, stopS3Servers, type S3Server } from './support/s3-server.js';
import { filesOf, objectsOf, type StoredObjects } from './support/stored-objects.js';
import { run } from './support/command.js';
import { findTool } from './support/tools.js';
import { isolated } from './clients/client.js';
import { startCrane } from './clients/crane.js';
import { bytesOf, describe, digestOf, imageOf, indexOf, putManifest, types, until, withDigest } from './support/wire-suite.js';

const missing =
  spawnSync('docker-registry', ['--version']).status !== 0 && 'DOCKER-REGISTRY IS NOT INSTALLED: taking over its store is not tested';
if (missing) console.error(missing);
const server = await s3Server();
t.teardown(stopS3Servers);
const withoutS3 = 'missing' in server && `A BUCKET OF DOCKER-REGISTRY'S IS NOT TAKEN OVER: ${server.missing}`;
if (withoutS3) console.error(withoutS3);
const s3 = server as S3Server;

/** docker-registry, and its store as ours is told of it. */
interface Peer {
  readonly registry: RunningRegistry;
  readonly storage: object;
  readonly objects: StoredObjects;
}

async function directoryPeer(): Promise<Peer> {
  const registry = await startDockerRegistry();
  const root = path.join(registry.root, 'data');
  return { registry, storage: { fs: { root_dir: root } }, objects: filesOf(root) };
}

async function bucketPeer(): Promise<Peer> {
  const settings = await s3Settings(s3, { prefix: 'their/root' });
  const driver = {
    bucket: settings.bucket,
    region: 'us-east-1',
    regionendpoint: s3.endpoint,
    accesskey: s3.accessKeyId,
    secretkey: s3.secretAccessKey,
    secure: false,
    rootdirectory: '/their/root',
  };
  const registry = await startDockerRegistry('docker-registry', { s3: driver });
  return { registry, storage: { s3: settings }, objects: objectsOf(s3, settings.bucket, 'their/root/') };
}

/** The specification's way in two requests: docker-registry does not take a blob in one. */
async function push(client: HttpClient, repository: string, bytes: Uint8Array | string): Promise<string> {
  const opened = await client.send('POST', `/v2/${repository}/blobs/uploads/`, { body: '' });
  const location = new URL(String(opened.headers.location), `http://127.0.0.1:${client.port}`);
  const digest = digestOf(bytes);
  const { status } = await client.send('PUT', withDigest(location.pathname + location.search, digest), { body: bytes });
  if (status !== 201) throw new Error(`pushing a blob to docker-registry: ${status}`);
  return digest;
}

async function tag(client: HttpClient, repository: string, reference: string, body: string, type: string = types.manifest): Promise<void> {
  const answer = await putManifest(client, repository, reference, body, type);
  if (answer.status !== 201) throw new Error(`${repository}:${reference}: ${answer.status} ${answer.body.toString()}`);
}

interface Pulls {
  readonly manifests: Map<string, string>;
  readonly blobs: Map<string, Buffer>;
}

async function fill(client: HttpClient): Promise<Pulls> {
  const pulls: Pulls = { manifests: new Map(), blobs: new Map() };
  const image = async (repository: string, name: string, more: object = {}): Promise<string> => {
    const layer = bytesOf(5_000, name);
    await push(client, repository, '{}');
    pulls.blobs.set(`/v2/${repository}/blobs/${await push(client, repository, layer)}`, layer);
    return imageOf([layer], more);
  };
  const put = async (repository: string, reference: string, body: string, type: string = types.manifest): Promise<void> => {
    await tag(client, repository, reference, body, type);
    pulls.manifests.set(`/v2/${repository}/manifests/${reference}`, body);
    pulls.manifests.set(`/v2/${repository}/manifests/${digestOf(body)}`, body);
  };
  for (const repository of ['plain', 'team/app', 'team/app/deep', 'a-b.c_d']) {
    const [one, two] = [await image(repository, `${repository} one`), await image(repository, 'two')];
    await put(repository, 'one', one);
    await put(repository, 'moved', one);
    await put(repository, 'moved', two);
    const schema2 = JSON.stringify({
      ...(JSON.parse(two) as object),
      mediaType: types.dockerManifest,
      config: describe('application/vnd.docker.container.image.v1+json', '{}'),
      layers: [describe('application/vnd.docker.image.rootfs.diff.tar.gzip', bytesOf(5_000, 'two'))],
    });
    await put(repository, 'schema2', schema2, types.dockerManifest);
    await put(repository, 'index', indexOf([describe(types.manifest, one), describe(types.manifest, two)]), types.index);
    const list = {
      schemaVersion: 2,
      mediaType: types.dockerList,
      manifests: [{ ...describe(types.dockerManifest, schema2), platform: { architecture: 'amd64', os: 'linux' } }],
    };
    await put(repository, 'list', JSON.stringify(list), types.dockerList);
    // A referrer, with the fallback tag that clients keep where there is no referrers API.
    const referrer = await image(repository, 'referrer', {
      artifactType: 'application/vnd.example',
      subject: describe(types.manifest, one),
    });
    await put(repository, digestOf(referrer), referrer);
    const fallback = indexOf([
      { ...describe(types.manifest, referrer), artifactType: 'application/vnd.example' } as ReturnType<typeof describe>,
    ]);
    await put(repository, digestOf(one).replace(':', '-'), fallback, types.index);
    const doomed = await image(repository, 'doomed');
    await tag(client, repository, 'doomed', doomed);
    const gone = await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(doomed)}`);
    if (gone.status !== 202) throw new Error(`DELETE: ${gone.status}`);
  }
  return pulls;
}

async function differences(client: HttpClient, { manifests, blobs }: Pulls): Promise<string[]> {
  const different: string[] = [];
  for (const [where, body] of manifests) {
    const answer = await client.send('GET', where);
    const { mediaType } = JSON.parse(body) as { mediaType: string };
    if (
      answer.body.toString() !== body ||
      answer.headers['docker-content-digest'] !== digestOf(body) ||
      answer.headers['content-type'] !== mediaType
    )
      different.push(`${where}: ${answer.status} ${String(answer.headers['content-type'])}`);
  }
  for (const [where, bytes] of blobs) {
    const answer = await client.send('GET', where);
    if (!answer.body.equals(bytes)) different.push(`${where}: ${answer.status}`);
  }
  return different;
}

/** Without --root, which would win over the file. */
async function serve({ port }: Place, config: object): Promise<Launch> {
  const file = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(file, JSON.stringify(config));
  return { command: process.execPath, args: [main, 'serve', '--config', file, '-p', String(port)] };
}

/** Everything below `docker/`, with digests. */
async function original(objects: StoredObjects): Promise<string[]> {
  const keys = await objects.keys(/^docker\//);
  return Promise.all(keys.map(async (key) => `${key} ${digestOf(await objects.read(key))}`));
}

/** Each tag by real clients, which compare all bytes with their digests. */
async function clientPulls(t: Test, { host }: RunningRegistry, { manifests }: Pulls): Promise<void> {
  const scratch = await temporaryDirectory('clients-');
  const [crane, skopeo] = [await startCrane({ scratch, host }), await findTool('skopeo')];
  for (const tool of [crane, skopeo]) if ('missing' in tool) throw new Error(tool.missing);
  if ('missing' in crane || 'missing' in skopeo) return;
  const env = { ...isolated(scratch), _CONTAINERS_ROOTLESS_UID: '1' };
  const skopeoPull = async (name: string, isIndex: boolean): Promise<Buffer | string> => {
    // It copies no index that it would have written otherwise.
    if (isIndex) return (await run(skopeo.path, ['inspect', '--raw', '--tls-verify=false', `docker://${name}`], { env })).stdout;
    const directory = await mkdtemp(path.join(scratch, 'copy-'));
    const copy = ['--insecure-policy', 'copy', '--preserve-digests', '--src-tls-verify=false', `docker://${name}`, `dir:${directory}`];
    await run(skopeo.path, copy, { env });
    return readFile(path.join(directory, 'manifest.json'));
  };
  const tags = [...manifests].flatMap(([where, body]) => {
    const [, repository, tag] = /^\/v2\/(.+)\/manifests\/([^:]+)$/.exec(where) ?? [];
    const isIndex = (JSON.parse(body) as { manifests?: unknown }).manifests !== undefined;
    return tag === undefined ? [] : [{ name: `${host}/${repository}:${tag}`, digest: digestOf(body), isIndex }];
  });
  for (const { name, digest, isIndex } of tags) {
    t.equal(await crane.pull(name), digest, `crane pull ${name}`);
    t.equal(digestOf(await skopeoPull(name, isIndex)), digest, `skopeo ${name}`);
  }
}

void t.test('a directory of docker-registry', { skip: missing }, async (t) => takenOver(t, await directoryPeer()));
void t.test('a bucket of docker-registry', { skip: missing || withoutS3 }, async (t) => takenOver(t, await bucketPeer()));

async function takenOver(t: Test, { registry: peer, storage, objects }: Peer): Promise<void> {
  const there = new HttpClient(peer.port);
  const pulls = await fill(there);
  const before = await original(objects);
  const { url } = await freshDatabase();
  const config = { database: { url }, storage, workers: { threads: 1 }, log: { level: 'warn' } };
  const configFile = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(configFile, JSON.stringify(config));
  const takeOver = async (...args: string[]) => {
    const { code, stdout, stderr } = await ha(['rebuild', '--from', 'distribution', '--config', configFile, '--json', ...args]);
    t.strictSame([code, stderr], [0, ''], `rebuild --from distribution ${args.join(' ')}`);
    return JSON.parse(stdout) as { repositories: number; manifests: number; tags: number; listed: { key: string; reason: string }[] };
  };
  const first = await takeOver('--verify');
  t.equal(first.repositories, 4, 'all repositories');
  t.same(first.listed, [], 'and nothing that does not fit');

  const start = async (at: string) => {
    const node = await startRegistry({ launch: (place) => serve(place, { ...config, database: { url: at } }) });
    return { node, client: new HttpClient(node.port) };
  };
  let { node, client } = await start(url);
  t.strictSame(await differences(client, pulls), [], 'every tag and digest pulls with the same bytes and type');
  t.equal((await client.send('GET', '/v2/plain/manifests/doomed')).status, 404, 'what was deleted stays so');
  const referrers = await client.send('GET', `/v2/plain/referrers/${digestOf(pulls.manifests.get('/v2/plain/manifests/one') ?? '')}`);
  t.equal((JSON.parse(referrers.body.toString()) as { manifests: unknown[] }).manifests.length, 1, 'referrers are listed');
  await t.test('by real clients', (t) => clientPulls(t, node, pulls));
  t.strictSame(await original(objects), before, 'nothing of the original was touched');
  t.same(await objects.keys(/^data\//), [], 'and no blob was copied');
  const ranged = await client.send('GET', [...pulls.blobs.keys()][0] ?? '', { headers: { Range: 'bytes=10-19' } });
  t.ok(ranged.body.equals(([...pulls.blobs.values()][0] ?? Buffer.alloc(0)).subarray(10, 20)), 'ranges of what lies there');

  // Beside the node, which writes: a mount, a move, a deletion.
  const [foreign = ''] = [...pulls.blobs.keys()];
  const mounted = await client.send('POST', `/v2/mounted/blobs/uploads/?mount=${foreign.split('/').at(-1)}&from=plain`, { body: '' });
  t.equal(mounted.status, 201, 'a blob that was taken over is mounted');
  t.equal(
    (await putManifest(client, 'plain', 'one', pulls.manifests.get('/v2/plain/manifests/moved') ?? '')).status,
    201,
    'a tag is moved',
  );
  t.equal((await client.send('DELETE', '/v2/team/app/manifests/list')).status, 202, 'and one deleted');
  await client.send('DELETE', `/v2/a-b.c_d/manifests/${digestOf(pulls.manifests.get('/v2/a-b.c_d/manifests/schema2') ?? '')}`);
  const late = bytesOf(700, 'late');
  await push(there, 'plain', late);
  await tag(there, 'plain', 'late', imageOf([late]));
  const after = await databaseState(url);
  const second = await takeOver();
  t.ok(second.manifests > 0, 'it is done again, beside a node');
  t.equal((await client.send('GET', '/v2/plain/manifests/late')).body.toString(), imageOf([late]), 'what came since is there');
  t.equal(
    (await client.send('GET', '/v2/plain/manifests/one')).body.toString(),
    pulls.manifests.get('/v2/plain/manifests/moved'),
    'what was moved here stays',
  );
  t.equal((await client.send('GET', '/v2/team/app/manifests/list')).status, 404, 'a tag that was deleted here stays deleted');
  t.equal((await client.send('GET', '/v2/a-b.c_d/manifests/schema2')).status, 404, 'so does a manifest');
  const changed = await stateDifferences(url, after);
  t.ok(
    changed.every(
      (line) => /late/.test(line) || line.includes(digestOf(late).slice(7)) || line.includes(digestOf(imageOf([late])).slice(7)),
    ),
    `nothing else changes: ${changed.join('\n')}`,
  );
  t.equal(
    (await there.send('GET', '/v2/plain/manifests/one', { headers: { Accept: types.manifest } })).body.toString(),
    pulls.manifests.get('/v2/plain/manifests/one'),
    'docker-registry reads its own as ever',
  );
  await until(
    'nothing is left to delete',
    async () => (await rowsOf(url, 'SELECT FROM object_trash WHERE not_before < now()')).length === 0,
  );
  client.close();
  await node.stop();

  // The store alone is enough, links to what lies elsewhere included.
  const state = await databaseState(url);
  const fresh = await freshDatabase();
  await writeFile(configFile, JSON.stringify({ ...config, database: { url: fresh.url } }));
  const { code, stderr } = await ha(['rebuild', '--config', configFile]);
  t.strictSame([code, stderr], [0, ''], 'a rebuild of what was taken over');
  t.strictSame(await stateDifferences(fresh.url, state), [], 'gives the same, row by row');
  ({ node, client } = await start(fresh.url));
  t.ok(
    (await client.send('GET', foreign.replace('/v2/plain/', '/v2/mounted/'))).body.equals(pulls.blobs.get(foreign) ?? Buffer.alloc(0)),
    'with the mount',
  );
  client.close();
  await node.stop();
  there.close();
  await peer.stop();
}

void t.test('a store without one', async (t) => {
  const { url } = await freshDatabase();
  const root = await temporaryDirectory('none-');
  const configFile = path.join(root, 'registry.yaml');
  await writeFile(configFile, JSON.stringify({ database: { url } }));
  await nothing(t, ['rebuild', '--from', 'distribution', '--config', configFile, '--root', root], 1, 'holds nothing of distribution');
  await nothing(t, ['rebuild', '--from', 'harbor', '--config', configFile, '--root', root], 2, 'harbor');
  await nothing(t, ['rebuild', '--from', 'distribution', '--replace', '--config', configFile, '--root', root], 2, '--replace');
});

async function nothing(t: Test, args: readonly string[], expected: number, cause: string): Promise<void> {
  const { code, stderr } = await ha(args);
  t.equal(code, expected, args.slice(0, 4).join(' '));
  t.match(stderr, cause, 'says why');
}
