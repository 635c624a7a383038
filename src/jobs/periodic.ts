// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Work that is done again and again, never twice at a time. */
export interface Periodic {
  /** Does it now, or once more after the run that is going on. */
  poke(): void;
  /** Waits for a run that is going on. */
  stop(): Promise<void>;
}

/** Runs `work` every `intervalMs`. A failure is told and the next run comes all the same. */
export function runPeriodically(intervalMs: number, work: () => Promise<void>, onError: (error: unknown) => void): Periodic {
  let running: Promise<void> | undefined;
  let again = false;
  let stopped = false;
  const run = (): void => {
    if (stopped) return;
    if (running !== undefined) {
      again = true;
      return;
    }
    running = work()
      .catch(onError)
      .finally(() => {
        running = undefined;
        if (again) {
          again = false;
          run();
        }
      });
  };
  const timer = setInterval(run, intervalMs);
  return {
    poke: run,
    async stop() {
      stopped = true;
      clearInterval(timer);
      await running;
    },
  };
}
