// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What holds for the statements of a connection: how long they may take, what they may block, and how the server plans them. */
import type { ClientBase } from 'pg';

export type SessionSettings = Readonly<Record<string, string>>;

/** Of every connection of a pool: nothing may hold a lock for long, and a half-dead peer is noticed on both sides. */
export const pooledSettings: SessionSettings = {
  statement_timeout: '30s',
  lock_timeout: '10s',
  idle_in_transaction_session_timeout: '30s',
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
  timezone: 'UTC',
  // Statements that wait for a lock look again afterwards.
  default_transaction_isolation: 'read committed',
  jit: 'off',
  // Every statement here finds its rows by an index, and must do so also before a table has statistics: a scan chosen while it was empty stays until it is analyzed.
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
};

/** After a lock is waited for this long the collector gives its batch up: long before Postgres (1 s) looks for a deadlock and might find the push at fault. */
export const collectorSettings: SessionSettings = { lock_timeout: '200ms', idle_in_transaction_session_timeout: '10s' };

/** Who migrates takes as long as it takes, but holds nothing for longer than this after it froze or lost its power. */
export const migrationSettings: SessionSettings = {
  idle_in_transaction_session_timeout: '10s',
  idle_session_timeout: '10s',
  tcp_keepalives_idle: '10',
  tcp_keepalives_interval: '5',
  tcp_keepalives_count: '3',
};

/** Has no meaning of its own: a session that knows it was sent the others, too. */
const mark = 'ha_registry.sent';

/** They are sent as the connection begins, which costs nothing. */
export function optionsOf(settings: SessionSettings): string {
  return Object.entries({ ...settings, [mark]: 'on' })
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, '\\$&')}`)
    .join(' ');
}

/**
 * Whether what is sent as connections begin gets to the server. A pooler keeps it to itself (PgBouncer: `ignore_startup_parameters`), and a URL with `options` of its
 * own has those sent instead; what a session should know is then told to each by a statement. Once the server itself has answered, nobody asks any more.
 */
export class SettingsDelivery {
  private arrives = false;

  async confirm(client: ClientBase, settings: SessionSettings): Promise<void> {
    if (this.arrives) return;
    // A pooler tells a client another process id than the server's own; what a session behind it knows it may have been told for who had it before.
    const { rowCount } = await client.query(
      `SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
       WHERE pg_backend_pid() IS DISTINCT FROM $3::int OR current_setting($4, true) IS NULL`,
      [Object.keys(settings), Object.values(settings), processIdOf(client), mark],
    );
    if (rowCount === 0) this.arrives = true;
  }
}

/** As it was told when the connection began. */
export function processIdOf(client: ClientBase): number | null {
  return (client as unknown as { processID: number | null }).processID;
}
