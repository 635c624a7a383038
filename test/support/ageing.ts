// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Time passes for garbage collection by moving what the database remembers of it into the past. */

const times: Readonly<Record<string, readonly string[]>> = {
  repository_blobs: ['due_at'],
  manifests: ['due_at', 'pushed_at', 'pulled_at'],
  tag_history: ['at'],
  tombstones: ['at'],
  deleted_manifests: ['deleted_at', 'keep_until'],
  gc_links: ['due'],
  gc_manifests: ['due'],
  gc_blobs: ['due'],
  object_trash: ['not_before', 'removed_at', 'lease_until', 'repeat_at'],
  sweep_sightings: ['first_seen_at', 'last_seen_at'],
  gc_runs: ['begun_at'],
  cluster: ['caught_up_at', 'gc_not_before'],
};

/** Everything is so much older. */
export async function age(run: (statement: string, values: readonly unknown[]) => Promise<unknown>, interval: string): Promise<void> {
  for (const [table, columns] of Object.entries(times)) {
    const moved = columns.map((column) => `${column} = ${column} - $1::interval`).join(', ');
    await run(`UPDATE ${table} SET ${moved}`, [interval]);
  }
}
