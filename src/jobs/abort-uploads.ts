// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Journal } from '../journal/write-entries.js';
import { deleteAbort, listDueAborts } from '../upload/session-queries.js';

const atOnce = 100;

/** Has the store drop the parts of uploads that ended before they were complete. Doing it twice does no harm, and neither does doing it to one that was completed after all. */
export async function abortUploads({ writes, store, history }: Journal): Promise<void> {
  for (;;) {
    const due = await listDueAborts(writes, atOnce);
    if (due.length === 0) return;
    for (const upload of due) await store.abort(upload.key, upload.begun);
    await history.requireStore();
    for (const upload of due) await deleteAbort(writes, upload);
    if (due.length < atOnce) return;
  }
}
