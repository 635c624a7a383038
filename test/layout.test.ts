// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `ha-registry export` and `import`: image layouts as directories and archives, written and read by us and by skopeo. */
import { existsSync } from 'node:fs';
import { appendFile, cp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pack } from 'tar-stream';
import t, { type Test } from 'tap';
import { readLayout } from '../src/layout/import-layout.js';
import { openSource } from '../src/layout/layout-source.js';
import { dataKey } from '../src/storage/keys.js';
import { bareBucket, bareDirectory, type BareStore } from './support/bare-store.js';
import { run } from './support/command.js';
import { rowsOf } from './support/database-state.js';
import { HttpClient } from './support/http-client.js';
import { freshDatabase } from './support/postgres.js';
import { ha, type Ending } from './support/program.js';
import { startRegistry, temporaryDirectory, type RunningRegistry } from './support/registry.js';
import { stopS3Servers } from './support/s3-server.js';
import { missingStore, newStore } from './support/stores.js';
import { bytesOf, describe, digestOf, imageWithBlobs, indexOf, openSession, putManifest, types, withDigest } from './support/wire-suite.js';

const big = bytesOf(3_000_000);

const kinds = ['filesystem', 's3'] as const;
type Kind = (typeof kinds)[number];

t.jobs = 2;
t.teardown(stopS3Servers);

interface Place {
  readonly node: RunningRegistry;
  readonly client: HttpClient;
  readonly url: string;
  readonly store: BareStore;
  /** Of the nodes and commands on its store. */
  readonly storage: object;
  /** Runs a command beside the node. */
  readonly ha: (...args: string[]) => Promise<Ending>;
}

async function startPlace(t: Test, kind: Kind): Promise<Place> {
  const { url } = await freshDatabase();
  const { root, storage, bucket } = await newStore(kind);
  const config = { database: { url }, storage, workers: { threads: 1 }, log: { level: 'warn' } };
  const node = await startRegistry({ root, config });
  const client = new HttpClient(node.port);
  const configFile = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(configFile, JSON.stringify(config));
  t.teardown(async () => {
    client.close();
    await node.stop();
  });
  const store = bucket === undefined ? bareDirectory(path.join(root, 'store')) : bareBucket(bucket.server, bucket.name);
  return { node, client, url, store, storage, ha: (...args) => ha([...args, '--root', root, '--config', configFile]) };
}

function onBothStores(title: string, suite: (t: Test, kind: Kind) => Promise<unknown>): void {
  for (const kind of kinds) {
    void t.test(`${title}: ${kind}`, { buffered: true }, async (t) => {
      const missing = await missingStore(kind);
      if (missing !== false) return t.plan(0, missing);
      return suite(t, kind);
    });
  }
}

const repository = 'team/export/app';
const blob = (digest: string) => path.join('blobs', ...digest.split(':'));
const copy = (...args: string[]) =>
  run('skopeo', ['--insecure-policy', 'copy', '--quiet', '--preserve-digests', '--dest-tls-verify=false', ...args]);

/** An index with two images and a third that is not there, a signature of the index and one of the signature, and an image whose layer is known by sha512. */
async function populate(
  client: HttpClient,
): Promise<{ readonly index: string; readonly image: string; readonly signatures: readonly string[] }> {
  const images = [await imageWithBlobs(client, repository, [big]), await imageWithBlobs(client, repository, ['arm64', ''])];
  for (const image of images) await putManifest(client, repository, digestOf(image), image);
  const index = indexOf([...images.map((image) => describe(types.manifest, image)), describe(types.manifest, 'not mirrored')]);
  await putManifest(client, repository, 'multi', index, types.index);
  const signature = await imageWithBlobs(client, repository, ['signature'], {
    subject: describe(types.index, index),
    artifactType: 'test/signature',
  });
  const second = await imageWithBlobs(client, repository, ['of it'], { subject: describe(types.manifest, signature) });
  for (const manifest of [signature, second]) await putManifest(client, repository, digestOf(manifest), manifest);
  const long = digestOf('of many bits', 'sha512');
  await client.send('PUT', withDigest(await openSession(client, repository), long), { body: 'of many bits' });
  const layer = { mediaType: types.layer, digest: long, size: 12 };
  const image = JSON.stringify({ schemaVersion: 2, mediaType: types.manifest, config: describe(types.empty, '{}'), layers: [layer] });
  const { status } = await putManifest(client, repository, 'long', image);
  if (status !== 201) throw new Error(`pushing: ${status}`);
  return { index: digestOf(index), image: digestOf(image), signatures: [digestOf(signature), digestOf(second)] };
}

