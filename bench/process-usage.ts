// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a server and its children used, read from Linux's /proc. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';

export interface CpuSeconds {
  /** The server process with all its threads, and children that are not Postgres. */
  readonly server: number;
  /** The embedded Postgres: the postmaster, its backends, and those that have ended. */
  readonly postgres: number;
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
  /** Its own and those of children that were waited for. */
  readonly ticks: number;
  readonly childTicks: number;
}

/** USER_HZ, the unit of /proc/<pid>/stat; 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** CPU used up to now by `pid` and its descendants, and by processes (with theirs) that have `directory` in their command line. */
export function cpuSeconds(pid: number, directory?: string): CpuSeconds {
  let server = 0;
  let postgres = 0;
  for (const member of family(pid, directory)) {
    if (member.command.startsWith('postgres')) postgres += member.ticks;
    else server += member.ticks;
  }
  return { server: server / ticksPerSecond, postgres: postgres / ticksPerSecond };
}

/** Pids of processes, other than this one, that have `directory` in their command line. */
export function pidsWithin(directory: string): number[] {
  return listProcesses()
    .filter(({ pid }) => pid !== process.pid && namesDirectory(pid, directory))
    .map(({ pid }) => pid);
}

/** CPU used by children of this process that have ended, for example a client program. */
export function endedChildrenCpuSeconds(): number {
  return (readProcess(process.pid)?.childTicks ?? 0) / ticksPerSecond;
}

/** Sets the high-water mark of resident memory to what it is now; false where the kernel does not permit it. */
export function resetPeakRss(pid: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
    return true;
  } catch {
    return false;
  }
}

export function peakRssMiB(pid: number): number {
  return statusKiB(pid, 'VmHWM') / 1024;
}

export function rssMiB(pid: number): number {
  return statusKiB(pid, 'VmRSS') / 1024;
}

/** Waits until the process and its Postgres use less than a twentieth of a core over a second, at most `limitSeconds`. */
export async function settle(pid: number, directory?: string, limitSeconds = 60): Promise<void> {
  for (let second = 0; second < limitSeconds; second++) {
    const before = cpuSeconds(pid, directory);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const after = cpuSeconds(pid, directory);
    if (after.server + after.postgres - before.server - before.postgres < 0.05) return;
  }
}

function family(root: number, directory: string | undefined): Process[] {
  const all = listProcesses();
  const members = new Set([root]);
  if (directory !== undefined) for (const pid of pidsWithin(directory)) members.add(pid);
  for (let grown = true; grown;) {
    const born = all.filter(({ pid, parent }) => !members.has(pid) && members.has(parent));
    for (const { pid } of born) members.add(pid);
    grown = born.length > 0;
  }
  return all.filter(({ pid }) => members.has(pid));
}

function listProcesses(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((found) => found !== undefined);
}

/** Of /proc/<pid>/stat: ppid, utime and stime, cutime and cstime. */
function readProcess(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const command = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const childTicks = Number(fields[13]) + Number(fields[14]);
    return { pid, parent: Number(fields[1]), command, ticks: Number(fields[11]) + Number(fields[12]) + childTicks, childTicks };
  } catch {
    return undefined; // It ended meanwhile.
  }
}

function namesDirectory(pid: number, directory: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(directory);
  } catch {
    return false;
  }
}

function statusKiB(pid: number, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
}
