// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** How digests stand in Postgres: one byte for the algorithm and the hash. */
import { algorithmOf, hexOf, type Digest } from '../oci/digest.js';

const algorithmByte = { sha256: '01', sha512: '02' } as const;

export function digestToColumn(digest: Digest): Buffer {
  return Buffer.from(algorithmByte[algorithmOf(digest)] + hexOf(digest), 'hex');
}

/** From Postgres' text form of a bytea, `\\x01…`. */
export function digestFromText(text: string): Digest {
  return `${text.startsWith('\\x01') ? 'sha256' : 'sha512'}:${text.slice(4)}` as Digest;
}

/** An element of a bytea[] parameter, in the text form that an array of many parses fastest. */
function digestToArrayElement(digest: Digest): string {
  return `"\\\\x${algorithmByte[algorithmOf(digest)]}${hexOf(digest)}"`;
}

/** A text[] parameter of names that are checked already, so that none has a character that an array's text form would have to escape. */
export function namesToColumn(names: readonly string[]): string {
  return names.length === 0 ? '{}' : `{"${names.join('","')}"}`;
}

export function digestsToColumn(digests: readonly Digest[]): string {
  return `{${digests.map(digestToArrayElement).join(',')}}`;
}

/** A bigint[] or uuid[] parameter. */
export function plainToColumn(values: readonly (bigint | number | string | undefined)[]): string {
  return `{${values.map((value) => value ?? 'NULL').join(',')}}`;
}

/** bytea[] parameters cost a hundred times what their bytes do: many values go as one bytea, to be cut by where each begins and how long it is. */
export function bytesToColumns(values: readonly Uint8Array[]): {
  readonly bytes: Buffer;
  readonly starts: string;
  readonly lengths: string;
} {
  let start = 1; // substring() counts from 1.
  const starts = values.map(({ byteLength }) => (start += byteLength) - byteLength);
  return {
    bytes: Buffer.concat(values),
    starts: plainToColumn(starts),
    lengths: plainToColumn(values.map(({ byteLength }) => byteLength)),
  };
}
