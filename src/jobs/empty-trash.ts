// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { deleteTrash, listDueTrash } from '../journal/journal-queries.js';
import type { Journal } from '../journal/write-entries.js';

const atOnce = 1000;

/** Deletes objects that no row names any more. Their keys are never used again, so doing it late, or twice, does no harm. */
export async function emptyTrash({ writes, store }: Journal): Promise<void> {
  for (;;) {
    const keys = await listDueTrash(writes, atOnce);
    if (keys.length === 0) return;
    await store.delete(keys);
    await deleteTrash(writes, keys);
    if (keys.length < atOnce) return;
  }
}
