// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The command line and the configuration file: what is refused says why, exits with 2, and has opened nothing. */
import { readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { Authority } from './support/authority.js';
import { CommandFailed, run } from './support/command.js';
import { connectEmbedded } from './support/embedded-connection.js';
import { HttpClient } from './support/http-client.js';
import { freePort, startRegistry, temporaryDirectory } from './support/registry.js';
import { startWireNode, stopWireNode } from './support/wire-suite.js';

const main = path.resolve(import.meta.dirname, '../dist/main.js');
const { version } = JSON.parse(await readFile(path.resolve(import.meta.dirname, '../package.json'), 'utf8')) as { version: string };

interface Ending {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function ha(args: readonly string[], env: Readonly<Record<string, string | undefined>> = {}, cwd?: string): Promise<Ending> {
  const options = { timeoutMs: 60_000, env, ...(cwd === undefined ? {} : { cwd }) };
  try {
    return { code: 0, ...(await run(process.execPath, [main, ...args], options)) };
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    return { code: Number(/^exit (\d+)$/.exec(error.outcome)?.[1] ?? -1), ...error.result };
  }
}

t.jobs = 2;

void t.test('help and version', { buffered: true }, async (t) => {
  for (const args of [['-h'], ['serve', '--help']]) {
    const { code, stdout, stderr } = await ha(args);
    t.strictSame([code, stderr], [0, ''], args.join(' '));
    for (const option of ['--config', '--host', '--port', '--storage', '--root', '--help', '--version']) t.match(stdout, option, option);
  }
  for (const args of [['-V'], ['serve', '--version']]) {
    t.strictSame(await ha(args), { code: 0, stdout: `${version}\n`, stderr: '' }, args.join(' '));
  }
});

void t.test('what is no command', { buffered: true }, async (t) => {
  const empty = await temporaryDirectory('nothing-');
  for (const [args, cause] of [
    [[], 'no command'],
    [['-p', '5001'], 'no command'],
    [['frobnicate'], 'frobnicate'],
    [['serve', 'twice'], 'twice'],
    [['--nonsense'], '--nonsense'],
    [['serve', '--port'], '--port'],
    [['serve', '-p', '70000'], 'server.port'],
    [['serve', '-p', '-1'], '-p'],
    [['serve', '--storage', 's4'], 's4'],
    [['serve', '--config', path.join(empty, 'none.yaml')], 'none.yaml'],
  ] as const) {
    const { code, stdout, stderr } = await ha(args, {}, empty);
    t.strictSame([code, stdout], [2, ''], `${args.join(' ')}: ${stderr.split('\n', 1)[0]}`);
    t.ok(stderr.startsWith('ha-registry: '), 'says who says it');
    t.match(stderr.split('\n', 1)[0], cause, 'names the cause');
    t.equal(stderr.trim().split('\n').length, 1, 'in one line');
  }
  t.strictSame(readdirSync(empty), [], 'nothing was made');
});

void t.test('what is no configuration', { buffered: true }, async (t) => {
  const directory = await temporaryDirectory('config-');
  const root = path.join(directory, 'data');
  const file = path.join(directory, 'registry.yaml');
  for (const [what, yaml, place, key] of [
    ['an unknown key', 'log:\n  level: info\nserver:\n  port: 5000\n  prot: 5001\n', `${file}:5:`, 'server.prot'],
    ['a value of the environment', 'server:\n  port: ${HA_TEST_PORT}\n', `${file}:2:`, 'server.port'],
    ['an environment variable that is not set', 'server:\n  port: 5000\nlog:\n  level: ${HA_TEST_UNSET}\n', `${file}:4:`, 'HA_TEST_UNSET'],
    ['an address for everybody', 'server:\n  bind_address: 0.0.0.0\n', 'server.bind_address', 'access.anonymous'],
  ] as const) {
    await writeFile(file, yaml);
    const env = { HA_TEST_UNSET: undefined, HA_TEST_PORT: 'hunter2' };
    const { code, stdout, stderr } = await ha(['serve', '--config', file, '--root', root], env, directory);
    t.strictSame([code, stdout], [2, ''], `${what}: ${stderr.trim()}`);
    t.equal(stderr.trim().split('\n').length, 1, 'one line');
    t.match(stderr, place, 'where');
    t.match(stderr, key, 'and which key');
    t.notMatch(stderr, 'hunter2', 'values are not repeated');
  }
  const host = await ha(['serve', '--host', '0.0.0.0', '--root', root], {}, directory);
  t.equal(host.code, 2, '--host 0.0.0.0');
  t.match(host.stderr, 'access.anonymous', 'needs a decision');
  t.strictSame(readdirSync(directory), ['registry.yaml'], 'nothing was made');
});

void t.test('what is one', { buffered: true }, async (t) => {
  const port = await freePort();
  const config = {
    server: { port: '${HA_TEST_PORT}', bind_address: '0.0.0.0', allowed_origins: ['${HA_TEST_ORIGIN:-https://default.example}'] },
    access: { anonymous: 'true' },
    manifests: { max_size: '64 KiB' },
    uploads: { expire_after: '1.5h' },
    log: { level: '${HA_TEST_LEVEL}' },
  };
  // `#` and `:` in a value of the environment change nothing but the value.
  const env = { HA_TEST_PORT: '1', HA_TEST_LEVEL: 'info', HA_TEST_OTHER: '#: {' };
  const node = await startWireNode('node', config, { port, env });
  const client = new HttpClient(node.port);
  t.equal((await client.send('GET', '/v2/')).status, 200, 'the port of the command line wins');
  const answer = await client.send('GET', '/v2/', { headers: { Origin: 'https://default.example' } });
  t.equal(answer.headers['access-control-allow-origin'], 'https://default.example', 'a default where the environment has nothing');
  const large = await client.send('PUT', '/v2/a/manifests/b', { body: 'x'.repeat(65_537) });
  t.equal(large.status, 413, 'a size with a unit');
  client.close();
  const lines = node
    .log()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { msg?: string; store?: string });
  const [listening] = lines.filter(({ msg }) => msg?.startsWith('listening on'));
  t.equal(listening?.msg, `listening on http://0.0.0.0:${port}`, 'the first line says where it listens');
  t.match(listening?.store, path.join(node.root, 'store'), 'and where it stores');
  await stopWireNode(node);
});

void t.test('without any setting, by npm start', { buffered: true }, (t) => withoutSettings(t));

async function withoutSettings(t: Test): Promise<void> {
  const start = path.resolve(import.meta.dirname, '../src/start.mjs');
  t.equal((await run(process.execPath, [start, '-V'])).stdout, `${version}\n`, 'npm start -- -V');
  t.match((await run(process.execPath, [start, 'gc', '--help'])).stdout, 'ha-registry gc', 'and a command');
  const registry = await startRegistry({
    launch: ({ root, port }) => ({ command: process.execPath, args: [start, '--root', root, '-p', String(port)] }),
  });
  t.strictSame(readdirSync(registry.root).sort(), ['postgres', 'store'], 'a store and a database in the data directory');
  const client = new HttpClient(registry.port);
  t.equal((await client.send('GET', '/v2/_catalog')).body.toString(), '{"repositories":[]}', 'it serves');
  client.close();
  const open = await connectEmbedded(registry.root);
  open.on('error', () => undefined);
  t.equal(await registry.stop(), 0, 'and ends with 0');
  t.notMatch(registry.log(), /FATAL|"level":(40|50|"warn"|"error")/, 'without a complaint, though somebody was connected to the database');
}

void t.test('config check', { buffered: true }, async (t) => {
  const directory = await temporaryDirectory('check-');
  const file = (name: string) => path.join(directory, name);
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const make = (name: string, days: string) =>
    run('openssl', [...request, '-subj', `/CN=${name}`, '-days', days, '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`)]);
  await Promise.all([make('good', '2'), make('other', '2')]);
  const authority = await Authority.make('clients');
  const old = await authority.issue('CN=old', { from: new Date('2020-01-01'), until: new Date('2020-01-02') });
  const lists = { 'clients.pem': authority.pem, 'list.pem': (await authority.list()).pem };
  const outdated = (await authority.list({ until: new Date('2020-01-02'), from: new Date('2020-01-01') })).pem;
  const strange = (await (await Authority.make('stranger')).list()).pem;
  const contents = { 'old.crt': old.cert, 'old.key': old.key, ...lists, 'outdated.pem': outdated, 'strange.pem': strange };
  for (const [name, content] of Object.entries(contents)) await writeFile(file(name), content);
  const check = async (yaml: string) => {
    await writeFile(file('registry.yaml'), yaml);
    return ha(['config', 'check', '--config', file('registry.yaml')], {}, directory);
  };
  const tls = (certificate: string, key: string) =>
    `log:\n  level: info\nserver:\n  tls:\n    server_certificate_bundle: ${file(certificate)}\n    server_private_key: ${file(key)}\n`;
  const clients = (bundle: string, list: string) =>
    `${tls('good.crt', 'good.key')}    client_ca_bundle: ${file(bundle)}\n    client_crl_file: ${file(list)}\n`;
  const before = readdirSync(directory).length + 1;
  t.strictSame(await check(tls('good.crt', 'good.key')), { code: 0, stdout: `${file('registry.yaml')} is good\n`, stderr: '' });
  for (const [what, yaml, place, cause] of [
    ['an unknown key', 'log:\n  levle: info\n', ':2: log.levle', 'unknown setting'],
    ['a file that is not there', tls('none.crt', 'good.key'), ':5: server.tls.server_certificate_bundle', 'cannot be read'],
    ['a key of another certificate', tls('good.crt', 'other.key'), ':6: server.tls.server_private_key', 'does not belong to certificate'],
    ['authorities that are none', clients('good.key', 'list.pem'), ':7: server.tls.client_ca_bundle', 'no certificate in it'],
    ['a list of somebody else', clients('clients.pem', 'strange.pem'), ':8: server.tls.client_crl_file', 'signed by none'],
    [
      'authorities of nothing',
      `${tls('good.crt', 'good.key')}    client_certificate: required\n`,
      ':7: server.tls.client_certificate',
      'needs',
    ],
    ['a certificate that is none', tls('registry.yaml', 'good.key'), ':5: server.tls.server_certificate_bundle', "can't be used"],
  ] as const) {
    const { code, stdout, stderr } = await check(yaml);
    t.strictSame([code, stdout], [2, ''], `${what}: ${stderr.trim()}`);
    t.match(stderr, `${file('registry.yaml')}${place}`, 'where');
    t.match(stderr, cause, 'and why');
    t.equal(stderr.trim().split('\n').length, 1, 'in one line');
  }
  for (const [yaml, warning] of [
    [tls('old.crt', 'old.key'), /^warning: server\.tls\.server_certificate_bundle: .*old\.crt expired on /],
    [clients('clients.pem', 'outdated.pem'), /^warning: server\.tls\.client_crl_file: .*outdated\.pem: .*CN=clients is out of date/],
  ] as const) {
    const { code, stdout } = await check(yaml);
    t.equal(code, 0, 'what has expired is no reason not to start');
    t.match(stdout, warning, 'but one to tell');
  }
  t.equal((await ha(['config', 'shreck'])).code, 2, 'no such command');
  t.equal(readdirSync(directory).length, before, 'nothing was made');
});
