// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who asks, when a proxy asks for them. */
import { BlockList, isIP } from 'node:net';
import type { Request } from './contract.js';
import { plainAddress } from './engine/remote-address.js';

export type ClientAddress = (request: Pick<Request, 'remoteAddress' | 'header'>) => string;

/**
 * The client's address. X-Forwarded-For counts only where the peer is one of `trusted` (addresses, or networks such as `10.0.0.0/8`), and is read from its end: each
 * proxy appends whom it was asked by, so the first address that is not trusted is the client, and what stands before it is hearsay.
 */
export function clientAddressBehind(trusted: readonly string[]): ClientAddress {
  if (trusted.length === 0) return (request) => request.remoteAddress;
  const isTrusted = addressesIn(trusted);
  return (request) => {
    const { remoteAddress } = request;
    if (!isTrusted(remoteAddress)) return remoteAddress;
    let client = remoteAddress;
    for (const entry of (request.header('x-forwarded-for') ?? '').split(',').toReversed()) {
      const address = plainAddress(withoutPort(entry.trim()));
      if (isIP(address) === 0) return client;
      client = address;
      if (!isTrusted(address)) return client;
    }
    return client;
  };
}

/** Whether an address is one of these, or lies in one of these networks. */
export function addressesIn(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => isIP(address) !== 0 && list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** Some proxies append the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function withoutPort(entry: string): string {
  const [, bracketed, plain] = /^(?:\[([0-9a-fA-F:.]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+)$/.exec(entry) ?? [];
  return bracketed ?? plain ?? entry;
}

/** An address, or `address/bits`. */
export function isNetwork(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32));
}

export function isLoopback(address: string): boolean {
  return address === '::1' || /^127(\.\d{1,3}){3}$/.test(address);
}
