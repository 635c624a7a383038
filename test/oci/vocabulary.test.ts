// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The specification's grammars, as tables of text and what it is. */
import t from 'tap';
import { algorithmOf, findDigest, hexOf, makeDigest, parseDigest } from '../../src/oci/digest.js';
import { errorBody, RegistryError } from '../../src/oci/errors.js';
import { findTag, parseReference, parseTag, referrersTag } from '../../src/oci/reference.js';
import { findRepositoryName, parseRepositoryName } from '../../src/oci/repository-name.js';

const hex256 = '0123456789abcdef'.repeat(4);
const hex512 = hex256.repeat(2);

void t.test('digests', async (t) => {
  for (const text of [`sha256:${hex256}`, `sha512:${hex512}`]) {
    const digest = parseDigest(text);
    t.equal(digest, text);
    t.equal(`${algorithmOf(digest)}:${hexOf(digest)}`, text, 'its parts');
    t.equal(makeDigest(algorithmOf(digest), Buffer.from(hexOf(digest), 'hex')), text, 'and back');
  }
  const view = new Uint8Array(Buffer.from(`ff${hex256}ff`, 'hex')).subarray(1, 33);
  t.equal(makeDigest('sha256', view), `sha256:${hex256}`, 'of a view into larger memory');
  for (const text of [
    '',
    ':',
    'sha256',
    'sha256:',
    `sha256:${hex256.slice(1)}`,
    `sha256:${hex256}0`,
    `sha256:${hex256.toUpperCase()}`,
    `sha256:${hex512}`,
    `sha512:${hex256}`,
    `SHA256:${hex256}`,
    `sha256:${hex256.slice(1)}g`,
    `sha256:${hex256.slice(1)}\n`,
    ` sha256:${hex256}`,
    `sha256:${hex256} `,
    `sha256-${hex256}`,
    `md5:${hex256}`,
    `blake3:${hex256}`,
    `sha256:${hex256.slice(3)}../`,
  ]) {
    t.equal(findDigest(text), undefined, JSON.stringify(text));
    t.throws(() => parseDigest(text), { code: 'DIGEST_INVALID', status: 400 });
  }
});

void t.test('tags and references', async (t) => {
  for (const text of ['a', 'A', '0', '_', 'latest', 'v1.2.3', 'a-b', 'a.b', 'a_b', '_.-', 'x'.repeat(128), `sha256-${hex256}.sig`]) {
    t.equal(parseTag(text), text);
    t.strictSame(parseReference(text), { tag: text });
  }
  for (const text of ['', '.', '-', '.a', '-a', 'a b', 'a+b', 'a/b', 'ä', 'x'.repeat(129), 'a\n', '\na', 'a\0', 'a%41']) {
    t.equal(findTag(text), undefined, JSON.stringify(text));
    t.throws(() => parseReference(text), { code: 'TAG_INVALID', status: 400 });
  }
  t.strictSame(parseReference(`sha256:${hex256}`), { digest: `sha256:${hex256}` }, 'what has a colon is a digest');
  t.throws(() => parseReference('a:b'), { code: 'DIGEST_INVALID' });
  t.equal(referrersTag(parseDigest(`sha256:${hex256}`)), `sha256-${hex256}`);
  t.equal(referrersTag(parseDigest(`sha512:${hex512}`)), `sha512-${hex512.slice(0, 64)}`, 'cut to what a tag can hold');
});

void t.test('repository names', async (t) => {
  for (const text of ['a', '0', 'a.b', 'a_b', 'a__b', 'a-b', 'a--b', 'a---b', 'a/b', 'a/b/c/d', 'a1.b2_c3__d4-e5', 'a'.repeat(255)]) {
    t.equal(parseRepositoryName(text), text);
    t.equal(findRepositoryName(text), text);
  }
  for (const text of [
    '',
    'A',
    'a_',
    '_a',
    'a___b',
    'a..b',
    'a._b',
    'a-_b',
    '.a',
    'a.',
    '-a',
    'a-',
    '/a',
    'a/',
    'a//b',
    'a/B',
    'a/../b',
    '..',
    'a b',
    'a\n',
    'a\0',
    'ä',
    'a'.repeat(256),
  ]) {
    t.equal(findRepositoryName(text), undefined, JSON.stringify(text));
    t.throws(() => parseRepositoryName(text), { code: 'NAME_INVALID', status: 400 });
  }
  const began = Date.now();
  for (const text of [`${'a-'.repeat(120)}!`, `${'a__'.repeat(80)}_`, `${'0'.repeat(250)}.`, 'a/'.repeat(127)]) findRepositoryName(text);
  t.ok(Date.now() - began < 1000, 'nothing makes the grammar try for long');
});

void t.test('errors', async (t) => {
  t.equal(errorBody('BLOB_UNKNOWN', 'm', { a: 1 }), '{"errors":[{"code":"BLOB_UNKNOWN","message":"m","detail":{"a":1}}]}');
  t.equal(errorBody('UNKNOWN', 'm'), '{"errors":[{"code":"UNKNOWN","message":"m"}]}', 'a detail may be missing');
  const cause = new Error('why');
  const error = new RegistryError('RANGE_INVALID', 'm', { headers: { Range: '0-1' }, cause });
  t.match(error, { status: 416, code: 'RANGE_INVALID', headers: { Range: '0-1' }, cause });
  t.equal(new RegistryError('SIZE_INVALID', 'm', { status: 413 }).status, 413, 'another status than the code has');
});
