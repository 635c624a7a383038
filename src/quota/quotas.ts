// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How much a repository may hold, and what whoever pushes too much is told. */
import type { Queryer } from '../database/pool.js';
import { RegistryError } from '../oci/errors.js';
import { repositoryPattern } from '../oci/repository-pattern.js';
import type { RepositoryName } from '../oci/repository-name.js';
import { findRepositorySize } from './quota-queries.js';

export interface QuotaSettings {
  /** Infinity: none. */
  readonly default: number;
  readonly repositories: readonly { readonly match: string; readonly size: number }[];
}

export interface Quota {
  readonly limitBytes: number;
  /** What the database said a moment ago. */
  note(usedBytes: number): void;
  exceeded(usedBytes: number, moreBytes: number): RegistryError;
}

export interface Quotas {
  /** Undefined where a repository may hold anything. */
  of(repository: RepositoryName): Quota | undefined;
  /** Throws where there is no room for even a byte, so that nobody sends a layer in vain. Asks the database where this node does not know of room. */
  requireRoom(queryer: Queryer, repository: RepositoryName): Promise<void>;
}

export interface QuotaParts {
  readonly onRefused: () => void;
  readonly now: () => number;
}

/** For so long what a node was told of room is good enough to begin an upload; the end of it asks again. */
const rememberMs = 10_000;
const mostRemembered = 10_000;

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
  const of = (repository: RepositoryName): Quota | undefined => {
    const { limitBytes, rule } = limitOf(repository);
    if (limitBytes === Infinity) return undefined;
    return {
      limitBytes,
      note: (usedBytes) => note(repository, usedBytes),
      exceeded(usedBytes, moreBytes) {
        onRefused();
        const message = `the quota of ${repository} is ${sizeText(limitBytes)}; it holds ${sizeText(usedBytes)}, and this is ${sizeText(moreBytes)} more`;
        return new RegistryError('DENIED', message, { rule });
      },
    };
  };
  return {
    of,
    async requireRoom(queryer, repository) {
      const quota = of(repository);
      if (quota === undefined) return;
      const known = remembered.get(repository);
      if (known !== undefined && known.untilMs > now() && known.usedBytes < quota.limitBytes) return;
      const usedBytes = await findRepositorySize(queryer, repository);
      note(repository, usedBytes);
      if (usedBytes >= quota.limitBytes) throw quota.exceeded(usedBytes, 1);
    },
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