async function digestAt(client: HttpClient, name: string, reference: string): Promise<string | number> {
  const { status, body } = await client.send('GET', `/v2/${name}/manifests/${reference}`);
  return status === 200 ? digestOf(body) : status;
}

onBothStores('out and in again', async (t, kind) => {
  const from = await startPlace(t, kind);
  const to = await startPlace(t, kind);
  const { index, image, signatures } = await populate(from.client);
  const directory = await temporaryDirectory('layout-');
  for (const place of [path.join(directory, 'layout'), path.join(directory, 'layout.tar')]) {
    const name = path.basename(place).replace('.', '-');
    const exported = await from.ha('export', repository, place);
    t.match(exported, { code: 0, stderr: '', stdout: `${place}: 2 tags, 6 manifests, ` }, `export to ${name}`);
    t.match(exported.stdout, `not in ${repository}: ${digestOf('not mirrored')}`, 'names what an index lacks');
    const imported = await to.ha('import', place, `copies/${name}`, '--json');
    t.strictSame([imported.code, imported.stderr], [0, ''], 'import');
    t.match(JSON.parse(imported.stdout), { tags: ['long', 'multi'], manifests: 6, missing: [digestOf('not mirrored')], unnamed: [] });
    t.strictSame(
      [await digestAt(to.client, `copies/${name}`, 'multi'), await digestAt(to.client, `copies/${name}`, 'long')],
      [index, image],
      'the same digests',
    );
    const blob = await to.client.send('GET', `/v2/copies/${name}/blobs/${digestOf(big)}`);
    t.ok(blob.body.equals(big), 'and bytes');
    for (const [subject, referrer] of [
      [index, signatures[0]],
      [signatures[0], signatures[1]],
    ] as const) {
      const { body } = await to.client.send('GET', `/v2/copies/${name}/referrers/${subject}`);
      t.match(JSON.parse(body.toString()), { manifests: [{ digest: referrer }] }, 'with what refers to them');
    }
    const history = () => rowsOf(to.url, 'SELECT FROM tag_history');
    const before = (await history()).length;
    t.equal((await to.ha('import', place, `copies/${name}`)).code, 0, 'again');
    t.equal((await history()).length, before, 'changes nothing');
    const one = await to.ha('import', place, `copies/one-${name}:multi`, '--json');
    t.match(JSON.parse(one.stdout), { tags: ['multi'], manifests: 5 }, 'one image, with its referrers');
    t.equal(await digestAt(to.client, `copies/one-${name}`, 'multi'), index);
    const which = await to.ha('import', place, `copies/${name}:other`);
    t.match(which, { code: 1, stderr: /holds several images, none of which is named other: / }, 'or which one it is has to be said');
  }

  const added = path.join(directory, 'added');
  t.equal((await from.ha('export', `${repository}:long`, added)).code, 0, 'one tag');
  t.equal((await from.ha('export', `${repository}@${index}`, added)).code, 0, 'a digest, into the same directory');
  t.equal((await from.ha('export', `${repository}:long`, added)).code, 0, 'and the tag again');
  const listed = JSON.parse(await readFile(path.join(added, 'index.json'), 'utf8')) as {
    manifests: { digest: string; annotations?: object }[];
  };
  t.strictSame(listed.manifests.filter(({ digest }) => digest === image).length, 1, 'is there once');
  t.strictSame(listed.manifests.length, 4, 'with the index and its two signatures');
  t.match(await to.ha('import', added, 'copies/renamed:new'), { code: 1 });
  t.equal((await from.ha('export', `${repository}:long`, path.join(directory, 'single'))).code, 0);
  t.equal(
    (await to.ha('import', path.join(directory, 'single'), 'copies/renamed:new')).code,
    0,
    'the one image of a layout takes any name',
  );
  t.equal(await digestAt(to.client, 'copies/renamed', 'new'), image);

  const layers = ['pushed all the same', 'never pushed'];
  const windows = await imageWithBlobs(from.client, 'windows/app', layers.slice(0, 1), {
    layers: layers.map((layer) => describe(types.foreignLayer, layer)),
  });
  t.equal((await putManifest(from.client, 'windows/app', 'v1', windows)).status, 201);
  const whole = path.join(directory, 'windows');
  t.match(await from.ha('export', 'windows/app', whole), { code: 0, stderr: '', stdout: `${whole}: 1 tags, 1 manifests, 2 blobs, ` });
  const layerOf = async (name: string, layer: string): Promise<number> =>
    (await to.client.send('GET', `/v2/${name}/blobs/${digestOf(layer)}`)).status;
  t.match(JSON.parse((await to.ha('import', whole, 'windows/whole', '--json')).stdout), { tags: ['v1'], blobs: 2, missing: [] });
  t.strictSame(
    await Promise.all(layers.map((layer) => layerOf('windows/whole', layer))),
    [200, 404],
    'a non-distributable layer that is there',
  );
  await rm(path.join(whole, blob(digestOf('pushed all the same'))));
  t.match(JSON.parse((await to.ha('import', whole, 'windows/light', '--json')).stdout), { tags: ['v1'], blobs: 1, missing: [] });
  t.equal(await layerOf('windows/light', 'pushed all the same'), 404, 'or is not');

  for (const [what, args, line] of [
    ['no such tag', ['export', `${repository}:never`, path.join(directory, 'x')], /there is no team\/export\/app:never/],
    ['no such repository', ['export', 'never/was', path.join(directory, 'y')], /there is no repository never\/was/],
    ['a directory of something else', ['export', repository, directory], /is neither empty nor an OCI image layout/],
    ['an archive that exists', ['export', repository, path.join(directory, 'layout.tar')], /layout\.tar exists already/],
  ] as const) {
    const ending = await from.ha(...args);
    t.match(ending, { code: 1, stdout: '', stderr: line }, what);
    t.equal(ending.stderr.split('\n').length, 2, 'in one line');
  }
});

