// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who a client is by its certificate, and when it does not count; what goes over the wire is in mutual-tls.test.ts. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import {
  listWarnings,
  openClientCertificates,
  readTrust,
  type CertificateSettings,
  type ClientCertificates,
} from '../../src/access/certificate/client-certificates.js';
import { isAnonymous } from '../../src/access/identity.js';
import { RegistryError } from '../../src/oci/errors.js';
import { Authority, Extension, type Issued } from '../support/authority.js';
import { run } from '../support/command.js';
import { temporaryDirectory } from '../support/registry.js';
import { until } from '../support/wire-suite.js';

const directory = await temporaryDirectory('certificates-');
const root = await Authority.make('root');
let files = 0;

async function fileOf(content: string | Uint8Array): Promise<string> {
  const file = path.join(directory, String(files++));
  await writeFile(file, content);
  return file;
}

interface Opened {
  readonly certificates: ClientCertificates;
  readonly warnings: string[];
  readonly clock: { ms: number };
}

async function open(more: Partial<CertificateSettings> = {}): Promise<Opened> {
  const settings: CertificateSettings = {
    authoritiesFile: await fileOf(root.pem),
    listFile: undefined,
    isRequired: false,
    idFrom: 'common_name',
    hasGroups: false,
    ...more,
  };
  const warnings: string[] = [];
  const clock = { ms: Date.now() };
  const certificates = await openClientCertificates(
    settings,
    (line) => warnings.push(line),
    () => clock.ms,
  );
  t.teardown(() => certificates.close());
  return { certificates, warnings, clock };
}

/** What is said of it, or why it does not count. */
function ask({ certificates }: Opened, shown: Issued | undefined) {
  try {
    return certificates.identityOf({ clientCertificate: shown?.cert });
  } catch (error) {
    if (error instanceof RegistryError && error.status === 403 && error.headers['Connection'] === 'close') return error.message;
    throw error;
  }
}

/** As it is, where the library would look for quotes. */
const as = (utf8String: string) => [{ utf8String }] as unknown as string[];

void t.test('whom a certificate names', async (t) => {
  const subject = [{ CN: as('ci, "x"=1/y+z') }, { CN: as('zweite böse Ünïcode ☃') }, { O: as('Dev\\Ops') }, { O: as('b') }];
  const names = [
    { type: 'dns', value: 'runner.example' },
    { type: 'email', value: 'ci@example.org' },
    { type: 'url', value: 'spiffe://example.org/ci' },
  ] as const;
  const issued = await root.issue(subject, { names });
  const certificate = { common_names: ['ci, "x"=1/y+z', 'zweite böse Ünïcode ☃'], organizations: ['Dev\\Ops', 'b'] };
  for (const [idFrom, id] of [
    ['common_name', 'ci, "x"=1/y+z'],
    ['san_dns', 'runner.example'],
    ['san_email', 'ci@example.org'],
    ['san_uri', 'spiffe://example.org/ci'],
    ['none', ''],
  ] as const) {
    const opened = await open({ idFrom });
    t.match(ask(opened, issued), { id, groups: [], certificate }, idFrom);
    t.equal(ask(opened, issued), ask(opened, issued), 'is always the same one');
  }
  t.match(ask(await open({ hasGroups: true }), issued), { groups: ['Dev\\Ops', 'b'] }, 'organizations as groups');
  const nameless = ask(await open({ idFrom: 'san_dns' }), await root.issue('O=somebody'));
  t.ok(typeof nameless === 'object' && isAnonymous(nameless), 'who has no name is nobody');
  t.match(nameless, { certificate: { organizations: ['somebody'] } }, 'with a certificate');
  const odd = ask(await open(), await root.issue([{ CN: ['two\nlines'] }]));
  t.ok(typeof odd === 'object' && isAnonymous(odd), 'a line feed is in no name');
});

