// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { parseDigest } from '../../src/oci/digest.js';
import { parseTag } from '../../src/oci/reference.js';
import { parseRepositoryName } from '../../src/oci/repository-name.js';
import {
  dataKey,
  deletionTemplate,
  entryKey,
  linkPrefix,
  linkTemplate,
  manifestPrefix,
  manifestTemplate,
  parseEntry,
  referrerTemplate,
  tagPrefix,
  tagTemplate,
} from '../../src/storage/keys.js';

const sha256 = parseDigest(`sha256:${'ab'.repeat(32)}`);
const sha512 = parseDigest(`sha512:${'cd'.repeat(64)}`);
const uuid = '11111111-2222-4333-8444-5555555555ef';
/** Names that look like something else, and the longest. */
const repositories = ['a', 'a/b/c', 'blobs/tags', 'repositories/data', 'a.b_c__d-e', 'x'.repeat(255)].map(parseRepositoryName);
const tags = ['v1', '_tags', '_blobs', '_', '1.deleted', 'x'.repeat(128)].map(parseTag);
const sequences = [0n, 1n, 42n, 2n ** 53n + 1n, 2n ** 63n - 1n];

void t.test('what a key says can be read back', async (t) => {
  for (const repository of repositories) {
    for (const sequence of sequences) {
      for (const digest of [sha256, sha512]) {
        t.strictSame(parseEntry(entryKey(linkTemplate(repository, digest, uuid), sequence)), {
          kind: 'link',
          repository,
          digest,
          uuid,
          sequence,
        });
        t.strictSame(parseEntry(entryKey(deletionTemplate(linkPrefix(repository, digest)), sequence)), {
          kind: 'link',
          repository,
          digest,
          uuid: 'deleted',
          sequence,
        });
        t.strictSame(parseEntry(entryKey(manifestTemplate(repository, digest), sequence)), {
          kind: 'manifest',
          repository,
          digest,
          deleted: false,
          sequence,
        });
        t.strictSame(parseEntry(entryKey(deletionTemplate(manifestPrefix(repository, digest)), sequence)), {
          kind: 'manifest',
          repository,
          digest,
          deleted: true,
          sequence,
        });
        for (const subject of [sha256, sha512]) {
          const key = entryKey(referrerTemplate(repository, subject, digest), sequence);
          t.strictSame(parseEntry(key), { kind: 'referrer', repository, subject, digest, sequence });
        }
        for (const tag of tags) {
          t.strictSame(parseEntry(entryKey(tagTemplate(repository, tag, digest), sequence)), {
            kind: 'tag',
            repository,
            tag,
            digest,
            sequence,
          });
          const deleted = entryKey(deletionTemplate(tagPrefix(repository, tag)), sequence);
          t.strictSame(parseEntry(deleted), { kind: 'tag', repository, tag, digest: 'deleted', sequence });
        }
      }
    }
  }
});

void t.test('the newest entry is listed first', async (t) => {
  const [repository] = repositories;
  if (repository === undefined) throw new Error('there is one');
  const numbers = [1n, 9n, 10n, 99n, 100n, 2n ** 40n, 2n ** 62n];
  const keys = numbers.map((sequence) => entryKey(tagTemplate(repository, parseTag('v1'), sha256), sequence));
  t.strictSame([...keys].sort(), keys.toReversed(), 'in the order of bytes');
  t.ok(
    keys.every((key) => key.length === keys[0]?.length),
    'all of one length',
  );
});

void t.test('the layout', async (t) => {
  const repository = parseRepositoryName('a/b');
  t.equal(dataKey(uuid), `data/ef/${uuid}`);
  t.equal(
    entryKey(linkTemplate(repository, sha256, uuid), 7n),
    `repositories/a/b/_blobs/sha256/${'ab'.repeat(32)}/09223372036854775800.${uuid}`,
  );
  t.equal(
    entryKey(tagTemplate(repository, parseTag('v1'), sha256), 7n),
    `repositories/a/b/_tags/v1/09223372036854775800.sha256.${'ab'.repeat(32)}`,
  );
  t.equal(tagPrefix(repository, ''), 'repositories/a/b/_tags/', 'all tags of a repository');
});

void t.test('other keys are none', async (t) => {
  for (const key of [
    '',
    'cluster/owner',
    dataKey(uuid),
    'repositories',
    'repositories/a',
    'repositories/_tags/x/1.deleted',
    'repositories/a/_other/x',
    'repositories/a/_tags/x',
    `repositories/a/_blobs/sha256/${'ab'.repeat(32)}/09223372036854775800`,
    'repositories/a/_blobs/sha256/x/1.y',
    `repositories/a/_manifests/md5/${'ab'.repeat(16)}/1`,
    'repositories/A/_tags/x/09223372036854775800.deleted',
    'repositories/a/_tags/09223372036854775800.deleted',
    'repositories/a/_tags/x y/09223372036854775800.deleted',
    'repositories/a/_tags/x/',
    'repositories/a/_tags/x/1.deleted',
    'repositories/a/_tags/x/99999999999999999999.deleted',
    'repositories/a/_tags/x/09223372036854775800.deleted.bak',
    ...['', '.DS_Store', 'copy', '1', '09223372036854775800.copy', '09223372036854775800.deleted.copy'].map(
      (name) => `repositories/a/_manifests/sha256/${'ab'.repeat(32)}/${name}`,
    ),
    ...['', '.DS_Store', `1.${uuid}`, '09223372036854775800.copy', `09223372036854775800.${uuid}.copy`].map(
      (name) => `repositories/a/_blobs/sha256/${'ab'.repeat(32)}/${name}`,
    ),
    ...['', `sha256-${'ab'.repeat(32)}`, `sha256-${'ab'.repeat(32)}.1`].map(
      (name) => `repositories/a/_referrers/sha256/${'ab'.repeat(32)}/${name}`,
    ),
  ]) {
    t.equal(parseEntry(key), undefined, key);
  }
});
