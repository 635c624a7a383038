// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Test } from 'tap';
import { FollowingClient, type HttpClient } from '../support/http-client.js';
import { checkBlobs } from './blob-checks.js';
import { algorithms } from './content.js';
import { dataSets } from './data-sets.js';
import { checkEmpty, checkManifestErrors, checkRefusedSparse, checkTags, checkUnknownAlgorithms } from './general-checks.js';
import { Place } from './place.js';
import { checkDataSet, FormCycle } from './set-checks.js';

/** All checks, in two repositories of `team` that nobody has used. `sparse`: the registry takes manifests that may be incomplete. */
export async function checkEverything(t: Test, client: HttpClient, sparse: boolean): Promise<void> {
  const [first, second] = ['repo1', 'repo2'].map((name) => new Place(client, `team/specification/${name}`));
  if (first === undefined || second === undefined) throw new Error('two repositories');
  await checkEmpty(t, first);
  // What an upload does cannot depend on what a manifest may lack.
  if (!sparse) for (const algorithm of algorithms) await checkBlobs(t, algorithm, first, second);
  const forms = new FormCycle();
  for (const set of dataSets({ sparse })) await checkDataSet(t, set, first, forms);
  await checkManifestErrors(t, first);
  if (!sparse) await checkRefusedSparse(t, first);
  await checkUnknownAlgorithms(t, first);
  for (const algorithm of algorithms) await checkTags(t, second, algorithm);
  if (client instanceof FollowingClient) t.ok(client.followed > 50, `${client.followed} blobs were read from the store`);
}
