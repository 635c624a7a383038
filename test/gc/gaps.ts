// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Requests in every gap of a collection, and a collection in every gap of a push: each held where it has to be, none of them timed. */
import type { Test } from 'tap';
import { describe, digestOf, imageOf, indexOf, pushBlob, putManifest, types } from '../support/wire-suite.js';
import { meetAt, readable, settle } from './meet.js';
import { openPlace, type Settings } from './place.js';

const linkGaps = [
  'gc.links.claimed',
  'gc.links.locked',
  'gc.links.deleted',
  'gc.blobs.claimed',
  'gc.blobs.locked',
  'gc.blobs.deleted',
  'gc.links.settled',
  'gc.links.committed',
  'gc.trash.claimed',
  'gc.trash.deleted',
  'gc.trash.advanced',
];
export const manifestGaps = [
  'gc.manifests.claimed',
  'gc.manifests.looked',
  'gc.manifests.locked',
  'gc.manifests.looked-again',
  'gc.manifests.let-go',
  'gc.manifests.deleted',
  'gc.manifests.settled',
  'gc.manifests.committed',
];

export async function requestsInGaps(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client } = place;

  for (const [index, gap] of linkGaps.entries()) {
    await t.test(`a manifest that refers to the blob, at ${gap}`, async (t) => {
      const repository = `push/gap-${index}`;
      const content = `push ${index}`;
      await pushBlob(client, repository, content);
      await pushBlob(client, repository, '{}');
      await place.age('25 hours');
      const answer = await meetAt(place, gap, () => putManifest(client, repository, 'tag', imageOf([content])));
      t.equal(answer.status, 201, answer.body.toString());
      await readable(t, place, repository, content);
      await settle(place);
      await readable(t, place, repository, content);
      t.equal((await client.send('DELETE', `/v2/${repository}/manifests/tag`)).status, 202);
    });

    await t.test(`a HEAD of the blob, at ${gap}`, async (t) => {
      const repository = `head/gap-${index}`;
      const content = `head ${index}`;
      await pushBlob(client, repository, '{}');
      await pushBlob(client, repository, content);
      await place.age('25 hours');
      const { status } = await meetAt(place, gap, () => client.send('HEAD', `/v2/${repository}/blobs/${digestOf(content)}`));
      t.ok(status === 200 || status === 404, `${status}`);
      // An hour later, less what the requests before took.
      await place.age('59 minutes');
      await place.collect();
      if (status === 200) await readable(t, place, repository, content);
      else t.equal(await pushBlob(client, repository, content), digestOf(content));
      await pushBlob(client, repository, '{}');
      t.equal((await putManifest(client, repository, 'tag', imageOf([content]))).status, 201);
      t.equal((await client.send('DELETE', `/v2/${repository}/manifests/tag`)).status, 202);
    });
  }

  for (const [index, gap] of manifestGaps.entries()) {
    const repository = `manifests/gap-${index}`;
    const child = imageOf([], { annotations: { child: String(index) } });
    const path = `/v2/${repository}/manifests/${digestOf(child)}`;
    const prepare = async (): Promise<void> => {
      await pushBlob(client, repository, '{}');
      await putManifest(client, repository, digestOf(child), child);
      await place.age('8 days');
    };

    await t.test(`a HEAD of the manifest, then the index, at ${gap}`, async (t) => {
      await prepare();
      const { status } = await meetAt(place, gap, () => client.send('HEAD', path));
      t.ok(status === 200 || status === 404, `${status}`);
      await place.age('59 minutes');
      await place.collect();
      if (status === 200) t.equal((await client.send('GET', path)).body.toString(), child, 'it stays for the hour');
      const index = indexOf([describe(types.manifest, child)]);
      const pushed = await putManifest(client, repository, 'list', index, types.index);
      t.equal(pushed.status, 201);
      t.equal(pushed.headers['warning'] === undefined, status === 200, 'the index finds its child');
      await client.send('DELETE', `/v2/${repository}/manifests/list`);
      await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(index)}`);
      await client.send('DELETE', path);
    });

    await t.test(`a tag for the manifest, and an index of it, at ${gap}`, async (t) => {
      await prepare();
      const answer = await meetAt(place, gap, () => putManifest(client, repository, 'tag', child));
      t.equal(answer.status, 201, answer.body.toString());
      await settle(place);
      t.equal((await client.send('GET', `/v2/${repository}/manifests/tag`)).body.toString(), child);
      await client.send('DELETE', path);

      await prepare();
      const index = indexOf([describe(types.manifest, child)], { annotations: { again: gap } });
      const pushed = await meetAt(place, gap, () => putManifest(client, repository, 'list', index, types.index));
      t.equal(pushed.status, 201);
      const { status } = await client.send('GET', path);
      const missing = await place.sql(`SELECT 1 FROM missing_references WHERE manifest = decode($1, 'hex')`, [
        `01${digestOf(index).slice(7)}`,
      ]);
      t.equal(missing.length, status === 200 ? 0 : 1, 'the child is there, or known to be missing');
      await client.send('DELETE', `/v2/${repository}/manifests/${digestOf(index)}`);
      await client.send('DELETE', path);
    });
  }
}

export async function collectionsInGaps(t: Test, settings: Settings): Promise<void> {
  const place = await openPlace(t, settings);
  const { client } = place;
  for (const gap of ['write.prepared', 'write.stored']) {
    await t.test(`of a manifest, at ${gap}`, async (t) => {
      const repository = `push/${gap}`;
      const content = `content ${gap}`;
      for (const blob of ['{}', content]) await pushBlob(client, repository, blob);
      await place.age('25 hours');
      const hold = place.hold(gap);
      const pushed = putManifest(client, repository, 'tag', imageOf([content]));
      await hold.reached;
      await place.collect();
      hold.release();
      t.equal((await pushed).status, 201);
      await settle(place);
      await readable(t, place, repository, content);
    });

    await t.test(`of a mount, at ${gap}`, async (t) => {
      const content = `mounted ${gap}`;
      const digest = await pushBlob(client, `source/${gap}`, content);
      await place.age('25 hours');
      const hold = place.hold(gap);
      const mounted = client.send('POST', `/v2/target/${gap}/blobs/uploads/?mount=${digest}&from=source/${gap}`, { body: '' });
      await hold.reached;
      await place.collect();
      hold.release();
      const { status } = await mounted;
      t.equal(status, 202, 'there is nothing to mount any more, and the client uploads');
      await pushBlob(client, `target/${gap}`, content);
      await readable(t, place, `target/${gap}`, content);
    });

    await t.test(`of a blob that is there, at ${gap}`, async (t) => {
      const content = `again ${gap}`;
      await pushBlob(client, `first/${gap}`, content);
      await place.age('25 hours');
      const hold = place.hold(gap);
      const pushed = client.send('POST', `/v2/second/${gap}/blobs/uploads/?digest=${digestOf(content)}`, { body: content });
      await hold.reached;
      await place.collect();
      hold.release();
      t.equal((await pushed).status, 201);
      await place.age('25 hours');
      await place.emptyTrash();
      await readable(t, place, `second/${gap}`, content);
    });
  }
}
