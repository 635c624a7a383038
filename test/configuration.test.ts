// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Files and what they say, or where they are wrong. What the process does with them: command-line.test.ts. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { ConfigurationError, loadConfig, type Overrides } from '../src/config/config.js';
import { temporaryDirectory } from './support/registry.js';

const file = path.join(await temporaryDirectory('config-'), 'registry.yaml');
process.env['HA_TEST_PORT'] = '6001';
process.env['HA_TEST_WORD'] = 'hunter2';
process.env['HA_TEST_YAML'] = 'x\nserver: {port: 1} # {';
delete process.env['HA_TEST_UNSET'];

function load(yaml: string, overrides?: Overrides) {
  writeFileSync(file, yaml);
  return loadConfig(file, overrides);
}

/** File → where it is wrong, and which key. */
const badFiles: readonly (readonly [what: string, yaml: string, line: number | undefined, key: string | undefined])[] = [
  ['an unknown section', 'server:\n  port: 5000\nserfer: {}\n', 3, 'serfer'],
  ['an unknown key', 'log:\n  level: info\nserver:\n  port: 5000\n  prot: 5001\n', 5, 'server.prot'],
  ['an unknown key deeper down', 'storage:\n  fs:\n    root: /x\n', 3, 'storage.fs.root'],
  ['a port past all ports', 'server:\n  port: 65536\n', 2, 'server.port'],
  ['a port that is a word', 'server:\n  port: http\n', 2, 'server.port'],
  ['an engine that nobody built', 'server:\n\n  engine: nginx\n', 3, 'server.engine'],
  ['a size without a unit that is known', 'manifests:\n  max_size: 4 elephants\n', 2, 'manifests.max_size'],
  ['a size that is too small', 'manifests:\n  max_size: 1KiB\n', 2, 'manifests.max_size'],
  ['a memory that is too small', 'uploads:\n  expire_after: 1h\n  memory_budget: 1MiB\n', 3, 'uploads.memory_budget'],
  ['a duration without a unit', 'uploads:\n  expire_after: 30\n', 2, 'uploads.expire_after'],
  ['a duration that is too short', 'uploads:\n  expire_after: 10ms\n', 2, 'uploads.expire_after'],
  ['a switch that is neither', 'delete:\n  enabled: maybe\n', 2, 'delete.enabled'],
  ['a choice that there is not', 'manifests:\n  sparse: sometimes\n', 2, 'manifests.sparse'],
  ['a level that there is not', 'log:\n  level: loud\n', 2, 'log.level'],
  ['a list that is none', 'server:\n  allowed_origins: 5\n', 2, 'server.allowed_origins'],
  ['an origin with a path', 'server:\n  allowed_origins: https://x/\n', 2, 'server.allowed_origins'],
  ['a proxy that is a name', 'server:\n  trusted_proxies: proxy.example\n', 2, 'server.trusted_proxies'],
  ['a network that is too narrow', 'server:\n  trusted_proxies: [10.0.0.0/8, 10.0.0.0/33]\n', 2, 'server.trusted_proxies'],
  ['a port for metrics past all ports', 'server:\n  metrics:\n    port: 65536\n', 3, 'server.metrics.port'],
  ['a collector that is no URL', 'tracing:\n  endpoint: collector\n', 2, 'tracing.endpoint'],
  ['a collector of another protocol', 'tracing:\n  endpoint: grpc://collector:4317\n', 2, 'tracing.endpoint'],
  ['more than everything', 'tracing:\n  sample_ratio: 1.1\n', 2, 'tracing.sample_ratio'],
  ['requests that nobody knows', 'log:\n  requests: some\n', 2, 'log.requests'],
  ['an element of a list', 'server:\n  allowed_origins:\n    - https://x\n    - 5\n', 4, 'server.allowed_origins'],
  ['a section that is a word', 'server: yes please\n', 1, 'server'],
  ['another database', 'database:\n  url: mysql://user:hunter2@host/db\n', 2, 'database.url'],
  ['a rate without a time', 'limits:\n  requests:\n    anonymous:\n      rate: 100\n', 4, 'limits.requests.anonymous.rate'],
  ['half of TLS', 'server:\n  tls:\n    server_private_key: /k.pem\n', 2, 'server.tls'],
  ['an environment variable that is not set', 'server:\n  port: 5000\nlog:\n  level: ${HA_TEST_UNSET}\n', 4, 'HA_TEST_UNSET'],
  ['a value of the environment', 'server:\n  port: ${HA_TEST_WORD}\n', 2, 'server.port'],
  ['a key twice', 'server:\n  port: 1\n  port: 2\n', 3, undefined],
  ['no YAML', 'server: [\n', undefined, undefined],
  ['a tab', 'server:\n\tport: 1\n', 2, undefined],
  ['a list', '- server\n', undefined, undefined],
  ['a word', 'server\n', undefined, undefined],
  ['an address for everybody', 'server:\n  bind_address: 0.0.0.0\n', undefined, 'access.anonymous'],
  ['an address of IPv6 for everybody', "server:\n  bind_address: '::'\n", undefined, 'access.anonymous'],
];

