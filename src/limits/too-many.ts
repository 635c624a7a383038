// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { isIPv6 } from 'node:net';
import { RegistryError } from '../oci/errors.js';

/** A network of IPv6 is one customer's: its addresses count as one. */
export function addressKey(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.toLowerCase().split('%', 1).join('').split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const last = tail === '' ? [] : tail.split(':');
    while (groups.length + last.length < 8) groups.push('0');
    groups.push(...last);
  }
  return groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':');
}

export function tooMany(what: string, waitMs: number, rule: string): RegistryError {
  const seconds = String(Math.max(1, Math.ceil(waitMs / 1000)));
  return new RegistryError('TOOMANYREQUESTS', `${what}; try again in ${seconds} s`, { headers: { 'Retry-After': seconds }, rule });
}
