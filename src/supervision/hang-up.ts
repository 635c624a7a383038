// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** SIGHUP ends a process that does not listen for it, and whoever asks for a reload does not know whether a start is over. */

let came = false;
const note = (): void => {
  came = true;
};

/** From now on a SIGHUP waits. */
export function holdHangUps(): void {
  process.on('SIGHUP', note);
}

/** Also of one that waited: not before the caller has gone on to what the listener is about. */
export function onHangUp(listener: () => void): void {
  process.off('SIGHUP', note);
  process.on('SIGHUP', listener);
  if (came) setImmediate(listener);
}