void t.test('what is wrong', async (t) => {
  for (const [what, yaml, line, key] of badFiles) {
    try {
      load(yaml);
      t.fail(`${what}: was taken`);
    } catch (error) {
      t.ok(error instanceof ConfigurationError, `${what}: ${String(error)}`);
      const { message } = error as Error;
      t.notMatch(message, /\n/, 'one line');
      if (line !== undefined) t.ok(message.startsWith(`${file}:${line}: `), `line ${line}`);
      if (key !== undefined) t.ok(message.includes(key), `names ${key}`);
      t.notMatch(message, 'hunter2', 'values are not repeated');
    }
  }
  t.throws(() => loadConfig(path.join(path.dirname(file), 'none.yaml')), { name: 'ConfigurationError' }, 'a file that is not there');
});

void t.test('what is right', async (t) => {
  const bare = loadConfig(undefined);
  t.match(
    bare,
    {
      server: { bind_address: '127.0.0.1', port: 5000, engine: 'auto', reuse_port: false, allowed_origins: [] },
      manifests: { max_size: 4 * 1024 * 1024, sparse: 'indexes' },
      uploads: { expire_after: 24 * 3_600_000 },
      delete: { enabled: true },
      access: { anonymous: false },
    },
    'no file: every setting has a default',
  );
  for (const yaml of ['', '# nothing\n', '{}', 'server: {}\n']) t.strictSame(load(yaml), bare, JSON.stringify(yaml));
  t.ok(Object.isFrozen(bare) && Object.isFrozen(bare.server), 'nobody can change it');

  for (const [text, bytes] of [
    ['65536', 65_536],
    ["'65536'", 65_536],
    ['64KiB', 65_536],
    ['100 KB', 100_000],
    ['1.5MiB', 1_572_864],
    ['1gib', 1_073_741_824],
  ] as const) {
    t.equal(load(`manifests:\n  max_size: ${text}\n`).manifests.max_size, bytes, text);
  }
  for (const [text, milliseconds] of [
    ['1000ms', 1000],
    ['1s', 1000],
    ['1.5m', 90_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
  ] as const) {
    t.equal(load(`uploads:\n  expire_after: ${text}\n`).uploads.expire_after, milliseconds, text);
  }
  t.equal(load('server:\n  port: ${HA_TEST_PORT}\n').server.port, 6001, 'a number from the environment');
  t.equal(load('delete:\n  enabled: ${HA_TEST_UNSET:-false}\n').delete.enabled, false, 'a default for what is not set');
  t.equal(load('server:\n  port: ${HA_TEST_PORT:-1}\n').server.port, 6001, 'which what is set wins over');
  t.equal(
    load('database:\n  url: "postgres://a${HA_TEST_PORT}b${HA_TEST_PORT}/$HOME/${}/${HA_TEST_YAML}"\n').database.url,
    `postgres://a6001b6001/$HOME/\${}/${process.env['HA_TEST_YAML']}`,
    'a value is a value, whatever it looks like',
  );
  t.strictSame(load('server:\n  allowed_origins: "*"\n').server.allowed_origins, ['*'], 'one origin needs no list');
  for (const [given, url] of [
    ['http://c:4318', 'http://c:4318/v1/traces'],
    ['http://c:4318/', 'http://c:4318/v1/traces'],
    ['https://c/else/where', 'https://c/else/where'],
  ] as const) {
    t.equal(load(`tracing:\n  endpoint: ${given}\n`).tracing.endpoint, url, given);
  }
  t.equal(load("tracing:\n  sample_ratio: '0.25'\n").tracing.sample_ratio, 0.25, 'a share from the environment');
  t.strictSame(load('server:\n  trusted_proxies: 10.0.0.0/8\n').server.trusted_proxies, ['10.0.0.0/8'], 'one proxy needs no list');
  t.equal(load('server:\n  port: 1\n', { port: '2' }).server.port, 2, 'the command line wins');
  t.equal(load('server:\n  bind_address: 10.0.0.1\n', { host: '127.0.0.2' }).server.bind_address, '127.0.0.2', 'also for the address');
  t.strictSame(
    ((config) => [config.storage.fs.root_dir, config.database.embedded.data_dir])(load('storage:\n  fs:\n    root_dir: /a\n')),
    ['/a', path.resolve('data/postgres')],
    'directories',
  );
  t.strictSame(
    ((config) => [config.storage.fs.root_dir, config.database.embedded.data_dir])(
      load('storage:\n  fs:\n    root_dir: /a\n', { root: '/b' }),
    ),
    ['/b/store', '/b/postgres'],
    '--root moves both',
  );
});

void t.test('addresses', async (t) => {
  for (const address of ['127.0.0.1', '127.1.2.3', 'localhost', '::1'])
    t.equal(bound(address, false)().server.bind_address, address, address);
  for (const address of ['0.0.0.0', '::', '192.168.1.1', 'registry.example', '127.0.0.1.example', '1270.0.0.1', '::ffff:127.0.0.1']) {
    t.throws(bound(address, false), { name: 'ConfigurationError', message: /access\.anonymous/ }, `${address} is for others`);
    t.equal(bound(address, true)().server.bind_address, address, 'who may be let in');
  }
});

function bound(address: string, anonymous: boolean) {
  return () => load(`server:\n  bind_address: '${address}'\naccess:\n  anonymous: ${anonymous}\n`);
}
