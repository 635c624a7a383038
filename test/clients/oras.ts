// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { verifyLayout } from './images.js';

export const startOras: StartClient = async ({ scratch, host, tls }) => {
  const tool = await findTool('oras');
  if ('missing' in tool) return tool;
  const oras = async (args: string[], { cwd = scratch, input = '' } = {}) =>
    (await run(tool.path, args, { cwd, input, env: isolated(scratch, tls) })).stdout.trim();
  const trust = (side = '') => (tls === undefined ? [`--${side}plain-http`] : [`--${side}ca-file`, tls.authorityFile]);
  const registry = trust();
  const pullLayout = async (source: string, directory: string) =>
    void (await oras(['cp', '--no-tty', ...trust('from-'), source, '--to-oci-layout', `${directory}:pulled`]));
  return {
    version: /Version:\s+(\S+)/.exec(await oras(['version']))?.[1] ?? 'unknown',
    logIn: async (username, password) =>
      void (await oras(['login', ...registry, '--username', username, '--password-stdin', host], { input: password })),
    copiesIndexes: true,
    resumesPulls: false,
    async push(layout, target) {
      const said = await oras(['cp', '--no-tty', '--from-oci-layout', `${layout.directory}:${layout.tag}`, ...trust('to-'), target]);
      return /Digest: (\S+)/.exec(said)?.[1] ?? said;
    },
    copy: async (source, target) => void (await oras(['cp', '--no-tty', ...trust('from-'), source, ...trust('to-'), target])),
    async pull(source) {
      const directory = await mkdtemp(path.join(scratch, 'pull-'));
      await pullLayout(source, directory);
      return verifyLayout(directory);
    },
    pullLayout,
    listTags: async (repository) => (await oras(['repo', 'tags', ...registry, repository])).split('\n'),
    listRepositories: async (host) => (await oras(['repo', 'ls', ...registry, host])).split('\n'),
    async attach(file, subject, artifactType) {
      const { dir, base } = path.parse(file);
      await oras(['attach', '--no-tty', ...registry, '--artifact-type', artifactType, subject, `${base}:text/plain`], { cwd: dir });
    },
    async discover(subject, artifactType) {
      const said = await oras(['discover', ...registry, '--format', 'json', '--artifact-type', artifactType, subject]);
      return (JSON.parse(said) as { referrers: { digest: string }[] }).referrers.map(({ digest }) => digest);
    },
    deleteManifest: async (name) => void (await oras(['manifest', 'delete', ...registry, '--force', name])),
    async pushBlob(file, repository, digest) {
      const { dir, base } = path.parse(file);
      await oras(['blob', 'push', '--no-tty', ...registry, `${repository}@${digest}`, base], { cwd: dir });
    },
    fetchBlob: (repository, digest) => oras(['blob', 'fetch', '--no-tty', ...registry, '--output', '-', `${repository}@${digest}`]),
    deleteBlob: async (repository, digest) => void (await oras(['blob', 'delete', ...registry, '--force', `${repository}@${digest}`])),
  };
};
