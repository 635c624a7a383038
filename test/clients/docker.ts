// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The docker command with a daemon of its own, which has no network, no firewall rules and no store but its scratch directory. */
import { copyFile, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../support/command.js';
import { findTool } from '../support/tools.js';
import { isolated, type StartClient } from './client.js';
import { startDockerDaemon } from './docker-daemon.js';
import { writeDockerArchive, type Image } from './images.js';

export const startDocker: StartClient = async ({ scratch, host, tls }) => {
  const daemonTool = await findTool('dockerd');
  if ('missing' in daemonTool) return daemonTool;
  const tool = await findTool('docker');
  if ('missing' in tool) return tool;
  const settings = path.join(scratch, 'etc-docker');
  const certificates = path.join(settings, 'certs.d', host);
  await mkdir(certificates, { recursive: true });
  if (tls !== undefined) await copyFile(tls.authorityFile, path.join(certificates, 'ca.crt'));
  const env = { ...isolated(scratch, tls), DOCKER_CLI_EXPERIMENTAL: 'enabled' };
  const daemon = await startDockerDaemon(daemonTool.path, { scratch, settings, env });
  if ('missing' in daemon) return daemon;
  const ask = async (args: string[], input = '') =>
    (await run(tool.path, args, { input, env: { ...env, DOCKER_HOST: daemon.host } })).stdout.trim();
  const docker = (...args: string[]) => ask(args);

  async function load(image: Image, name: string): Promise<void> {
    const archive = path.join(scratch, 'image.tar');
    await writeDockerArchive(archive, image, name);
    await docker('load', '--quiet', '--input', archive);
    await rm(archive);
  }

  async function pushLoaded(name: string): Promise<string> {
    const said = await docker('push', name);
    return /digest: (sha256:[0-9a-f]{64})/.exec(said)?.[1] ?? said;
  }

  async function emptyStore(): Promise<void> {
    const ids = (await docker('images', '--all', '--quiet')).split('\n').filter((id) => id !== '');
    if (ids.length > 0) await docker('rmi', '--force', ...new Set(ids));
  }

  return {
    version: (await docker('version', '--format', '{{.Server.Version}} (cli {{.Client.Version}})')).trim(),
    logIn: async (username, password) => void (await ask(['login', '--username', username, '--password-stdin', host], password)),
    copiesIndexes: false,
    resumesPulls: true,
    close: daemon.stop,
    async push({ images }, target) {
      const [first] = images;
      if (first !== undefined && images.length === 1) {
        await load(first, target);
        return pushLoaded(target);
      }
      const parts = images.map((image) => ({ image, name: `${target}-${image.architecture}` }));
      for (const { image, name } of parts) {
        await load(image, name);
        await pushLoaded(name);
      }
      await docker('manifest', 'create', '--insecure', target, ...parts.map(({ name }) => name));
      return docker('manifest', 'push', '--insecure', '--purge', target);
    },
    async copy(source, target) {
      await docker('tag', source, target);
      await pushLoaded(target);
    },
    async pull(source) {
      await emptyStore();
      const said = await docker('pull', source);
      return /Digest: (sha256:[0-9a-f]{64})/.exec(said)?.[1] ?? said;
    },
    async pushStream(image, target) {
      await load(image, target);
      await pushLoaded(target);
    },
  };
};
