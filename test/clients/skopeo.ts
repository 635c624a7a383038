// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { verifyLayout, writeDockerArchive } from './images.js';

export const startSkopeo: StartClient = async ({ scratch, host, tls }) => {
  const tool = await findTool('skopeo');
  if ('missing' in tool) return tool;
  // As root it keeps its memory of where blobs are, by which it mounts, in the system's directory; as another user under XDG_DATA_HOME.
  const env = { ...isolated(scratch, tls), _CONTAINERS_ROOTLESS_UID: '1' };
  const skopeo = async (args: string[], input = '') => (await run(tool.path, ['--insecure-policy', ...args], { env, input })).stdout.trim();
  const certificates = path.join(scratch, 'certs');
  if (tls !== undefined) {
    await mkdir(certificates);
    await copyFile(tls.authorityFile, path.join(certificates, 'ca.crt'));
  }
  const trust = (side = '') => (tls === undefined ? `--${side}tls-verify=false` : `--${side}cert-dir=${certificates}`);
  const [source, target] = [trust('src-'), trust('dest-')];
  const keep = ['--all', '--preserve-digests'];
  const version = /\d+\.\d+\.\d+/.exec(await skopeo(['--version']))?.[0] ?? '0.0.0';
  const pullLayout = async (name: string, directory: string) =>
    void (await skopeo(['copy', ...keep, source, `docker://${name}`, `oci:${directory}:pulled`]));
  return {
    version,
    logIn: async (username, password) =>
      void (await skopeo(['login', trust(), '--username', username, '--password-stdin', host], password)),
    copiesIndexes: true,
    resumesPulls: isAtLeast(version, [1, 11]),
    async push({ directory, tag }, name) {
      const digestFile = path.join(scratch, 'digest');
      await skopeo(['copy', ...keep, target, '--digestfile', digestFile, `oci:${directory}:${tag}`, `docker://${name}`]);
      return (await readFile(digestFile, 'utf8')).trim();
    },
    copy: async (from, to) => void (await skopeo(['copy', ...keep, source, target, `docker://${from}`, `docker://${to}`])),
    async pull(name) {
      const directory = await mkdtemp(path.join(scratch, 'pull-'));
      await pullLayout(name, directory);
      return verifyLayout(directory);
    },
    pullLayout,
    async pushStream(image, name) {
      const archive = path.join(scratch, 'image.tar');
      await writeDockerArchive(archive, image, 'stream:v1');
      await skopeo(['copy', target, `docker-archive:${archive}`, `docker://${name}`]);
      await rm(archive);
    },
    async listTags(repository) {
      const said = await skopeo(['list-tags', trust(), `docker://${repository}`]);
      return (JSON.parse(said) as { Tags: string[] }).Tags;
    },
    deleteManifest: async (name) => void (await skopeo(['delete', trust(), `docker://${name}`])),
  };
};

function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [haveMajor = 0, haveMinor = 0] = version.split('.').map(Number);
  return haveMajor > major || (haveMajor === major && haveMinor >= minor);
}
