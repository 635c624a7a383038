// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { lchown, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Binaries } from './embedded-binaries.js';

/** As whom the Postgres programs run: Postgres refuses uid 0. */
export interface Identity {
  /** Put before the command; `unshare` becomes the command, so the process id stays. */
  readonly prefix: readonly string[];
  /** For `spawn` and for the owner of files that the server must write; empty: as we are. */
  readonly user: { readonly uid?: number; readonly gid?: number };
}

const ourselves: Identity = { prefix: [], user: {} };
/** Root outside, nobody inside: files stay root's, so it works below a 0700 home. Docker's default seccomp profile forbids it. */
export const userNamespace: Identity = { prefix: ['unshare', '-U', '--map-user=65534', '--map-group=65534'], user: {} };
const nobodyId = process.platform === 'darwin' ? -2 : 65534;
const nobody: Identity = { prefix: [], user: { uid: nobodyId, gid: nobodyId } };

export interface Candidate {
  readonly dataDirectory: string;
  readonly binaries: Binaries;
  readonly environment: Readonly<Record<string, string>>;
}

/**
 * The first identity under which the server runs, and the server's `--version`. A data directory that is not root's is served as its
 * owner; one of root's in a user namespace, or given to nobody where there is none.
 */
export async function chooseIdentity(candidate: Candidate): Promise<{ identity: Identity; version: string }> {
  if (process.getuid?.() !== 0) {
    const { output, ok } = await probe(ourselves, candidate);
    if (ok) return { identity: ourselves, version: output };
    throw new Error(`embedded Postgres: its binaries do not run here (${output}); set database.url to a Postgres server`);
  }
  const { uid, gid } = await stat(candidate.dataDirectory);
  const choices = uid === 0 ? [userNamespace, nobody] : [{ prefix: [], user: { uid, gid } }];
  const reasons: string[] = [];
  for (const identity of choices) {
    const obstacle = identity === nobody ? await findObstacle(candidate) : undefined;
    if (obstacle === undefined) await giveTo(candidate.dataDirectory, identity);
    const { output, ok } = obstacle ?? (await probe(identity, candidate));
    if (ok) return { identity, version: output };
    reasons.push(`${identity.prefix[0] ?? `uid ${String(identity.user.uid)}`}: ${output}`);
  }
  throw new Error(
    `embedded Postgres: Postgres refuses to run as root, and other ways failed (${reasons.join('; ')}); ` +
      `start ha-registry as an ordinary user, or set database.url to a Postgres server`,
  );
}

interface Outcome {
  readonly ok: boolean;
  readonly output: string;
}

/** Whether the identity reaches the data directory and can load the server. */
function probe(identity: Identity, { dataDirectory, binaries, environment }: Candidate): Promise<Outcome> {
  const script = 'cd "$1" || exit; LD_LIBRARY_PATH=$2 DYLD_LIBRARY_PATH=$2 exec "$3" --version';
  return shell(identity, environment, script, [dataDirectory, binaries.libraries, binaries.postgres]);
}

/** What keeps nobody from serving a directory that is not nobody's yet. */
async function findObstacle({ dataDirectory, binaries, environment }: Candidate): Promise<Outcome | undefined> {
  const script = 'cd "$1" && cd "$2"';
  const outcome = await shell(nobody, environment, script, [dirname(dataDirectory), dirname(binaries.postgres)]);
  return outcome.ok ? undefined : outcome;
}

function shell({ prefix, user }: Identity, env: Candidate['environment'], script: string, values: readonly string[]): Promise<Outcome> {
  const [file = 'sh', ...rest] = [...prefix, 'sh', '-c', script, 'sh', ...values];
  return new Promise((resolve) => {
    execFile(file, rest, { env, cwd: '/', timeout: 30_000, ...user }, (error, stdout, stderr) => {
      const output = error === null ? stdout : stderr.trim() || error.message;
      resolve({ ok: error === null, output: output.trim().replaceAll(/\s*\n\s*/g, ', ') });
    });
  });
}

/** What root has made in the directory becomes the identity's; the cluster only when it is not yet. */
async function giveTo(dataDirectory: string, { user: { uid, gid } }: Identity): Promise<void> {
  if (uid === undefined || gid === undefined) return;
  const cluster = join(dataDirectory, 'cluster');
  const given = existsSync(cluster) && (await stat(cluster)).uid === uid;
  await give(dataDirectory, uid, gid, given ? cluster : undefined);
}

/** The top last: its owner says that all below is done, so an interrupted run begins again. */
async function give(directory: string, uid: number, gid: number, except: string | undefined): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (path === except) continue;
    if (entry.isDirectory()) await give(path, uid, gid, except);
    else await lchown(path, uid, gid);
  }
  await lchown(directory, uid, gid);
}
