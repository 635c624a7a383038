// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { open, readFile, type FileHandle } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

export interface DirectoryLock {
  /** A child that inherits it holds the lock as well, until it and all its heirs are gone. */
  readonly descriptor: number;
  release(): Promise<void>;
}

/** Older servers get their 20 s to shut down (`embedded-supervisor.ts`), and some. */
export const busyTimeoutMs = 30_000;
const retryMs = 50;

/**
 * A kernel lock (flock) on `path`: exact after any death, also across containers that share the directory. The file's text names the
 * owner. When that one lives, it is refused at once; when it is dead its server is still shutting down, and we wait.
 */
export async function lockDirectory(path: string, environment: Readonly<Record<string, string>>): Promise<DirectoryLock> {
  const deadline = Date.now() + busyTimeoutMs;
  for (;;) {
    const handle = await tryLock(path, environment);
    if (handle !== undefined) return own(handle);
    const owner = await readOwner(path);
    if (owner !== undefined && (await isAlive(owner))) {
      throw new Error(
        `another ha-registry (pid ${owner.pid}) uses the embedded Postgres whose lock is ${path}; stop it, or set database.url so that both share a server`,
      );
    }
    if (Date.now() > deadline) {
      throw new Error(
        `another ha-registry${owner === undefined ? '' : ` (pid ${owner.pid}, not visible from here)`} or a Postgres process left by it ` +
          `still uses the embedded Postgres whose lock is ${path}; stop it, or set database.url so that both share a server`,
      );
    }
    await delay(retryMs);
  }
}

interface Owner {
  readonly pid: number;
  /** Tells a process from a later one with the same id. */
  readonly startTime: string;
}

/** Node has no flock. macOS locks in open(2); elsewhere flock(1) locks our descriptor, and the lock stays with the open file when it ends. */
async function tryLock(path: string, environment: Readonly<Record<string, string>>): Promise<FileHandle | undefined> {
  const exclusiveLock = process.platform === 'darwin' ? 0x20 : 0; // O_EXLOCK of <fcntl.h>
  const flags =
    constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | (exclusiveLock === 0 ? 0 : exclusiveLock | constants.O_NONBLOCK);
  const handle = await open(path, flags, 0o600).catch((error: NodeJS.ErrnoException) => {
    if (exclusiveLock !== 0 && error.code === 'EAGAIN') return undefined;
    throw error;
  });
  if (handle === undefined || exclusiveLock !== 0) return handle;
  try {
    if (await flock(handle.fd, environment)) return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  return undefined;
}

function flock(descriptor: number, environment: Readonly<Record<string, string>>): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['-n', '-x', '3'], { stdio: ['ignore', 'ignore', 'ignore', descriptor], env: environment });
    child.on('error', (cause) => {
      reject(
        new Error(`embedded Postgres needs the flock command of util-linux (${cause.message}); or set database.url to a Postgres server`, {
          cause,
        }),
      );
    });
    child.on('exit', (code) => {
      if (code === 0 || code === 1) resolve(code === 0);
      else reject(new Error(`embedded Postgres: flock failed with status ${String(code)}; set database.url to a Postgres server`));
    });
  });
}

async function own(handle: FileHandle): Promise<DirectoryLock> {
  const owner: Owner = { pid: process.pid, startTime: (await startTime(process.pid)) ?? '' };
  await handle.truncate();
  await handle.write(JSON.stringify(owner), 0);
  return {
    descriptor: handle.fd,
    async release() {
      await handle.truncate();
      await handle.close();
    },
  };
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Owner;
  } catch {
    return undefined; // not written yet, or given up
  }
}

async function isAlive(owner: Owner): Promise<boolean> {
  if (process.platform === 'linux') return (await startTime(owner.pid)) === owner.startTime;
  try {
    return process.kill(owner.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Field 22 of /proc/<pid>/stat (proc_pid_stat(5)); undefined for a zombie, for no process and where there is no /proc. */
async function startTime(pid: number): Promise<string | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? undefined : fields[18];
  } catch {
    return undefined;
  }
}
