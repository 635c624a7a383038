// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What is only for processes of this machine, and not for those that ask on behalf of others. */
import { RegistryError } from '../oci/errors.js';
import { isLoopback } from './client-address.js';
import type { Request } from './contract.js';

type Asking = Pick<Request, 'remoteAddress' | 'header'>;

/** What proxies add. One on this machine that adds none of them is taken for a client. */
const forwardingHeaders = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-forwarded-port', 'x-real-ip', 'via'];
/** A page of a stranger's site whose name was made to point here asks for that name. */
const loopbackHost = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

export function isDirectFromLoopback(request: Asking): boolean {
  return isLoopback(request.remoteAddress) && forwardingHeaders.every((name) => request.header(name) === undefined);
}

/** For what changes something: nobody is known by name, so whoever may log in here counts as the operator. Throws DENIED. */
export function requireDirectLoopback(request: Asking): void {
  if (isDirectFromLoopback(request) && loopbackHost.test(request.header('host') ?? '')) return;
  throw new RegistryError('DENIED', 'this is for direct connections over loopback only');
}
