// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the leader does for the sizes of repositories. */
import type { Queryer } from '../database/pool.js';
import { deleteSizes, foldSizes, listRepositorySizes, listSizesToRecount, recountSize } from './quota-queries.js';
import { limitsBy, type QuotaSettings } from './quotas.js';

const mostAtOnce = 1_000;
/** A sum that went wrong is right again within this time. */
const recountMs = 86_400_000;
/** Counting many links takes a moment. */
const mostRecounts = 10;

/** Puts what came and went into the sums, and counts again what is to be. */
export async function foldAll(queryer: Queryer): Promise<void> {
  while ((await foldSizes(queryer, mostAtOnce)) === mostAtOnce);
  for (const id of await listSizesToRecount(queryer, recountMs, mostRecounts)) await recountSize(queryer, id);
}

/** A repository without a quota is not counted any more, and costs nothing. */
export async function forgetUnlimited(queryer: Queryer, settings: QuotaSettings): Promise<void> {
  const limitOf = limitsBy(settings);
  const unlimited = (await listRepositorySizes(queryer)).filter(({ repository }) => limitOf(repository).limitBytes === Infinity);
  const ids = unlimited.map(({ id }) => id);
  if (ids.length > 0) await deleteSizes(queryer, ids);
  await foldSizes(queryer, mostAtOnce);
}