void t.test('whose it is, and until when', async (t) => {
  const [intermediate, stranger] = [await Authority.make('intermediate', root), await Authority.make('stranger')];
  const [direct, below, foreign] = [await root.issue('CN=a'), await intermediate.issue('CN=b'), await stranger.issue('CN=c')];
  const opened = await open();
  t.match(ask(opened, direct), { id: 'a' });
  t.match(ask(opened, below), /authority that does not count/, 'its authority has to be in the bundle, whatever the client sent along');
  t.match(ask(opened, foreign), /authority that does not count/);
  const both = await open({ authoritiesFile: await fileOf(intermediate.pem + root.pem) });
  t.match(ask(both, below), { id: 'b' });
  opened.clock.ms += 25 * 3_600_000;
  t.match(ask(opened, direct), /expired/, 'on a connection that is older');
  t.equal(ask(opened, undefined), undefined, 'none is none');
  t.match(ask(await open({ isRequired: true }), undefined), /required/);
  t.match(ask(opened, { cert: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n', key: '' }), /cannot be read/);
  for (const [bundle, cause] of [
    ['', /no certificate in it/],
    [direct.cert, /is no authority/],
    [intermediate.pem, /no root in it/],
    [root.pem + (await Authority.make('below', intermediate)).pem, /authority of .*below.* is not in it/],
  ] as const)
    await t.rejects(open({ authoritiesFile: await fileOf(bundle) }), { file: 'authorities', message: cause });
});

void t.test('lists of revoked certificates', async (t) => {
  const intermediate = await Authority.make('intermediate', root);
  const [good, bad, below] = [await root.issue('CN=good'), await root.issue('CN=bad'), await intermediate.issue('CN=below')];
  const { pem, der } = await root.list({ revoked: [bad] });
  for (const [kind, bytes] of [
    ['PEM', pem],
    ['DER', der],
  ] as const) {
    const opened = await open({ listFile: await fileOf(bytes) });
    t.match(ask(opened, good), { id: 'good' }, kind);
    t.match(ask(opened, bad), /was revoked/, kind);
    t.strictSame(opened.warnings, []);
    opened.clock.ms += 2 * 3_600_000;
    t.match(ask(opened, good), /is not known/, 'past its next update nobody counts');
    t.match(ask(opened, good), /is not known/);
    t.equal(opened.warnings.length, 1, 'which is told once');
    t.match(opened.warnings[0], /client_crl_file.*CN=root is out of date/);
    opened.clock.ms -= 4 * 3_600_000;
    t.match(ask(opened, good), /is not known|expired/, 'nor before it began');
  }
  const authoritiesFile = await fileOf(root.pem + intermediate.pem);
  const ofRoot = await open({ authoritiesFile, listFile: await fileOf(pem) });
  t.match(ofRoot.warnings, [/no revocation list of CN=intermediate/]);
  t.match(ask(ofRoot, below), /is not known/, 'an authority without a list counts for nothing');
  const ofIntermediate = await open({ authoritiesFile, listFile: await fileOf((await intermediate.list()).pem) });
  t.match(ofIntermediate.warnings, [/no revocation list of CN=root/]);
  t.match(ask(ofIntermediate, below), /is not known/, 'nor does one that it signed');
  const ofBoth = await open({ authoritiesFile, listFile: await fileOf(pem + (await intermediate.list()).pem) });
  t.match(ask(ofBoth, below), { id: 'below' }, 'several lists in one file');
  const old = await root.list({ revoked: [good], from: new Date(Date.now() - 4 * 3_600_000) });
  t.match(ask(await open({ listFile: await fileOf(pem + old.pem) }), good), { id: 'good' }, 'the newest of them counts');
  const withoutIntermediate = await root.list({ revoked: [{ cert: intermediate.pem, key: '' }] });
  const cut = await open({ authoritiesFile, listFile: await fileOf(withoutIntermediate.pem + (await intermediate.list()).pem) });
  t.match(ask(cut, below), /was revoked/, 'with its authority');

  const impostor = await Authority.make('root');
  for (const [what, bytes, cause] of [
    ['of another authority', (await (await Authority.make('other')).list()).pem, /CN=other is signed by none/],
    ['signed by somebody with the same name', (await impostor.list()).pem, /CN=root is signed by none/],
    ['a delta', (await root.list({ extensions: [new Extension('2.5.29.27', true, Buffer.from('020101', 'hex'))] })).pem, /delta/],
    ['nothing', '', /./],
    ['a certificate', root.pem, /no revocation list in it/],
    ['a broken one', der.subarray(0, 100), /./],
  ] as const)
    await t.rejects(open({ listFile: await fileOf(bytes) }), { file: 'list', message: cause }, what);
});

void t.test('a list that changes on disk', async (t) => {
  const [some, other] = [await root.issue('CN=some'), await root.issue('CN=other')];
  const listFile = await fileOf((await root.list()).pem);
  const opened = await open({ listFile });
  t.match(ask(opened, some), { id: 'some' });
  await writeFile(listFile, 'no list');
  await until('it is told', () => opened.warnings.length > 0);
  t.match(opened.warnings[0], /what was before goes on/);
  t.match(ask(opened, some), { id: 'some' }, 'what is no list changes nothing');
  await writeFile(listFile, (await root.list({ revoked: [some] })).pem);
  await until('it is revoked', () => ask(opened, some) === 'the client certificate was revoked');
  t.match(ask(opened, other), { id: 'other' });
  t.equal(opened.warnings.length, 1);
});

void t.test("openssl's lists", async (t) => {
  const hasOpenssl = await run('openssl', ['version']).then(
    () => true,
    () => false,
  );
  if (!hasOpenssl) return t.comment('NOT TESTED: there is no openssl(1)');
  const place = await temporaryDirectory('openssl-');
  const openssl = (...args: string[]) => run('openssl', args, { cwd: place });
  await writeFile(
    path.join(place, 'ca.cnf'),
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha384\ndefault_crl_days=1\n',
  );
  await writeFile(path.join(place, 'index'), '');
  await writeFile(path.join(place, 'number'), '01');
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2'];
  await openssl(...request, '-subj', '/CN=rsa', '-keyout', 'ca.key', '-out', 'ca.crt');
  const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-addext', 'basicConstraints=critical,CA:FALSE'];
  for (const name of ['in', 'out'])
    await openssl(...request, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.crt`, ...signer);
  const asAuthority = ['ca', '-config', 'ca.cnf', '-keyfile', 'ca.key', '-cert', 'ca.crt'];
  await openssl(...asAuthority, '-revoke', 'out.crt', '-crl_reason', 'keyCompromise');
  await openssl(...asAuthority, '-gencrl', '-out', 'list.pem');
  const file = (name: string) => path.join(place, name);
  const opened = await open({ authoritiesFile: file('ca.crt'), listFile: file('list.pem') });
  const shown = async (name: string): Promise<Issued> => ({ cert: await readFile(file(`${name}.crt`), 'utf8'), key: '' });
  t.match(ask(opened, await shown('in')), { id: 'in' });
  t.match(ask(opened, await shown('out')), /was revoked/);
  t.strictSame(listWarnings(await readTrust({ authoritiesFile: file('ca.crt'), listFile: file('list.pem') }), Date.now()), []);
});
