// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** regctl, of regclient. */
import { mkdtemp, readFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { verifyLayout } from './images.js';

const chunkBytes = 1024 * 1024;

export const startRegctl: StartClient = async ({ scratch, host, tls }) => {
  const tool = await findTool('regctl');
  if ('missing' in tool) return tool;
  const regctl = async (args: string[], { input, config = 'plain' }: { input?: Buffer | string; config?: 'plain' | 'chunks' } = {}) => {
    const env = { ...isolated(scratch, tls), REGCTL_CONFIG: path.join(scratch, `${config}.json`) };
    return (await run(tool.path, args, { env, ...(input === undefined ? {} : { input }) })).stdout.trim();
  };
  const trust = tls === undefined ? ['--tls', 'disabled'] : ['--cacert', await readFile(tls.authorityFile, 'utf8')];
  const registry = ['registry', 'set', host, ...trust, '--skip-check'];
  await regctl(registry);
  await regctl([...registry, '--blob-chunk', String(chunkBytes), '--blob-max', '65536'], { config: 'chunks' });
  const copy = async (source: string, target: string) => void (await regctl(['image', 'copy', source, target]));
  const pullLayout = (source: string, directory: string) => copy(source, `ocidir://${directory}:pulled`);
  return {
    version: /VCSTag:\s+(\S+)/.exec(await regctl(['version']))?.[1] ?? 'unknown',
    logIn: async (username, password) =>
      void (await regctl(['registry', 'login', host, '--user', username, '--pass-stdin'], { input: password })),
    copiesIndexes: true,
    resumesPulls: true,
    mountsAnonymously: true,
    async push({ directory, tag }, target) {
      await copy(`ocidir://${directory}:${tag}`, target);
      return regctl(['image', 'digest', target]);
    },
    copy,
    async pull(source) {
      const directory = await mkdtemp(path.join(scratch, 'pull-'));
      await pullLayout(source, directory);
      return verifyLayout(directory);
    },
    pullLayout,
    listTags: async (repository) => (await regctl(['tag', 'ls', repository])).split('\n'),
    listRepositories: async (at) => (await regctl(['repo', 'ls', at])).split('\n'),
    attach: async (file, subject, artifactType) =>
      void (await regctl(['artifact', 'put', '--artifact-type', artifactType, '--subject', subject], { input: await readFile(file) })),
    async discover(subject, artifactType) {
      const filter = ['--filter-artifact-type', artifactType, '--format', '{{json .Descriptors}}'];
      const descriptors = JSON.parse(await regctl(['artifact', 'list', subject, ...filter])) as { digest: string }[];
      return descriptors.map(({ digest }) => digest);
    },
    deleteTag: async (name) => void (await regctl(['tag', 'delete', name])),
    deleteManifest: async (name, digest) =>
      void (await regctl(['manifest', 'delete', `${name.slice(0, name.lastIndexOf(':'))}@${digest}`])),
    pushBlob: async (file, repository, digest) =>
      void (await regctl(['blob', 'put', '--digest', digest, repository], { input: await readFile(file) })),
    pushBlobInChunks: async (file, repository, digest) =>
      void (await regctl(['blob', 'put', '--digest', digest, repository], { input: await readFile(file), config: 'chunks' })),
    fetchBlob: (repository, digest) => regctl(['blob', 'get', repository, digest]),
    deleteBlob: async (repository, digest) => void (await regctl(['blob', 'delete', repository, digest])),
  };
};
