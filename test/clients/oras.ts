// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { verifyLayout } from './images.js';

export const startOras: StartClient = async ({ scratch }) => {
  const tool = await findTool('oras');
  if ('missing' in tool) return tool;
  const oras = async (args: string[], cwd = scratch) => (await run(tool.path, args, { cwd, env: isolated(scratch) })).stdout.trim();
  const plain = '--plain-http';
  return {
    version: /Version:\s+(\S+)/.exec(await oras(['version']))?.[1] ?? 'unknown',
    copiesIndexes: true,
    resumesPulls: false,
    async push(layout, target) {
      const said = await oras(['cp', '--no-tty', '--from-oci-layout', `${layout.directory}:${layout.tag}`, '--to-plain-http', target]);
      return /Digest: (\S+)/.exec(said)?.[1] ?? said;
    },
    copy: async (source, target) => void (await oras(['cp', '--no-tty', '--from-plain-http', source, '--to-plain-http', target])),
    async pull(source) {
      const directory = await mkdtemp(path.join(scratch, 'pull-'));
      await oras(['cp', '--no-tty', '--from-plain-http', source, '--to-oci-layout', `${directory}:pulled`]);
      return verifyLayout(directory);
    },
    listTags: async (repository) => (await oras(['repo', 'tags', plain, repository])).split('\n'),
    listRepositories: async (host) => (await oras(['repo', 'ls', plain, host])).split('\n'),
    async attach(file, subject, artifactType) {
      const { dir, base } = path.parse(file);
      await oras(['attach', '--no-tty', plain, '--artifact-type', artifactType, subject, `${base}:text/plain`], dir);
    },
    async discover(subject, artifactType) {
      const said = await oras(['discover', plain, '--format', 'json', '--artifact-type', artifactType, subject]);
      return (JSON.parse(said) as { referrers: { digest: string }[] }).referrers.map(({ digest }) => digest);
    },
    deleteManifest: async (name) => void (await oras(['manifest', 'delete', plain, '--force', name])),
    async pushBlob(file, repository, digest) {
      const { dir, base } = path.parse(file);
      await oras(['blob', 'push', '--no-tty', plain, `${repository}@${digest}`, base], dir);
    },
    fetchBlob: (repository, digest) => oras(['blob', 'fetch', '--no-tty', plain, '--output', '-', `${repository}@${digest}`]),
    deleteBlob: async (repository, digest) => void (await oras(['blob', 'delete', plain, '--force', `${repository}@${digest}`])),
  };
};