onBothStores('exports that cannot be', async (t, kind) => {
  const { ha: command, client, node, url, store, storage } = await startPlace(t, kind);
  const directory = await temporaryDirectory('exports-');
  const image = await imageWithBlobs(client, repository, [big]);
  await putManifest(client, repository, 'v1', image);
  const refused = async (what: string, place: string, line: RegExp, run = command): Promise<void> => {
    const ending = await run('export', repository, path.join(directory, place));
    t.match(ending, { code: 1, stdout: '', stderr: line }, what);
    t.equal(ending.stderr.split('\n').length, 2, 'in one line');
    t.same(
      (await readdir(directory)).filter((name) => name.endsWith('.partial')),
      [],
      'nothing half is left',
    );
  };
  const [row] = await rowsOf<{ uuid: string }>(url, `SELECT uuid FROM blobs WHERE size = ${big.byteLength}`);
  const data = dataKey(row?.uuid ?? '');
  await store.write(data, big.subarray(0, 100));
  const early = kind === 's3' ? /has no bytes 0 to 3000000/ : /ends at 100/;
  await refused('data that end early, into an archive', 'short.tar', early);
  await refused('data that end early, into a directory', 'short', early);
  await store.write(data, Buffer.alloc(big.byteLength));
  await refused('other bytes, into an archive', 'other.tar', /have another digest/);
  await store.remove(data);
  await refused('no data, into an archive', 'none.tar', kind === 's3' ? /NoSuchKey/ : /ENOENT/);
  await rowsOf(url, `UPDATE blobs SET damaged = true WHERE size = ${big.byteLength}`);
  await refused('data known to be damaged', 'damaged.tar', /is damaged in the store; pushing it again heals it/);
  await refused('a place whose parent is not there', 'no/such/place', /cannot be written: ENOENT/);
  const { url: another } = await freshDatabase();
  const configFile = path.join(directory, 'another.yaml');
  await writeFile(configFile, JSON.stringify({ database: { url: another }, storage }));
  const elsewhere = (...args: string[]) => ha([...args, '--root', node.root, '--config', configFile]);
  await refused('an empty database beside the store', 'foreign', /the database is empty/, elsewhere);
});

