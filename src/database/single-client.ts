// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** One connection by itself, beside the pools. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientConfig } from 'pg';
import { optionsOf, SettingsDelivery, type SessionSettings } from './session-settings.js';

export interface SingleClient {
  /** As the server's list of connections shows it, behind `ha-registry`. */
  readonly name: string;
  readonly connectMs: number;
  /** For the answer to each statement that says nothing else. */
  readonly queryMs: number;
  readonly settings?: SessionSettings;
  readonly delivery?: SettingsDelivery;
}

/** The caller disconnects it. Its loss is told by the statement that needs it. */
export async function connectTo(
  server: ClientConfig,
  { name, connectMs, queryMs, settings, delivery = new SettingsDelivery() }: SingleClient,
): Promise<Client> {
  const client = new Client({
    ...server,
    application_name: `ha-registry ${name}`,
    connectionTimeoutMillis: connectMs,
    query_timeout: queryMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    ...(settings === undefined ? {} : { options: optionsOf(settings) }),
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    if (settings !== undefined) await delivery.confirm(client, settings);
    return client;
  } catch (error) {
    void disconnect(client);
    throw error;
  }
}

const goodbyeMs = 2_000;

/** A server that has vanished answers no goodbye, and is not waited for. */
export async function disconnect(client: Client): Promise<void> {
  await Promise.race([client.end().catch(() => undefined), sleep(goodbyeMs, undefined, { ref: false })]);
}
