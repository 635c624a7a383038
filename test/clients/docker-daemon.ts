// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A docker daemon for a drill: alone, without a network, in a mount namespace of its own. */
import { request } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTracked } from '../support/command.js';
import { descendants, killMarked } from '../support/orphans.js';

export interface DockerDaemon {
  /** For DOCKER_HOST. */
  readonly host: string;
  readonly stop: () => Promise<void>;
}

export interface DaemonPlace {
  readonly scratch: string;
  /** Stands for /etc/docker, whose place cannot be told to the daemon. */
  readonly settings: string;
  readonly env: Readonly<Record<string, string>>;
}

/** dockerd refuses to start where no cgroups are mounted, as in a plain container: they are mounted for it alone, where nobody else sees them. */
const prepareMounts = `
mkdir -p /etc/docker && mount --bind "$1" /etc/docker
shift
if ! grep -Eq ' - cgroup2? ' /proc/self/mountinfo; then
  mount -t cgroup2 cgroup2 /sys/fs/cgroup || {
    mount -t tmpfs cgroup /sys/fs/cgroup &&
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
      mkdir -p /sys/fs/cgroup/$controller && mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller
    done
  }
fi
exec "$@"`;

const startTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;

export async function startDockerDaemon(
  dockerd: string,
  { scratch, settings, env }: DaemonPlace,
): Promise<DockerDaemon | { missing: string }> {
  if (process.getuid?.() !== 0) return { missing: 'dockerd needs root' };
  const socket = path.join(scratch, 'docker.sock');
  const child = spawnTracked(
    'unshare',
    ['--mount', 'sh', '-c', prepareMounts, 'sh', settings, dockerd, ...daemonArguments(scratch, socket)],
    {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const output: Buffer[] = [];
  child.stdout?.on('data', (piece: Buffer) => output.push(piece));
  child.stderr?.on('data', (piece: Buffer) => output.push(piece));
  const ended = new AbortController();
  child.once('error', (error) => ended.abort(error.message));
  child.once('exit', (code, signal) => ended.abort(signal ?? `exit ${code}`));

  async function stop(): Promise<void> {
    const left = child.pid === undefined ? [] : descendants(child.pid);
    child.kill('SIGTERM');
    for (const deadline = Date.now() + stopTimeoutMs; !ended.signal.aborted && Date.now() < deadline;) await sleep(100);
    child.kill('SIGKILL');
    killMarked(left); // containerd, when the daemon did not take it along
  }

  for (const deadline = Date.now() + startTimeoutMs; !ended.signal.aborted && Date.now() < deadline; await sleep(200)) {
    if (await answers(socket)) return { host: `unix://${socket}`, stop };
  }
  await stop();
  const said = Buffer.concat(output).toString().trim().split('\n').slice(-3).join(' | ');
  return { missing: `dockerd did not start (${ended.signal.aborted ? String(ended.signal.reason) : 'no answer in time'}): ${said}` };
}

function daemonArguments(scratch: string, socket: string): string[] {
  return [
    '--iptables=false',
    '--ip6tables=false',
    '--bridge=none',
    '--storage-driver=vfs',
    '--exec-opt=native.cgroupdriver=cgroupfs',
    `--host=unix://${socket}`,
    `--data-root=${path.join(scratch, 'docker-data')}`,
    `--exec-root=${path.join(scratch, 'docker-exec')}`,
    `--pidfile=${path.join(scratch, 'docker.pid')}`,
  ];
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const ping = request({ socketPath, path: '/_ping', timeout: 5_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    ping.once('timeout', () => ping.destroy());
    ping.once('error', () => resolve(false));
    ping.end();
  });
}