onBothStores('layouts that are none', async (t, kind) => {
  const { ha: command, client, url } = await startPlace(t, kind);
  await populate(client);
  const directory = await temporaryDirectory('broken-');
  const good = path.join(directory, 'good');
  await command('export', repository, good);
  const spoil = async (name: string, change: (at: string) => Promise<unknown>): Promise<string> => {
    const at = path.join(directory, name);
    await cp(good, at, { recursive: true });
    await change(at);
    return at;
  };
  const listed = JSON.parse(await readFile(path.join(good, 'index.json'), 'utf8')) as { manifests: { digest: string }[] };
  const manifests = listed.manifests.map(({ digest }) => digest);
  const tar = async (name: string, header: Parameters<ReturnType<typeof pack>['entry']>[0]): Promise<string> => {
    const archive = pack();
    archive.entry({ name: 'oci-layout' }, '{"imageLayoutVersion":"1.0.0"}');
    if (header.type === 'symlink') archive.entry(header);
    else archive.entry(header, 'x');
    archive.finalize();
    const chunks: Uint8Array[] = [];
    for await (const chunk of archive as AsyncIterable<Uint8Array>) chunks.push(chunk);
    const at = path.join(directory, name);
    await writeFile(at, Buffer.concat(chunks));
    return at;
  };
  const cut = path.join(directory, 'cut.tar');
  await command('export', repository, cut);
  await truncate(cut, 1_500_000);
  const text = path.join(directory, 'text.tar');
  await writeFile(text, 'not an archive, but long enough for a header\n'.repeat(40));
  for (const [what, place, line] of [
    ['nothing', path.join(directory, 'never'), /cannot be read: ENOENT/],
    ['no oci-layout', await spoil('a', (at) => rm(path.join(at, 'oci-layout'))), /it has no oci-layout/],
    [
      'another version',
      await spoil('b', (at) => writeFile(path.join(at, 'oci-layout'), '{"imageLayoutVersion":"2.0"}')),
      /names the version "2\.0"/,
    ],
    ['no index.json', await spoil('c', (at) => rm(path.join(at, 'index.json'))), /it has no index\.json/],
    [
      'an index.json that is none',
      await spoil('d', (at) => writeFile(path.join(at, 'index.json'), '{"schemaVersion":2,"manifests":7}')),
      /manifests must be an array/,
    ],
    [
      'a manifest that is missing',
      await spoil('e', (at) => rm(path.join(at, blob(manifests[0] ?? '')))),
      /lists sha256:[0-9a-f]{64}, which is not there/,
    ],
    [
      'a manifest that was changed',
      await spoil('f', (at) => appendFile(path.join(at, blob(manifests[0] ?? '')), ' ')),
      /has other bytes than its name says/,
    ],
    ['no archive', text, /is no tar archive, or a broken one/],
    ['half an archive', cut, /is no tar archive, or a broken one/],
    ['a path that leads out', await tar('out.tar', { name: '../../etc/passwd' }), /leads out of the layout/],
    ['an absolute path', await tar('absolute.tar', { name: '/etc/passwd' }), /leads out of the layout/],
    [
      'a symbolic link',
      await tar('link.tar', { name: 'index.json', type: 'symlink', linkname: '/etc/passwd', size: 0 }),
      /is a symlink, and only files/,
    ],
  ] as const) {
    await t.rejects(
      openSource(place).then((source) => readLayout(source, undefined, 4 * 1024 * 1024)),
      { name: 'LayoutError', message: line },
      what,
    );
  }
  for (const [what, place, line] of [
    [
      'a manifest that is lost',
      await spoil('lost', (at) => rm(path.join(at, blob(manifests[0] ?? '')))),
      /lists sha256:[0-9a-f]{64}, which/,
    ],
    [
      'a blob that is missing',
      await spoil('g', (at) => rm(path.join(at, blob(digestOf(big))))),
      /needs the blob sha256:[0-9a-f]{64}, which/,
    ],
    ['a blob that was changed', await spoil('h', (at) => writeFile(path.join(at, blob(digestOf(big))), 'other')), /has other bytes than/],
  ] as const) {
    const ending = await command('import', place, 'never/seen');
    t.match(ending, { code: 1, stdout: '', stderr: line }, what);
    t.equal(ending.stderr.split('\n').length, 2, 'in one line');
  }
  t.equal(
    (await command('import', await spoil('i', (at) => writeFile(path.join(at, blob(digestOf(big))), 'other')), repository)).code,
    1,
    'also where the blob is known',
  );
  t.strictSame(
    await rowsOf(url, `SELECT FROM repositories WHERE name = 'never/seen'`),
    [],
    'nothing of it was written, and the catalog does not name it',
  );
});

