// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who logs in with a real client, and what they may then do and may not; checked by the registry's own word. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { passwords, type Person } from '../access/people.js';
import { CommandFailed } from '../support/command.js';
import type { Client } from './client.js';
import { layerSizes, type Layout } from './images.js';
import type { RegistryApi } from './registry-api.js';
import type { RequestLog } from './request-log.js';

export interface AccessDrill {
  readonly client: Client;
  /** As somebody who may do everything in the writer's repositories. */
  readonly registry: RegistryApi;
  /** As the owner of `other`. */
  readonly elsewhere: RegistryApi;
  readonly log: RequestLog;
  /** `one` and `two` are the writer's, and the reader may pull from them; `other` is a stranger's. */
  readonly repositories: Readonly<Record<'one' | 'two' | 'other', string>>;
  readonly name: (repository: 'one' | 'two' | 'other', tag?: string) => string;
  /** Is there before the client comes. */
  readonly present: string;
  readonly image: Layout;
}

export interface AccessOperation {
  readonly title: string;
  readonly has: (client: Client) => boolean;
  readonly run: (drill: AccessDrill) => Promise<void>;
}

/** In the order of running. */
export const accessOperations: readonly AccessOperation[] = [
  { title: 'anonymous: no pull', has: () => true, run: anonymousPull },
  { title: 'wrong password: no pull', has: () => true, run: wrongPassword },
  { title: 'writer: push', has: () => true, run: push },
  { title: 'writer: mount', has: () => true, run: mount },
  { title: 'writer: pull to a clean store', has: () => true, run: pull },
  { title: 'writer: list tags', has: ({ listTags }) => listTags !== undefined, run: listTags },
  { title: 'writer: no push elsewhere', has: () => true, run: pushElsewhere },
  { title: 'reader: pull', has: () => true, run: readerPulls },
  { title: 'reader: no push', has: () => true, run: readerPushes },
];

async function anonymousPull({ client, log, present }: AccessDrill): Promise<void> {
  await mustBeRefused(log, [401], () => client.pull(present));
}

/** Some clients notice when they log in, others when they pull. */
async function wrongPassword({ client, log, present }: AccessDrill): Promise<void> {
  await mustBeRefused(log, [401], async () => {
    await client.logIn('writer', 'a wrong one');
    await client.pull(present);
  });
}

async function push({ client, registry, repositories, name, image }: AccessDrill): Promise<void> {
  await logIn(client, 'writer');
  const digest = await client.push(image, name('one', 'v1'));
  assert.equal(digest, await registry.verified(repositories.one, 'v1'), 'the digest that the client reports');
}

async function mount({ client, registry, log, repositories, name }: AccessDrill): Promise<void> {
  const { two, one } = repositories;
  await client.copy(name('one', 'v1'), name('two', 'v1'));
  assert.equal(await registry.verified(two, 'v1'), await registry.verified(one, 'v1'));
  const mounted = log.requests().filter((each) => each.repository === two && each.route === 'uploads' && each.status === 201);
  assert.ok(mounted.length >= layerSizes.length, `${mounted.length} mounts were answered 201, for ${layerSizes.length} layers`);
  const uploaded = log.requests().filter(({ repository, route }) => repository === two && (route === 'uploads' || route === 'session'));
  const bytes = uploaded.reduce((sum, { receivedBytes }) => sum + receivedBytes, 0);
  assert.ok(bytes < Math.min(...layerSizes), `${bytes} bytes were uploaded, so no layer`);
}

async function pull({ client, registry, repositories, name }: AccessDrill): Promise<void> {
  assert.equal(await client.pull(name('two', 'v1')), await registry.verified(repositories.two, 'v1'));
}

async function listTags({ client, name }: AccessDrill): Promise<void> {
  await client.copy(name('one', 'v1'), name('one', 'v2'));
  assert.deepEqual((await client.listTags?.(name('one')))?.sort(), ['v1', 'v2']);
}

async function pushElsewhere({ client, elsewhere, log, repositories, name, image }: AccessDrill): Promise<void> {
  await mustBeRefused(log, [401, 403], () => client.push(image, name('other', 'v1')));
  assert.equal(await elsewhere.manifest(repositories.other, 'v1'), undefined, 'what was pushed nevertheless');
}

async function readerPulls({ client, registry, repositories, name }: AccessDrill): Promise<void> {
  await logIn(client, 'reader');
  assert.equal(await client.pull(name('one', 'v1')), await registry.verified(repositories.one, 'v1'));
}

async function readerPushes({ client, registry, log, repositories, name }: AccessDrill): Promise<void> {
  await mustBeRefused(log, [401, 403], () => client.copy(name('one', 'v1'), name('one', 'of-the-reader')));
  assert.equal(await registry.manifest(repositories.one, 'of-the-reader'), undefined, 'what was pushed nevertheless');
}

async function logIn(client: Client, person: Person): Promise<void> {
  await client.logIn(person, passwords[person]);
}

/** The client fails, as the registry told it; and nothing was taken meanwhile. */
async function mustBeRefused(log: RequestLog, statuses: readonly number[], act: () => Promise<unknown>): Promise<void> {
  log.forget();
  await assert.rejects(act, CommandFailed, 'the client fails');
  const refusals = () => log.requests().filter(({ status }) => statuses.includes(status));
  for (let tries = 0; refusals().length === 0 && tries < 50; tries++) await sleep(20);
  assert.ok(refusals().length > 0, `the registry answered ${statuses.join(' or ')}`);
  const taken = log.requests().filter(({ method, status }) => ['POST', 'PATCH', 'PUT'].includes(method) && status === 201);
  assert.deepEqual(taken, [], 'what was taken nevertheless');
  assert.deepEqual(
    log.requests().filter(({ status }) => status >= 500),
    [],
    'faults of the registry',
  );
}
