// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Hashes that a login can be checked with, in a time that somebody waits for. */

const bcrypt = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;
const argon2 = /^\$argon2(?:id|i|d)\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** More than libsodium's `MODERATE` (256 MiB three times); all of it takes some five seconds. */
const mostMemoryKiB = 1024 * 1024;
const mostWorkKiB = mostMemoryKiB;
const mostLanes = 64;
/** Four seconds or so. */
const mostRounds = 16;

/** What is wrong with it; undefined where it is good. */
export function faultOfHash(hash: string): string | undefined {
  const [, rounds] = bcrypt.exec(hash) ?? [];
  if (rounds !== undefined) return isWithin(Number(rounds), 4, mostRounds) ? undefined : `bcrypt's cost is to be 4 to ${mostRounds}`;
  const [, m, t, p, salt = '', value = ''] = argon2.exec(hash) ?? [];
  if (m === undefined) return 'expected a bcrypt or argon2 hash (ha-registry hash-password, htpasswd -B)';
  const [memory, passes, lanes] = [Number(m), Number(t), Number(p)];
  if (!isWithin(lanes, 1, mostLanes)) return `argon2's p (lanes) is to be 1 to ${mostLanes}`;
  if (!isWithin(memory, 8 * lanes, mostMemoryKiB)) return `argon2's m (KiB) is to be ${8 * lanes} (8 for each lane) to ${mostMemoryKiB}`;
  if (!isWithin(passes, 1, Math.floor(mostWorkKiB / memory)))
    return `argon2's t (passes) is to be 1 to ${Math.floor(mostWorkKiB / memory)} with this m`;
  if (bytesOf(salt) < 8 || !isWithin(bytesOf(value), 4, 1024)) return "argon2's salt is to have 8 bytes or more, its hash 4 to 1024";
  return undefined;
}

function isWithin(value: number, least: number, most: number): boolean {
  return value >= least && value <= most;
}

function bytesOf(base64: string): number {
  return Math.floor((base64.length * 3) / 4);
}
