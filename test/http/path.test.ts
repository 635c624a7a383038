// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { parsePath } from '../../src/http/path.js';

const digest = `sha256:${'a'.repeat(64)}`;
const uuid = '00000000-0000-4000-8000-000000000000';

void t.test('what paths name', async (t) => {
  for (const [path, expected] of [
    ['/v2', { kind: 'base' }],
    ['/v2/', { kind: 'base' }],
    ['/v2/_catalog', { kind: 'catalog' }],
    ['/livez', { kind: 'livez' }],
    ['/readyz', { kind: 'readyz' }],
    ['/v2/a/manifests/v1', { kind: 'manifest', repository: 'a', reference: { tag: 'v1' } }],
    [`/v2/a/b/manifests/${digest}`, { kind: 'manifest', repository: 'a/b', reference: { digest } }],
    [`/v2/a/manifests/${digest.replace(':', '%3a')}`, { kind: 'manifest', repository: 'a', reference: { digest } }],
    [`/v2/a/blobs/${digest}`, { kind: 'blob', repository: 'a', digest }],
    ['/v2/a/blobs/uploads/', { kind: 'uploads', repository: 'a' }],
    ['/v2/a/blobs/uploads', { kind: 'uploads', repository: 'a' }],
    [`/v2/a/b/blobs/uploads/${uuid}`, { kind: 'session', repository: 'a/b', id: uuid }],
    ['/v2/a/tags/list', { kind: 'tags', repository: 'a' }],
    [`/v2/a/referrers/${digest}`, { kind: 'referrers', repository: 'a', digest }],
    ['/v2/a%2Fb/tags/list', { kind: 'tags', repository: 'a/b' }],
    ['/v2/%61/tags/list', { kind: 'tags', repository: 'a' }],
    // Names of words that come after names.
    ['/v2/tags/tags/list', { kind: 'tags', repository: 'tags' }],
    ['/v2/tags/list/tags/list', { kind: 'tags', repository: 'tags/list' }],
    ['/v2/manifests/manifests/manifests', { kind: 'manifest', repository: 'manifests', reference: { tag: 'manifests' } }],
    ['/v2/blobs/uploads/manifests/x', { kind: 'manifest', repository: 'blobs/uploads', reference: { tag: 'x' } }],
    ['/v2/a/blobs/uploads/blobs/uploads/', { kind: 'uploads', repository: 'a/blobs/uploads' }],
    [`/v2/a/blobs/uploads/blobs/uploads/${uuid}`, { kind: 'session', repository: 'a/blobs/uploads', id: uuid }],
    [`/v2/uploads/blobs/${digest}`, { kind: 'blob', repository: 'uploads', digest }],
    ['/v2/v2/tags/list', { kind: 'tags', repository: 'v2' }],
  ] as const) {
    t.strictSame(parsePath(path), expected, path);
  }
});

void t.test('what names nothing', async (t) => {
  for (const [path, code] of [
    ['/', 'NOT_FOUND'],
    ['', 'NOT_FOUND'],
    ['/v1/', 'NOT_FOUND'],
    ['/v2x', 'NOT_FOUND'],
    ['//v2/', 'NOT_FOUND'],
    ['/v2/a', 'NOT_FOUND'],
    ['/v2/a/', 'NOT_FOUND'],
    ['/v2/a/tags', 'NOT_FOUND'],
    ['/v2/a/tags/x', 'NOT_FOUND'],
    ['/v2/a/uploads/x', 'NOT_FOUND'],
    ['/v2/a/x/uploads/y', 'NOT_FOUND'],
    ['/v2/_catalog/', 'NOT_FOUND'],
    ['/v2/%zz/tags/list', 'NOT_FOUND'],
    ['/v2/%c3%28/tags/list', 'NOT_FOUND'],
    ['/v2/a/tags/list/', 'NOT_FOUND'],
    ['/constructor', 'NOT_FOUND'],
    ['/v2/a/toString/b', 'NOT_FOUND'],
    ['/v2//tags/list', 'NAME_INVALID'],
    ['/v2/tags/list', 'NAME_INVALID'],
    ['/v2/manifests/v1', 'NAME_INVALID'],
    ['/v2/A/tags/list', 'NAME_INVALID'],
    ['/v2/../tags/list', 'NAME_INVALID'],
    ['/v2/a/../b/tags/list', 'NAME_INVALID'],
    ['/v2/a%2f..%2fb/tags/list', 'NAME_INVALID'],
    ['/v2/%252e/tags/list', 'NAME_INVALID'],
    ['/v2/a%00/tags/list', 'NAME_INVALID'],
    [`/v2/${'a'.repeat(256)}/tags/list`, 'NAME_INVALID'],
    ['/v2/a/manifests/', 'TAG_INVALID'],
    ['/v2/a/manifests/..', 'TAG_INVALID'],
    ['/v2/a/manifests/a%20b', 'TAG_INVALID'],
    ['/v2/a/manifests/a:b', 'DIGEST_INVALID'],
    ['/v2/a/blobs/', 'DIGEST_INVALID'],
    ['/v2/a/blobs/x', 'DIGEST_INVALID'],
    ['/v2/a/referrers/x', 'DIGEST_INVALID'],
  ] as const) {
    t.throws(() => parsePath(path), { code }, path);
  }
});
