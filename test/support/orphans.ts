// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Processes that a killed process leaves behind, for example its embedded database. Linux only; elsewhere nothing is found. */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessMark {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: with it a reused pid is told apart. */
  readonly startTime: string;
}

/** All descendants of a process, nearest first. */
export function descendants(pid: number): ProcessMark[] {
  const children = new Map<number, ProcessMark[]>();
  for (const entry of listProcesses()) {
    const stat = readStat(Number(entry));
    if (stat === undefined) continue;
    children.set(stat.parent, [...(children.get(stat.parent) ?? []), stat]);
  }
  const found: ProcessMark[] = [];
  for (let next = [...(children.get(pid) ?? [])], mark = next.shift(); mark !== undefined; mark = next.shift()) {
    found.push(mark);
    next.push(...(children.get(mark.pid) ?? []));
  }
  return found;
}

/** Kills those of the marked processes that still run. */
export function killMarked(marks: readonly ProcessMark[]): void {
  for (const { pid, startTime } of marks) {
    if (readStat(pid)?.startTime !== startTime) continue;
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended between the look and the signal.
    }
  }
}

function listProcesses(): string[] {
  try {
    return readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name));
  } catch {
    return [];
  }
}

function readStat(pid: number): (ProcessMark & { parent: number }) | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // The name before it may contain spaces; fields begin with number 3, the state.
    return { pid, parent: Number(fields[1]), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}
