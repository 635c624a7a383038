// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { verifyLayout, writeDockerArchive } from './images.js';

export const startSkopeo: StartClient = async ({ scratch }) => {
  const tool = await findTool('skopeo');
  if ('missing' in tool) return tool;
  // As root it keeps its memory of where blobs are, by which it mounts, in the system's directory; as another user under XDG_DATA_HOME.
  const env = { ...isolated(scratch), _CONTAINERS_ROOTLESS_UID: '1' };
  const skopeo = async (args: string[]) => (await run(tool.path, ['--insecure-policy', ...args], { env })).stdout.trim();
  const plainSource = '--src-tls-verify=false';
  const plainTarget = '--dest-tls-verify=false';
  const keep = ['--all', '--preserve-digests'];
  const version = /\d+\.\d+\.\d+/.exec(await skopeo(['--version']))?.[0] ?? '0.0.0';
  return {
    version,
    copiesIndexes: true,
    resumesPulls: isAtLeast(version, [1, 11]),
    async push({ directory, tag }, target) {
      const digestFile = path.join(scratch, 'digest');
      await skopeo(['copy', ...keep, plainTarget, '--digestfile', digestFile, `oci:${directory}:${tag}`, `docker://${target}`]);
      return (await readFile(digestFile, 'utf8')).trim();
    },
    copy: async (source, target) =>
      void (await skopeo(['copy', ...keep, plainSource, plainTarget, `docker://${source}`, `docker://${target}`])),
    async pull(source) {
      const directory = await mkdtemp(path.join(scratch, 'pull-'));
      await skopeo(['copy', ...keep, plainSource, `docker://${source}`, `oci:${directory}:pulled`]);
      return verifyLayout(directory);
    },
    async pushStream(image, target) {
      const archive = path.join(scratch, 'image.tar');
      await writeDockerArchive(archive, image, 'stream:v1');
      await skopeo(['copy', plainTarget, `docker-archive:${archive}`, `docker://${target}`]);
      await rm(archive);
    },
    async listTags(repository) {
      const said = await skopeo(['list-tags', '--tls-verify=false', `docker://${repository}`]);
      return (JSON.parse(said) as { Tags: string[] }).Tags;
    },
    deleteManifest: async (name) => void (await skopeo(['delete', '--tls-verify=false', `docker://${name}`])),
  };
};

function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [haveMajor = 0, haveMinor = 0] = version.split('.').map(Number);
  return haveMajor > major || (haveMajor === major && haveMinor >= minor);
}
