// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Non-distributable layers: nobody has to push them, and those that are pushed stay as long as what leads to them. */
import t from 'tap';
import { gcProtocol } from '../../src/collector/gate-queries.js';
import { describe, digestOf, imageOf, imageWithBlobs, pushBlob, putManifest, types } from '../support/wire-suite.js';
import { openPlace, type Place } from './place.js';

const imageFor = (layers: readonly string[], more: object = {}) =>
  imageOf([], { layers: layers.map((layer) => describe(types.foreignLayer, layer)), ...more });

const column = (text: string) => `'\\x01${digestOf(text).slice('sha256:'.length)}'::bytea`;

function operationsOn(place: Place, repository: string) {
  const { client } = place;
  return {
    pull: async (text: string): Promise<number> => (await client.send('GET', `/v2/${repository}/blobs/${digestOf(text)}`)).status,
    push: async (tag: string, image: string): Promise<string> => {
      await pushBlob(client, repository, '{}');
      const { status, headers, body } = await putManifest(client, repository, tag, image);
      return status === 201 ? (headers['warning'] ?? 'taken') : `${status} ${body.toString()}`;
    },
    days: async (count: number): Promise<void> => {
      await place.age(`${count} days 1 hour`);
      await place.collect();
    },
  };
}

void t.test('layers that may be elsewhere', async (t) => {
  const place = await openPlace(t, { quota: { repositories: [{ match: 'quota/*', size: '1MiB' }] } });
  const { client } = place;

  for (const [what, count] of [
    ['a layer', 1],
    ['more than there are locks for', 65],
  ] as const) {
    const layers = Array.from({ length: count }, (_, index) => `${what} ${index}`);
    const [layer = ''] = layers;

    await t.test(`${what}, before its manifest`, async (t) => {
      const { pull, push, days } = operationsOn(place, `before/x${count}`);
      await pushBlob(client, `before/x${count}`, layer);
      t.equal(await push('v1', imageFor(layers)), 'taken', 'what is not there is no matter');
      await days(5);
      t.equal(await pull(layer), 200, 'it stays');
    });

    await t.test(`${what}, after its manifest`, async (t) => {
      const { pull, push, days } = operationsOn(place, `after/x${count}`);
      t.equal(await push('v1', imageFor(layers)), 'taken');
      await days(2);
      t.equal(await pull(layer), 404);
      await pushBlob(client, `after/x${count}`, layer);
      await days(5);
      t.equal(await pull(layer), 200, 'it stays');
      const rows = `JOIN repositories r ON r.id = repository_id WHERE r.name = 'after/x${count}' AND digest = ${column(layer)}`;
      t.strictSame(await place.sql(`SELECT digest FROM missing_references ${rows}`), [], 'and counts as any other');
      t.equal((await place.sql(`SELECT digest FROM manifest_blobs ${rows}`)).length, 1);
    });
  }

  await t.test('a layer arrives while its manifest is pushed', async (t) => {
    const { pull, days } = operationsOn(place, 'meets/a');
    await pushBlob(client, 'meets/a', '{}');
    const hold = place.hold('write.stored');
    const pushed = putManifest(client, 'meets/a', 'v1', imageFor(['meets']));
    await hold.reached;
    await pushBlob(client, 'meets/a', 'meets');
    hold.release();
    t.equal((await pushed).status, 201);
    t.strictSame(await place.sql(`SELECT digest FROM missing_references WHERE digest = ${column('meets')}`), []);
    await days(5);
    t.equal(await pull('meets'), 200);
  });

  await t.test('a layer that its manifest needs as well is needed', async (t) => {
    const { push } = operationsOn(place, 'needed/a');
    const both = [describe(types.layer, 'both'), describe(types.foreignLayer, 'both')];
    t.match(await push('v1', imageOf([], { layers: both })), /^404 .*MANIFEST_BLOB_UNKNOWN/);
  });

  await t.test('a manifest that is deleted keeps it while it can come back', async (t) => {
    const { pull, push, days } = operationsOn(place, 'undone/a');
    const image = imageFor(['undone']);
    await pushBlob(client, 'undone/a', 'undone');
    await push('v1', image);
    t.equal((await client.send('DELETE', `/v2/undone/a/manifests/${digestOf(image)}`)).status, 202);
    await days(6);
    t.equal(await pull('undone'), 200, 'for the undo window');
    await days(2);
    t.equal(await pull('undone'), 404, 'and then it goes');
    t.strictSame(await place.sql(`SELECT digest FROM repository_blobs WHERE digest = ${column('undone')}`), []);
  });

  await t.test('what was collected comes back with its manifest', async (t) => {
    const { pull, push, days } = operationsOn(place, 'back/a');
    await pushBlob(client, 'back/a', 'back');
    await days(1);
    t.equal(await pull('back'), 404);
    t.equal(await push('v1', imageFor(['back'])), 'taken');
    t.equal(await pull('back'), 200);
    await days(5);
    t.equal(await pull('back'), 200, 'and stays');
  });

  await t.test('a damaged one is told of, and refuses nothing', async (t) => {
    const { pull, push, days } = operationsOn(place, 'damaged/a');
    await pushBlob(client, 'damaged/a', 'damaged');
    await push('v1', imageFor(['damaged', 'elsewhere']));
    await place.sql(`UPDATE blobs SET damaged = true WHERE digest = ${column('damaged')}`);
    t.equal(await push('v2', imageFor(['damaged', 'elsewhere'])), '299 - "1 of the references are not in this repository (yet)"');
    t.equal(await pull('damaged'), 404);
    await pushBlob(client, 'damaged/a', 'damaged');
    t.equal(await push('v3', imageFor(['damaged', 'elsewhere'])), 'taken');
    await days(5);
    t.equal(await pull('damaged'), 200);
  });

  await t.test('within a quota as well', async (t) => {
    const { pull, push, days } = operationsOn(place, 'quota/a');
    await pushBlob(client, 'quota/a', 'limited');
    t.equal(await push('v1', imageFor(['limited', 'elsewhere'])), 'taken');
    await days(3);
    t.equal(await pull('limited'), 200);
  });
});

