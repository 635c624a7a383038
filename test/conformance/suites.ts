// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The two official suites: that of the specification as it is written now, and that of its last release. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { passwords, settings as accessSettings } from '../access/people.js';
import type { Tool } from '../support/tools.js';
import { readResults, type SuiteResults } from './results.js';

/** How the registry is configured, and what the suite is told of it. */
export interface Settings {
  readonly title: string;
  readonly registry: object;
  readonly suite: Readonly<Record<string, string>>;
  /** At least so many must pass (a registry that mounts anonymously gets more); undefined asks for one. */
  readonly passesAtLeast?: number;
}

export interface Suite {
  readonly tool: Tool;
  readonly settings: readonly Settings[];
  environment(url: string, repositories: readonly [string, string], directory: string): Readonly<Record<string, string>>;
  /** Rejects when the suite did not run. Its exit code does not tell: it may be 0 when the configuration was wrong. */
  read(directory: string): Promise<SuiteResults>;
}

const authenticated = {
  title: 'authenticated',
  registry: await accessSettings(),
  suite: { OCI_USERNAME: 'admin', OCI_PASSWORD: passwords.admin },
};
/** A token is for repositories that are named, and nobody names those that an anonymous mount could find a blob in. */
const namedMounts = { OCI_API_BLOBS_MOUNT_ANONYMOUS: 'false' };
const sparse = { registry: { manifests: { sparse: 'accept' } }, suite: { OCI_DATA_SPARSE: 'true' }, passesAtLeast: 1028 };

const current: Suite = {
  tool: 'conformance',
  settings: [
    { title: 'default', registry: {}, suite: {} },
    { title: 'sparse', ...sparse },
    { ...authenticated, suite: { ...authenticated.suite, ...namedMounts } },
    {
      ...sparse,
      title: 'sparse, authenticated',
      registry: { ...authenticated.registry, ...sparse.registry },
      suite: { ...authenticated.suite, ...sparse.suite, ...namedMounts },
    },
  ],
  environment: (url, [first, second], directory) => ({
    OCI_REGISTRY: new URL(url).host,
    OCI_TLS: url.startsWith('https:') ? 'enabled' : 'disabled',
    OCI_REPO1: first,
    OCI_REPO2: second,
    OCI_VERSION: 'dev',
    OCI_RESULTS_DIR: directory,
  }),
  async read(directory) {
    await readFile(path.join(directory, 'results.yaml')); // Written last but one; without it the suite did not run.
    return readResults(directory);
  },
};

/** What the released suite leaves out by itself: its ways for registries that cannot be pushed to, and for mounts that end otherwise than here. */
const otherWays = [
  'Get tag name from environment',
  'Populate registry with test tags (no push)',
  'Cross-mounting of nonexistent blob should yield session id',
  'Cross-mounting without from, and automatic content discovery disabled should return a 202',
];

const released: Suite = {
  tool: 'conformance-1.1',
  settings: [
    { title: 'default', registry: {}, suite: {}, passesAtLeast: 76 },
    { ...authenticated, passesAtLeast: 76 },
  ],
  environment: (url, [first, second], directory) => ({
    OCI_ROOT_URL: url,
    OCI_NAMESPACE: first,
    OCI_CROSSMOUNT_NAMESPACE: second,
    OCI_AUTOMATIC_CROSSMOUNT: '1',
    OCI_TEST_PULL: '1',
    OCI_TEST_PUSH: '1',
    OCI_TEST_CONTENT_DISCOVERY: '1',
    OCI_TEST_CONTENT_MANAGEMENT: '1',
    OCI_REPORT_DIR: directory,
  }),
  async read(directory) {
    const results = await readResults(directory);
    const notPassed = results.notPassed.filter(({ name, status }) => status !== 'skipped' || !otherWays.some((way) => name.endsWith(way)));
    const disabled = results.notPassed.length - notPassed.length;
    return { ...results, notPassed, disabled, skip: results.skip - disabled };
  },
};

export const suites: Readonly<Record<string, Suite>> = { current, released };
