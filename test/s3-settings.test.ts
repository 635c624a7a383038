// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of `storage.s3` that say how a node and its clients reach the bucket, each on a real server. */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import path from 'node:path';
import { HeadObjectCommand, paginateListObjectsV2 } from '@aws-sdk/client-s3';
import t, { type Test } from 'tap';
import { FollowingClient, type HttpClient } from './support/http-client.js';
import { makePrivateAuthority } from './support/private-authority.js';
import { temporaryDirectory } from './support/registry.js';
import { startS3Proxy } from './support/s3-proxy.js';
import { ownS3Server, s3Server, s3Settings, stopS3Servers, type S3Server, type S3ServerExtras } from './support/s3-server.js';
import { bytesOf, imageWithBlobs, pushBlob, putManifest, startWireNode, stopWireNode, type WireNode } from './support/wire-suite.js';

const MiB = 1024 * 1024;
const shared = await s3Server();
t.teardown(stopS3Servers);
const missing = 'missing' in shared && `THE SETTINGS OF S3 ARE NOT TESTED: ${shared.missing}`;
if (missing) console.error(missing);

function withServer(
  title: string,
  extras: () => Promise<S3ServerExtras | undefined>,
  test: (t: Test, server: S3Server) => Promise<void>,
): void {
  void t.test(title, { skip: missing }, async (t) => {
    const own = await extras();
    const server = own === undefined ? shared : await ownS3Server(own);
    if ('missing' in server) throw new Error(server.missing);
    if (own !== undefined) t.teardown(() => server.stop());
    await test(t, server);
  });
}

const onShared = (): Promise<undefined> => Promise.resolve(undefined);

async function startNode(t: Test, s3: object, env: Readonly<Record<string, string>> = {}): Promise<WireNode> {
  const node = await startWireNode('uws', { storage: { s3 } }, { env });
  t.teardown(() => stopWireNode(node));
  return node;
}

/** What a node cannot start with, in its own words. */
async function refusal(s3: object, env: Readonly<Record<string, string>> = {}): Promise<string> {
  return startWireNode('uws', { storage: { s3 } }, { env }).then(
    (node) => stopWireNode(node).then(() => 'it started'),
    (error: unknown) => /^ha-registry: .*$/m.exec((error as Error).message)?.[0] ?? String(error),
  );
}

/** Objects of every way to write one: small and in parts, link, manifest and tag. */
async function pushAndPull(t: Test, client: HttpClient): Promise<void> {
  for (const size of [1000, 9 * MiB]) {
    const bytes = bytesOf(size, `settings ${size}`);
    const digest = await pushBlob(client, 'set/tings', bytes);
    t.ok((await client.send('GET', `/v2/set/tings/blobs/${digest}`)).body.equals(bytes), `${size} bytes`);
  }
  const image = await imageWithBlobs(client, 'set/tings', ['layer']);
  t.equal((await putManifest(client, 'set/tings', 'v1', image)).status, 201, 'an image');
}

async function keysOf({ client }: S3Server, Bucket: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket })) keys.push(...Contents.map(({ Key = '' }) => Key));
  return keys;
}

let authority: ReturnType<typeof makePrivateAuthority> | undefined;
const tls = () => (authority ??= makePrivateAuthority());

withServer(
  'a server whose certificate is of a private authority',
  async () => ({ tls: await tls() }),
  async (t, server) => {
    const { caFile } = await tls();
    const settings = await s3Settings(server);
    t.match(await refusal(settings), /^ha-registry: storage\.s3\.ca_file: the certificate of https:\S+ is not trusted: /, 'is not trusted');
    const node = await startNode(t, { ...settings, ca_file: caFile });
    await pushAndPull(t, node.client);
    const redirecting = await startNode(t, { ...(await s3Settings(server)), ca_file: caFile, redirect: true });
    const bytes = bytesOf(50_000);
    const digest = await pushBlob(redirecting.client, 'a', bytes);
    const { status, headers } = await redirecting.client.send('GET', `/v2/a/blobs/${digest}`);
    t.equal(status, 307, 'clients are sent there');
    const ca = await readFile(caFile, 'utf8');
    const body = await new Promise<Buffer>((resolve, reject) => {
      const asked = request(
        headers.location ?? '',
        { ca },
        (reply) => void reply.toArray().then((pieces) => resolve(Buffer.concat(pieces as Buffer[])), reject),
      );
      asked.on('error', reject).end();
    });
    t.ok(body.equals(bytes), 'and get the blob');
  },
);

