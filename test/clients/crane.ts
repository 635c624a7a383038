// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** crane, of go-containerregistry. */
import { mkdtemp } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { verifyLayout } from './images.js';

export const startCrane: StartClient = async ({ scratch, host, tls }) => {
  const tool = await findTool('crane');
  if ('missing' in tool) return tool;
  const env = { ...isolated(scratch, tls), ...(tls === undefined ? {} : { SSL_CERT_FILE: tls.authorityFile }) };
  const crane = async (args: string[], input?: Buffer | string) => {
    const { stdout } = await run(tool.path, args, { env, ...(input === undefined ? {} : { input }) });
    return stdout.trim();
  };
  const pullLayout = async (source: string, directory: string) => void (await crane(['pull', '--format', 'oci', source, directory]));
  return {
    version: await crane(['version']),
    logIn: async (username, password) => void (await crane(['auth', 'login', host, '--username', username, '--password-stdin'], password)),
    copiesIndexes: true,
    resumesPulls: false,
    async push(layout, target) {
      const pushed = await crane(['push', layout.directory, target]);
      return pushed.slice(pushed.indexOf('@') + 1);
    },
    copy: async (source, target) => void (await crane(['copy', source, target])),
    async pull(source) {
      const directory = await mkdtemp(path.join(scratch, 'pull-'));
      await pullLayout(source, directory);
      return verifyLayout(directory);
    },
    pullLayout,
    async pushStream({ layers }, target) {
      const [layer] = layers;
      await crane(['append', '--new_layer', '-', '--new_tag', target], layer?.tar);
    },
    listTags: async (repository) => (await crane(['ls', repository])).split('\n'),
    listRepositories: async (host) => (await crane(['catalog', host])).split('\n'),
    deleteTag: async (name) => void (await crane(['delete', name])),
    deleteManifest: async (name, digest) => void (await crane(['delete', `${name.slice(0, name.lastIndexOf(':'))}@${digest}`])),
    fetchBlob: (repository, digest) => crane(['blob', `${repository}@${digest}`]),
  };
};