const skopeo = await run('skopeo', ['--version']).then(
  () => false as const,
  () => 'SKOPEO IS NOT THERE: layouts are not compared with its own',
);
if (skopeo) console.error(skopeo);

onBothStores('skopeo reads what we write, and we read what it writes', async (t, kind) => {
  if (skopeo) return t.plan(0, skopeo);
  const { node, client, ha: command } = await startPlace(t, kind);
  await populate(client);
  const directory = await temporaryDirectory('skopeo-');
  const at = (name: string) => path.join(directory, name);
  const simple = await imageWithBlobs(client, repository, ['simple']);
  await putManifest(client, repository, 'simple', simple);

  await command('export', repository, at('ours'));
  await command('export', `${repository}:simple`, at('ours.tar'));
  await copy(`oci:${at('ours')}:simple`, `docker://${node.host}/by/skopeo:directory`);
  await copy(`oci-archive:${at('ours.tar')}:simple`, `docker://${node.host}/by/skopeo:archive`);
  t.strictSame(
    [await digestAt(client, 'by/skopeo', 'directory'), await digestAt(client, 'by/skopeo', 'archive')],
    [digestOf(simple), digestOf(simple)],
  );

  const pull = (target: string) => copy('--src-tls-verify=false', `docker://${node.host}/${repository}:simple`, target);
  await pull(`oci:${at('theirs')}:v1`);
  await pull(`oci-archive:${at('theirs.tar')}:v2`);
  t.equal((await command('import', at('theirs'), 'from/skopeo')).code, 0);
  t.equal((await command('import', at('theirs.tar'), 'from/skopeo')).code, 0);
  t.strictSame(
    [await digestAt(client, 'from/skopeo', 'v1'), await digestAt(client, 'from/skopeo', 'v2')],
    [digestOf(simple), digestOf(simple)],
  );
  t.equal((await command('export', `${repository}:long`, at('theirs'))).code, 0, 'we add to its directory');
  await copy(`oci:${at('theirs')}:v1`, `docker://${node.host}/by/skopeo:still`);
  t.equal(await digestAt(client, 'by/skopeo', 'still'), digestOf(simple), 'and what was there stays');
  t.ok(
    existsSync(path.join(at('theirs'), 'index.json')) && (await readdir(directory)).every((name) => !name.includes('partial')),
    'nothing is left over',
  );
});
