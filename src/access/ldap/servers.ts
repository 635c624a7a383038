// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The servers of a directory: the first that works is asked. One that failed is left alone for a while, and then tried by one login, so that not all of them wait for it. */
import { DirectoryAway } from './directory-away.js';
import type { Problems } from './problems.js';

export interface Server {
  readonly url: string;
  failures: number;
  notBeforeMs: number;
  isBeingTried: boolean;
  problem: unknown;
}

export interface Servers {
  /** Throws DirectoryAway where none is left. The one that is returned must be told of afterwards. */
  next(tried: ReadonlySet<Server>): Server;
  isUp(server: Server): boolean;
  worked(server: Server): void;
  failed(server: Server, error: unknown): void;
  /** It works, and did not answer this in time: whoever tries wrong passwords must not put it out of action for all. */
  late(server: Server, error: unknown): void;
}

const shortestPauseMs = 1_000;
const longestPauseMs = 8_000;
/** Directories lock an account that is tried with the wrong password too often. */
const refusedPauseMs = 30_000;

/** The server did not take the account that we search with. */
export class AccountRefused extends Error {}

export function openServers(urls: readonly string[], problems: Problems, now: () => number = Date.now): Servers {
  const servers: Server[] = urls.map((url) => ({ url, failures: 0, notBeforeMs: 0, isBeingTried: false, problem: undefined }));
  const worked = (server: Server): void => {
    server.isBeingTried = false;
    if (server.failures === 0) return;
    server.failures = 0;
    problems.solved(server.url, `${server.url} (ldap.urls) answers again`);
  };
  return {
    next(tried) {
      const left = servers.filter((server) => !tried.has(server));
      const ready = left.find(({ failures, notBeforeMs, isBeingTried }) => failures === 0 || (notBeforeMs <= now() && !isBeingTried));
      if (ready === undefined) throw new DirectoryAway('no server of the directory can be asked', { cause: servers[0]?.problem });
      if (ready.failures > 0) ready.isBeingTried = true;
      return ready;
    },
    isUp: ({ failures }) => failures === 0,
    worked,
    late(server, error) {
      worked(server);
      server.problem = error;
      problems.arose(`${server.url} late`, `${server.url} (ldap.urls) works, but said nothing of a password within ldap.timeout`, error);
    },
    failed(server, error) {
      const pauseMs = Math.min(shortestPauseMs * 2 ** server.failures, longestPauseMs);
      server.notBeforeMs = now() + (error instanceof AccountRefused ? refusedPauseMs : pauseMs);
      server.failures++;
      server.isBeingTried = false;
      server.problem = error;
      problems.arose(server.url, `${server.url} (ldap.urls) cannot be asked`, error);
    },
  };
}