void t.test('manifests that a version before has stored', async (t) => {
  const place = await openPlace(t, {});
  const { pull, push, days } = operationsOn(place, 'old/a');
  const register = (protocol: number): Promise<unknown> =>
    place.sql(`INSERT INTO nodes (id, version, gc_protocol) VALUES (gen_random_uuid(), 'before', $1)`, [protocol]);
  const rounds = async (): Promise<unknown> =>
    (await place.sql<{ round: number; done: boolean }>('SELECT round, done FROM optional_walk'))[0];
  const layers = Array.from({ length: 5 }, (_, index) => `old ${index}`);

  await place.collect();
  t.strictSame(await rounds(), { round: 0, done: true }, 'an empty registry is soon looked through');
  await register(gcProtocol);
  t.strictSame(await rounds(), { round: 0, done: true }, 'a node of this version changes nothing');
  await place.sql(`DELETE FROM nodes WHERE version = 'before'`);
  await register(gcProtocol - 1);
  for (const layer of layers) {
    await pushBlob(place.client, 'old/a', layer);
    t.equal(await push(digestOf(layer).slice(7, 20), imageFor([layer, `${layer} elsewhere`])), 'taken');
  }
  const plain = await imageWithBlobs(place.client, 'old/a', ['plain'], { annotations: { text: 'nondistributable rootfs.foreign' } });
  t.equal(await push('plain', plain), 'taken');
  const referred = async (): Promise<number[]> => {
    const [row] = await place.sql<{ here: number; absent: number }>(
      `SELECT (SELECT count(*) FROM manifest_blobs)::int AS here, (SELECT count(*) FROM missing_references)::int AS absent`,
    );
    return [row?.here ?? 0, row?.absent ?? 0];
  };
  t.strictSame(await referred(), [12, 5]);
  // What it pushes refers to nothing of this.
  await place.sql('DELETE FROM missing_references');
  for (const layer of layers) await place.sql(`DELETE FROM manifest_blobs WHERE digest = ${column(layer)}`);
  await days(3);
  t.equal(place.collection.counters.hindrance, 'a node of another version is running', 'beside it nothing is collected');
  t.strictSame(
    await Promise.all(layers.map(pull)),
    layers.map(() => 200),
  );
  t.strictSame(await rounds(), { round: 1, done: false });

  await place.sql(`DELETE FROM nodes WHERE version = 'before'`);
  await place.collect({ batch: 2 });
  t.strictSame(await rounds(), { round: 1, done: true });
  t.strictSame(await referred(), [12, 5], 'when it is gone, each gets its references');
  await days(5);
  t.strictSame(
    await Promise.all(layers.map(pull)),
    layers.map(() => 200),
    'and its layers stay',
  );

  await t.test('links wait for the walk', async (t) => {
    await pushBlob(place.client, 'old/a', 'loose');
    await place.age('25 hours');
    await place.sql(`UPDATE optional_walk SET done = false, repository_id = 0, digest = ''`);
    const walk = `UPDATE optional_walk SET round = round + 1`;
    // Somebody begins it anew while a batch is looked at.
    const { pool } = place.collection;
    const restless = new Proxy(pool, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (name !== 'query') return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        return async (query: { readonly name?: string }) => {
          if (query.name === 'move-optional-walk') await place.sql(walk);
          return target.query(query as never);
        };
      },
    });
    await place.collect({ pool: restless, batch: 10 });
    t.match(await rounds(), { done: false }, 'a step of the walk before does not end the new one');
    // A pull would keep it for a while.
    const isThere = async (): Promise<boolean> =>
      (await place.sql(`SELECT digest FROM repository_blobs WHERE digest = ${column('loose')}`)).length > 0;
    t.equal(await isThere(), true, 'and nothing goes');
    await place.collect();
    t.match(await rounds(), { done: true });
    t.equal(await isThere(), false);
  });
});
