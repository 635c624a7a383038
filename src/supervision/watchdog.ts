// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Tells the service manager that the node is alive, for as long as it is. */
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface Watchdog {
  stop(): void;
}

/**
 * Calls `alive` twice per `limitMs`, from the main loop, when `answers` says so: a loop that hangs, or a listener that takes no one, leaves it silent, and
 * the manager restarts the service. A database or store that is away does not, as a restart would not bring it back.
 */
export function startWatchdog(limitMs: number, answers: () => Promise<boolean>, alive: () => void): Watchdog {
  let asking = false;
  const ask = async (): Promise<void> => {
    if (asking) return;
    asking = true;
    try {
      if (await answers()) alive();
    } finally {
      asking = false;
    }
  };
  const timer = setInterval(() => void ask(), limitMs / 2);
  alive();
  return { stop: () => clearInterval(timer) };
}

export interface Listener {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

const request = 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';

/** Whether somebody takes a connection and does something with it, be it that he turns it away because there are too many. */
export function answersAt({ host, port, tls }: Listener, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const place = { host: host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host, port };
    const socket = tls ? connectTls({ ...place, rejectUnauthorized: false }) : connect(place);
    const finish = (answered: boolean): void => {
      clearTimeout(timer);
      resolve(answered);
      socket.destroy();
    };
    const timer = setTimeout(finish, timeoutMs, false);
    let connected = false;
    socket.once('connect', () => {
      connected = true;
    });
    socket.once(tls ? 'secureConnect' : 'connect', () => socket.write(request));
    socket.once('data', () => finish(true));
    socket.once('error', () => finish(connected));
    socket.once('close', () => finish(connected));
  });
}
