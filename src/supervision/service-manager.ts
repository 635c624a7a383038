// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tells a service manager how this process is doing, in the words of sd_notify(3). */
import { execFile } from 'node:child_process';

export interface ServiceManager {
  /** The service serves; `status` is one line for who looks. */
  ready(status: string): void;
  /** While this work goes on, another configuration is being read; then the service serves again. */
  reloading(work: Promise<void>): Promise<void>;
  /** The service will end within this time, which may be more than the unit's `TimeoutStopSec`. */
  stopping(withinMs: number): void;
  /** While this work goes on, a start that takes long is no failure. */
  during<T>(status: string, work: Promise<T>): Promise<T>;
  /** Resets the watchdog. */
  alive(): void;
}

/** Sends one message to the manager's socket; throws when nobody takes it. */
export type Notify = (message: string) => void;

/** A long work's reprieve is renewed well before it ends. */
const reprieveMs = 60_000;
const renewMs = 15_000;

/** Without `notify` there is no manager, and nothing is told. A failure is told once: the service goes on, whether its manager listens or not. */
export function openServiceManager(notify: Notify | undefined, onError: (error: unknown) => void): ServiceManager {
  let failed = false;
  let ends = false;
  const tell = (...assignments: readonly string[]): void => {
    try {
      notify?.(assignments.join('\n'));
      failed = false;
    } catch (error) {
      if (!failed) onError(error);
      failed = true;
    }
  };
  return {
    ready: (status) => tell('READY=1', `STATUS=${oneLine(status)}`),
    async reloading(work) {
      tell('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
      try {
        await work;
      } finally {
        tell('READY=1');
      }
    },
    stopping(withinMs) {
      ends = true;
      tell('STOPPING=1', 'STATUS=draining', extend(withinMs));
    },
    async during(status, work) {
      // The end has a time of its own, which no work extends.
      const renew = (): void => {
        if (!ends) tell(`STATUS=${oneLine(status)}`, extend(reprieveMs));
      };
      renew();
      const timer = setInterval(renew, renewMs);
      try {
        return await work;
      } finally {
        clearInterval(timer);
      }
    },
    alive: () => tell('WATCHDOG=1'),
  };
}

/** How messages get to the socket: by the addon, or where that is not built by the program `systemd-notify`, which needs `NotifyAccess=all`. */
export function chooseNotify(
  socket: string | undefined,
  addonNotify: ((address: string, message: string) => void) | undefined,
  environment: NodeJS.ProcessEnv,
  onError: (error: unknown) => void,
): Notify | undefined {
  if (socket === undefined) return undefined;
  if (addonNotify !== undefined) return (message) => addonNotify(socket, message);
  // One after the other, since their order is their meaning.
  let last = Promise.resolve();
  let failed = false;
  return (message) => {
    last = last
      .then(() => runSystemdNotify(message, { ...environment, NOTIFY_SOCKET: socket }))
      .catch((error: unknown) => {
        if (!failed) onError(error);
        failed = true;
      });
  };
}

const programTimeoutMs = 5_000;

function runSystemdNotify(message: string, env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('systemd-notify', message.split('\n'), { env, timeout: programTimeoutMs }, (error) => {
      if (error === null) resolve();
      else reject(new Error('the native addon is not built, and systemd-notify does not do instead', { cause: error }));
    });
  });
}

function extend(ms: number): string {
  return `EXTEND_TIMEOUT_USEC=${Math.ceil(ms) * 1000}`;
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}
