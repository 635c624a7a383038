// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A real directory server (slapd) on free loopback ports, over a temporary directory, as an ordinary process of the test's own. */
import { once } from 'node:events';
import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'ldapts';
import { spawnTracked } from './command.js';
import type { PrivateAuthority } from './private-authority.js';
import { freePort, temporaryDirectory } from './registry.js';
import { findTool } from './tools.js';

export interface LdapServer {
  readonly url: string;
  readonly port: number;
  /** Only with a certificate. */
  readonly secureUrl: string;
  /** All that it said. */
  log(): string;
  /** Adds, changes and deletes as the directory's manager. */
  manage<T>(act: (client: Client) => Promise<T>): Promise<T>;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** SIGSTOP, and waits until no thread runs any more: connections are taken, and nothing is answered. */
  freeze(): Promise<void>;
  thaw(): void;
}

export const base = 'dc=example,dc=org';
/** The account that the registry searches with. Nobody else may look. */
export const searcher = { dn: `cn=registry,${base}`, password: 'directory-account-pass-31c7' };
const manager = { dn: `cn=manager,${base}`, password: 'directory-manager-pass' };

export interface LdapPerson {
  readonly uid: string;
  readonly password: string;
  readonly more?: Readonly<Record<string, string | string[]>>;
}

/** A server with these people below `ou=people`, and these groups below `ou=groups`; or why there is none. */
export async function startLdapServer(
  people: readonly LdapPerson[],
  groups: Readonly<Record<string, readonly string[]>>,
  authority?: PrivateAuthority,
): Promise<LdapServer | { readonly missing: string }> {
  const program = await findTool('slapd');
  if ('missing' in program) return program;
  const directory = await temporaryDirectory('ldap-');
  await mkdir(path.join(directory, 'data'));
  const file = path.join(directory, 'slapd.conf');
  await writeFile(file, configuration(directory, authority));
  const [port, securePort] = [await freePort(), await freePort()];
  const url = `ldap://127.0.0.1:${port}`;
  const secureUrl = `ldaps://127.0.0.1:${securePort}`;
  const listeners = authority === undefined ? url : `${url} ${secureUrl}`;
  const output: Buffer[] = [];
  let child: ChildProcess | undefined;
  const manage = async <T>(act: (client: Client) => Promise<T>): Promise<T> => {
    const client = new Client({ url, timeout: 10_000, connectTimeout: 10_000 });
    try {
      await client.bind(manager.dn, manager.password);
      return await act(client);
    } finally {
      await client.unbind();
    }
  };
  const start = async (): Promise<void> => {
    // With -d it stays in the foreground.
    child = spawnTracked(program.path, ['-d', 'none', '-f', file, '-h', listeners], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => output.push(piece));
    for (const deadline = Date.now() + 30_000; ; await sleep(20)) {
      try {
        await manage(() => Promise.resolve());
        return;
      } catch (error) {
        if (Date.now() < deadline && child.exitCode === null) continue;
        throw new Error(`slapd did not start\n${Buffer.concat(output).toString()}`, { cause: error });
      }
    }
  };
  const stop = async (): Promise<void> => {
    const stopping = child;
    child = undefined;
    if (stopping === undefined || stopping.exitCode !== null) return;
    stopping.kill('SIGCONT');
    stopping.kill('SIGKILL');
    await once(stopping, 'exit');
  };
  await start();
  try {
    await manage((client) => fill(client, people, groups));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    port,
    secureUrl,
    log: () => Buffer.concat(output).toString(),
    manage,
    start,
    stop,
    async freeze() {
      child?.kill('SIGSTOP');
      while (!isStopped(child?.pid ?? 0)) await sleep(5);
    },
    thaw: () => void child?.kill('SIGCONT'),
  };
}

async function fill(client: Client, people: readonly LdapPerson[], groups: Readonly<Record<string, readonly string[]>>): Promise<void> {
  await client.add(base, { objectClass: ['dcObject', 'organization'], dc: 'example', o: 'Example' });
  for (const ou of ['people', 'groups']) await client.add(`ou=${ou},${base}`, { objectClass: 'organizationalUnit', ou });
  await client.add(searcher.dn, { objectClass: ['applicationProcess', 'simpleSecurityObject'], userPassword: searcher.password });
  for (const person of people) await addPerson(client, person);
  for (const [cn, members] of Object.entries(groups)) await addGroup(client, cn, members);
}

/** A thread that is on another processor goes on for a moment. */
function isStopped(pid: number): boolean {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8'));
  return threads.every((stat) => stat.slice(stat.lastIndexOf(')') + 2).startsWith('T'));
}

export function dnOf(uid: string): string {
  return `uid=${uid},ou=people,${base}`;
}

export async function addPerson(client: Client, { uid, password, more = {} }: LdapPerson): Promise<void> {
  await client.add(dnOf(uid), { objectClass: 'inetOrgPerson', uid, cn: uid, sn: uid, userPassword: password, ...more });
}

async function addGroup(client: Client, cn: string, members: readonly string[]): Promise<void> {
  await client.add(`cn=${cn.replaceAll(',', '\\,')},ou=groups,${base}`, { objectClass: 'groupOfNames', cn, member: members.map(dnOf) });
}

function configuration(directory: string, authority: PrivateAuthority | undefined): string {
  const tls =
    authority === undefined ? [] : [`TLSCertificateFile ${authority.certificateFile}`, `TLSCertificateKeyFile ${authority.keyFile}`];
  const lines = [
    ...['core', 'cosine', 'inetorgperson'].map((name) => `include /etc/ldap/schema/${name}.schema`),
    `pidfile ${directory}/slapd.pid`,
    `argsfile ${directory}/slapd.args`,
    'modulepath /usr/lib/ldap',
    'moduleload back_mdb',
    'moduleload memberof',
    ...tls,
    // A bind with a name and without a password is a success here, as with many directories.
    'allow bind_anon_dn',
    'database mdb',
    `directory ${directory}/data`,
    'maxsize 16777216',
    'dbnosync',
    `suffix "${base}"`,
    `rootdn "${manager.dn}"`,
    `rootpw ${manager.password}`,
    'index objectClass,uid,mail,member eq',
    'overlay memberof',
    `access to attrs=userPassword by anonymous auth by * none`,
    `access to * by dn.exact="${searcher.dn}" read by * none`,
  ];
  return `${lines.join('\n')}\n`;
}
