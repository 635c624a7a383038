// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Files of access control that are wrong, or empty: what an operator is told of them. */
import { generateKeyPairSync } from 'node:crypto';
import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { exportJWK } from 'jose';
import t from 'tap';
import { parseCertificates } from '../../src/access/token/certificate-chain.js';
import { parseKeyFile } from '../../src/access/token/file-keys.js';
import { parseKeySet } from '../../src/access/token/key-set.js';
import { openFileKeys } from '../../src/access/workload/issuer-keys.js';
import { checkFiles } from '../../src/config/check-files.js';
import { loadConfig } from '../../src/config/config.js';
import { startConfigured } from '../support/configured-node.js';
import { HttpClient } from '../support/http-client.js';
import { temporaryDirectory } from '../support/registry.js';
import { bytesOf, digestOf, until } from '../support/wire-suite.js';
import { basic, hashOf, passwords } from './people.js';

const directory = await temporaryDirectory('files-');
const file = (name: string): string => path.join(directory, name);

const pem = (kind: string) => `-----BEGIN ${kind}-----\nbm90aGluZw==\n-----END ${kind}-----\n`;

void t.test('no words of libraries', (t) => {
  for (const [parse, text, message] of [
    [parseKeySet, '{"keys": [', 'it is no JSON'],
    [parseKeySet, '{"keys": []}', 'there is no public key for signatures in it'],
    [parseCertificates, pem('CERTIFICATE'), 'the certificate 1 in it cannot be read'],
    [parseKeyFile, pem('PRIVATE KEY'), 'a private key in it cannot be read'],
  ] as const)
    t.throws(() => parse(text), { message });
  t.end();
});

void t.test('what is told of an htpasswd file', async (t) => {
  const [list, config] = [file('htpasswd'), file('registry.yaml')];
  await writeFile(config, `access: { htpasswd_file: ${list} }\n`);
  await writeFile(list, '# nobody\n');
  t.strictSame(await checkFiles(loadConfig(config)), [`access.htpasswd_file: ${list}: nobody is in it`]);
  await writeFile(list, `alice:${await hashOf('x')}\n`);
  t.strictSame(await checkFiles(loadConfig(config)), []);
  await writeFile(list, `alice:${await hashOf('x')}\nbob:$argon2id$v=19$m=2097152,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g\n`);
  t.throws(() => loadConfig(config), {
    message: /registry\.yaml:1: access\.htpasswd_file: .*htpasswd: line 2: argon2's m \(KiB\) is to be 8 /,
  });
  await writeFile(config, 'identity:\n  alice: { password: "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g" }\n');
  t.throws(() => loadConfig(config), { message: /registry\.yaml:2: identity\.alice\.password: argon2's m \(KiB\) is to be 8 / });
});

void t.test('an issuer whose keys are gone', async (t) => {
  const place = file('keys.json');
  const { publicKey } = generateKeyPairSync('ed25519');
  await writeFile(place, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'EdDSA' }] }));
  const told: unknown[] = [];
  const keys = openFileKeys(place, { onChange: () => t.fail('nothing changes'), onError: (error) => told.push(error) });
  t.teardown(() => keys.close());
  const find = () => keys.find({ alg: 'EdDSA', kid: 'k' }, { payload: '', signature: '' });
  t.ok(await find());
  await replace(place, '{"keys": []}');
  await until('it is told', () => told.length > 0);
  t.match(told, [{ message: 'there is no public key for signatures in it' }]);
  t.ok(await find(), 'what was known goes on');
});

void t.test('while a node runs', { buffered: true }, async (t) => {
  const list = file('people');
  await writeFile(list, `reader:${await hashOf(passwords.reader)}\n`);
  const settings = { access: { htpasswd_file: list, challenge: 'basic' } };
  const node = await startConfigured(t, 'uws', settings);
  const client = new HttpClient(node.port);
  t.teardown(() => client.close());
  const layer = bytesOf(2_000, 'layer');
  const push = async (repository: string) =>
    (await client.send('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(layer)}`, { headers: basic('reader'), body: layer }))
      .status;
  t.equal(await push('one'), 201);
  t.equal(await node.reload({ ...settings, quota: { default: '1KiB' } }), 'taken');
  t.notMatch(node.log(), /only from the next start/);
  t.equal(await push('two'), 403, 'quotas hold at once');
  t.equal(await node.reload(settings), 'taken');
  t.equal(await push('two'), 201, 'and end');

  await replace(list, 'reader:secret\n');
  const lineOf = (pattern: RegExp) =>
    until('it is told', () =>
      node
        .log()
        .split('\n')
        .find((line) => pattern.test(line)),
    );
  const wrong = JSON.parse(await lineOf(/is not as it should be/)) as { err: object };
  t.match(wrong, { level: 'warn', err: { message: /^line 1: expected a bcrypt or argon2 hash/ } });
  t.notOk('stack' in wrong.err, 'a warning has no stack');
  t.equal((await client.send('GET', '/v2/', { headers: basic('reader') })).status, 200, 'what was before goes on');
  await writeFile(list, '');
  await lineOf(/"level":"warn".*people \(access\.htpasswd_file\) has nobody in it any more/);
  t.equal((await client.send('GET', '/v2/', { headers: basic('reader') })).status, 401);
});

/** Whoever looks at that moment sees the one or the other. */
async function replace(name: string, content: string): Promise<void> {
  await writeFile(`${name}.new`, content);
  await rename(`${name}.new`, name);
}
