// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a drill comes to: a line for each thing that must hold, with what speaks against it, and in the end the counts. */
import { countsLine } from './table.js';

const mostShown = 15;
/** EX_TEMPFAIL: neither passed nor failed. */
const couldNotBeRun = 75;

export class Verdicts {
  failed = 0;
  private passed = 0;
  private skipped = 0;
  private readonly since = performance.now();

  /** Takes the failures found since the last verdict. */
  give(what: string, failures: string[] = []): void {
    const found = failures.splice(0);
    if (found.length === 0) this.passed++;
    else this.failed++;
    console.log(`${found.length === 0 ? 'ok    ' : 'FAILED'}  ${what}`);
    for (const failure of found.slice(0, mostShown)) console.log(`        ${failure}`);
    if (found.length > mostShown) console.log(`        … and ${found.length - mostShown} more`);
  }

  skip(what: string, reason: string): void {
    this.skipped++;
    console.log(`${what}: skipped, ${reason}`);
  }

  /** Runs the drill to its end and ends the process: 0 when all held. With CI=true what was skipped is a failure. */
  async judge(what: string, drill: () => Promise<void>): Promise<never> {
    try {
      await drill();
    } catch (error) {
      this.give(`${what} itself`, [textOf(error)]);
    }
    const { passed, failed, skipped } = this;
    console.log(`${((performance.now() - this.since) / 1000).toFixed(0)} s`);
    console.log(countsLine({ passed, failed, skipped }));
    process.exit(failed > 0 || (skipped > 0 && process.env['CI'] === 'true') ? 1 : 0);
  }
}

/** For want of something: the process ends as a stage of `.ci/run` that could not be run. */
export function notRun(reason: string): never {
  console.log(`NOT RUN: ${reason}`);
  console.log(countsLine({ passed: 0, failed: 0, skipped: 1 }));
  process.exit(couldNotBeRun);
}

/** What is wrong, or nothing: the failures of one attempt. */
export async function failuresOf(work: () => Promise<unknown>): Promise<string[]> {
  try {
    await work();
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
