// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** One way of writing a peer's address for both engines: IPv4 in dots also where the socket is IPv6, IPv6 as RFC 5952 has it. */
export function plainAddress(address: string): string {
  if (!address.includes(':')) return address;
  if (address.startsWith('::ffff:') && address.includes('.')) return address.slice('::ffff:'.length);
  if (address.startsWith(mappedPrefix)) return dotted(address.slice(mappedPrefix.length));
  return address.includes('::') ? address : compressed(address);
}

/** uWS writes all eight groups with four digits each. */
const mappedPrefix = '0000:0000:0000:0000:0000:ffff:';

function dotted(groups: string): string {
  const bits = Number.parseInt(groups.replace(':', ''), 16);
  return [bits >>> 24, (bits >>> 16) & 255, (bits >>> 8) & 255, bits & 255].join('.');
}

/** The longest run of two or more zero groups, the first of equals, becomes `::`. */
function compressed(address: string): string {
  const groups = address.split(':').map((group) => Number.parseInt(group, 16).toString(16));
  let longest = { start: 0, length: 1 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === '0') length++;
    if (length > longest.length) longest = { start, length };
  }
  if (longest.length === 1) return groups.join(':');
  return `${groups.slice(0, longest.start).join(':')}::${groups.slice(longest.start + longest.length).join(':')}`;
}
