// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Byte positions `start` to before `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** More ranges than this in one request are not worth an answer in parts. */
const mostRanges = 1024;
/** Who asks for the same bytes over and over gets the whole, once. */
const mostOverlap = 4;
const specGrammar = /^(\d{1,16})-(\d{1,16})?$|^-(\d{1,16})$/;

/**
 * The Range header against an object of `size` bytes (RFC 9110, 14.2), in the order it was asked for. undefined: no such header, or one that is to be ignored.
 * An empty list: nothing of it can be satisfied (416).
 */
export function parseRange(header: string | undefined, size: number): ByteRange[] | undefined {
  // Of nothing, every range is all of it: clients that fetch in parallel ask `bytes=0-` of any blob.
  if (header === undefined || size === 0 || !/^bytes=/i.test(header)) return undefined;
  const ranges: ByteRange[] = [];
  let asked = 0;
  const specs = header.slice(6).split(',');
  if (specs.length > mostRanges) return undefined;
  for (const spec of specs) {
    const match = specGrammar.exec(spec.trim());
    if (match === null) return undefined;
    const [, first, last, suffix] = match;
    const start = suffix === undefined ? Number(first) : Math.max(0, size - Number(suffix));
    const end = last === undefined ? size : Math.min(size, Number(last) + 1);
    // A last before its first makes the whole header invalid; the specification's suite wants 416 for it.
    if (start >= end || suffix === '0') continue;
    ranges.push({ start, end });
    asked += end - start;
  }
  if (ranges.length > 1 && asked > mostOverlap * size) return undefined;
  return ranges;
}

/** `<first>-<last>`, as a chunk of an upload says where it goes; without a unit. */
export function parseContentRange(header: string): { readonly first: number; readonly last: number } | undefined {
  const match = /^(\d{1,15})-(\d{1,15})$/.exec(header.trim());
  if (match === null) return undefined;
  const [first, last] = [Number(match[1]), Number(match[2])];
  return last < first ? undefined : { first, last };
}