withServer(
  'objects that the server encrypts',
  async () => ({ environment: { MINIO_KMS_SECRET_KEY: `some-key:${randomBytes(32).toString('base64')}` } }),
  async (t, server) => {
    for (const [sse, expected] of [
      [undefined, [undefined, undefined]],
      [{ algorithm: 'AES256' }, ['AES256', undefined]],
      [{ algorithm: 'aws:kms', kms_key_id: 'some-key' }, ['aws:kms', 'arn:aws:kms:some-key']],
    ] as const) {
      const settings = await s3Settings(server, sse === undefined ? {} : { sse });
      const { client } = await startNode(t, settings);
      await pushAndPull(t, client);
      const keys = await keysOf(server, settings.bucket);
      t.ok(keys.length > 10, `${keys.length} objects`);
      for (const Key of keys) {
        const head = await server.client.send(new HeadObjectCommand({ Bucket: settings.bucket, Key }));
        t.strictSame([head.ServerSideEncryption, head.SSEKMSKeyId], expected, Key.replaceAll(/[0-9a-f]{12,}/g, '…'));
      }
    }
  },
);

withServer("AWS's own ways to credentials and region", onShared, async (t, server) => {
  const { accessKeyId, secretAccessKey } = server;
  const { bucket, endpoint } = (await s3Settings(server)) as { bucket: string; endpoint: string };
  const directory = await temporaryDirectory('credentials-');
  const file = (name: string): string => path.join(directory, name);
  await writeFile(file('credentials'), `[registry]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`);
  await writeFile(file('config'), '[profile registry]\nregion = eu-central-1\n');
  await writeFile(file('secret'), `${secretAccessKey}\n`);
  const nothing = { AWS_SHARED_CREDENTIALS_FILE: file('none'), AWS_CONFIG_FILE: file('none'), AWS_EC2_METADATA_DISABLED: 'true' };
  t.match(await refusal({ bucket, endpoint }, nothing), /^ha-registry: storage\.s3\.credentials: /, 'there are none');
  const profile = { AWS_SHARED_CREDENTIALS_FILE: file('credentials'), AWS_CONFIG_FILE: file('config'), AWS_PROFILE: 'registry' };
  for (const [what, env, more] of [
    ['the environment', { ...nothing, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }, {}],
    ['a profile of the shared files', profile, {}],
    ['a file of the secret', nothing, { credentials: { access_key_id: accessKeyId, secret_access_key_file: file('secret') } }],
  ] as const) {
    await t.test(what, async (t) => pushAndPull(t, (await startNode(t, { bucket: await server.bucket(), endpoint, ...more }, env)).client));
  }
});

withServer('where clients reach the server', onShared, async (t, server) => {
  const proxy = await startS3Proxy(server.endpoint);
  t.teardown(() => proxy.close());
  const { port, client } = await startNode(t, await s3Settings(server, { redirect: true, public_endpoint: proxy.endpoint }));
  t.teardown(() => client.close());
  t.equal(proxy.seen.length, 0, 'the node itself does not go there');
  const following = new FollowingClient(port);
  t.teardown(() => following.close());
  await pushAndPull(t, following);
  t.ok(following.followed > 0 && proxy.seen.length === following.followed, `${following.followed} redirects go there`);
  t.ok(
    proxy.seen.every(({ method, url }) => method === 'GET' && url.includes('X-Amz-Signature=')),
    'with addresses that were signed for it',
  );
});

withServer('a bucket that is shared', onShared, async (t, server) => {
  const settings = await s3Settings(server);
  const [one, two] = [await startNode(t, { ...settings, prefix: 'team/one' }), await startNode(t, { ...settings, prefix: 'team/two/' })];
  await pushAndPull(t, one.client);
  t.strictSame(
    (await keysOf(server, settings.bucket)).filter((key) => !/^team\/(one|two)\/[a-z]/.test(key)),
    [],
    'nobody writes outside of its prefix',
  );
  t.match((await two.client.send('GET', '/v2/_catalog')).body.toString(), /"repositories":\[\]/, 'and nobody sees what is below another');
  await pushAndPull(t, two.client);
});

withServer(
  'the bucket in the name of the host',
  async () => ({ environment: { MINIO_DOMAIN: 'localhost' } }),
  async (t, server) => {
    // Few machines resolve names below localhost; the node is taught to.
    const names = path.join(await temporaryDirectory('names-'), 'names.mjs');
    await writeFile(
      names,
      `import dns from 'node:dns';
       const { lookup } = dns;
       dns.lookup = (name, ...more) => lookup(name.endsWith('.localhost') ? '127.0.0.1' : name, ...more);`,
    );
    const settings = await s3Settings(server, { endpoint: server.endpoint.replace('127.0.0.1', 'localhost') });
    t.match(await refusal({ ...settings, force_path_style: false }), /storage\.s3\.endpoint: .*ENOTFOUND/, 'is asked for under that name');
    const { client } = await startNode(t, { ...settings, force_path_style: false, redirect: true }, { NODE_OPTIONS: `--import ${names}` });
    const digest = await pushBlob(client, 'a', bytesOf(9 * MiB));
    const { headers } = await client.send('GET', `/v2/a/blobs/${digest}`);
    t.equal(new URL(headers.location ?? '').hostname, `${settings.bucket}.localhost`, 'and clients are sent to it');
    const byPath = new URL(headers.location ?? '');
    t.ok(byPath.pathname.startsWith('/data/'), 'whose path is the key alone');
  },
);
