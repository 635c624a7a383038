// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How much a repository may hold, and what whoever pushes too much is told. */
import type { Queryer } from '../database/pool.js';
import { RegistryError } from '../oci/errors.js';
import { repositoryPattern } from '../oci/repository-pattern.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { findRepositorySize, listPendingBytes } from './quota-queries.js';

export interface QuotaSettings {
  /** Infinity: none. */
  readonly default: number;
  readonly repositories: readonly { readonly match: string; readonly size: number }[];
}

export const unlimited: QuotaSettings = { default: Infinity, repositories: [] };

export interface Quota {
  readonly limitBytes: number;
  /** What the database said a moment ago. */
  note(usedBytes: number): void;
  exceeded(usedBytes: number, moreBytes: number, pendingBytes?: number): RegistryError;
}

export interface Quotas {
  readonly settings: QuotaSettings;
  /** Undefined where a repository may hold anything. */
  of(repository: RepositoryName): Quota | undefined;
  /**
   * Throws where there is no room for so many bytes more, so that nobody sends a layer in vain; what unfinished uploads hold takes room, too. Asks the database only where
   * this node does not know of room.
   */
  requireRoom(queryer: Queryer, repository: RepositoryName, moreBytes?: number): Promise<void>;
  /** An unfinished upload holds so much more from now on; what other nodes take is known a second later. */
  received(repository: RepositoryName, bytes: number): void;
}

export interface QuotaParts {
  readonly onRefused: () => void;
  readonly now: () => number;
}

/** For so long what a node was told of room is good enough to begin an upload; the end of it asks again. */
const rememberMs = 10_000;
const mostRemembered = 10_000;
/** And for so long what unfinished uploads hold. */
const rememberPendingMs = 1_000;

/** Undefined where there are none. */
export function openQuotas(settings: QuotaSettings, { onRefused, now }: QuotaParts): Quotas | undefined {
  const limitOf = limitsBy(settings);
  if (settings.default === Infinity && settings.repositories.every(({ size }) => size === Infinity)) return undefined;
  const remembered = new Map<string, { readonly usedBytes: number; readonly untilMs: number }>();
  const note = (repository: RepositoryName, usedBytes: number): void => {
    remembered.delete(repository);
    remembered.set(repository, { usedBytes, untilMs: now() + rememberMs });
    if (remembered.size > mostRemembered) remembered.delete(remembered.keys().next().value ?? '');
  };
  let pending: { readonly bytes: Map<string, number>; readonly untilMs: number } | undefined;
  const pendingOf = async (queryer: Queryer, repository: RepositoryName, isFresh: boolean): Promise<number> => {
    if (isFresh || pending === undefined || pending.untilMs <= now())
      pending = { bytes: await listPendingBytes(queryer), untilMs: now() + rememberPendingMs };
    return pending.bytes.get(repository) ?? 0;
  };
  const usedIn = async (queryer: Queryer, repository: RepositoryName, isFresh: boolean): Promise<number> => {
    const known = remembered.get(repository);
    if (!isFresh && known !== undefined && known.untilMs > now()) return known.usedBytes;
    const usedBytes = await findRepositorySize(queryer, repository);
    note(repository, usedBytes);
    return usedBytes;
  };
  const of = (repository: RepositoryName): Quota | undefined => {
    const { limitBytes, rule } = limitOf(repository);
    if (limitBytes === Infinity) return undefined;
    return {
      limitBytes,
      note: (usedBytes) => note(repository, usedBytes),
      exceeded(usedBytes, moreBytes, pendingBytes = 0) {
        onRefused();
        const unfinished = pendingBytes === 0 ? '' : ` and ${sizeText(pendingBytes)} of unfinished uploads`;
        const message = `the quota of ${repository} is ${sizeText(limitBytes)}; it holds ${sizeText(usedBytes)}${unfinished}, and this is ${sizeText(moreBytes)} more`;
        return new RegistryError('DENIED', message, { rule });
      },
    };
  };
  return {
    settings,
    of,
    async requireRoom(queryer, repository, moreBytes = 1) {
      const quota = of(repository);
      if (quota === undefined) return;
      // An upload that ends meanwhile would count twice, so nobody is refused by what is remembered.
      for (const isFresh of [false, true]) {
        const usedBytes = await usedIn(queryer, repository, isFresh);
        const pendingBytes = await pendingOf(queryer, repository, isFresh);
        if (usedBytes + pendingBytes + moreBytes <= quota.limitBytes) return;
        if (isFresh) throw quota.exceeded(usedBytes, moreBytes, pendingBytes);
      }
    },
    received: (repository, bytes) => void pending?.bytes.set(repository, (pending.bytes.get(repository) ?? 0) + bytes),
  };
}

/** The first line of `quota.repositories` whose pattern fits, else what is for all. */
export function limitsBy(settings: QuotaSettings): (repository: string) => { readonly limitBytes: number; readonly rule: string } {
  const lines = settings.repositories.map(({ match, size }, index) => ({
    pattern: repositoryPattern(match),
    limit: { limitBytes: size, rule: `quota.repositories[${index}]` },
  }));
  const fallback = { limitBytes: settings.default, rule: 'quota.default' };
  return (repository) => lines.find(({ pattern }) => pattern.test(repository))?.limit ?? fallback;
}

const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

function sizeText(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${Math.round((bytes / 1024 ** power) * 10) / 10} ${units[power]}`;
}
