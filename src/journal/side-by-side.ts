// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Acts on all, `most` of them at a time. After a failure nothing more begins, and it is told when nothing is under way any more. */
export async function sideBySide<T>(items: readonly T[], most: number, act: (item: T) => Promise<void>): Promise<void> {
  const waiting = items.values();
  let failed = false;
  const worker = async (): Promise<void> => {
    for (const item of waiting) {
      if (failed) return;
      try {
        await act(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(most, items.length) }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
