// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Scalar } from 'yaml';

/** Where in the file the character of a text value stands; `raw` is how the value is written there: plain, in quotes, or as a block over several lines. */
export function offsetInSource({ type, value }: Scalar, raw: string, offset: number): number {
  const text = String(value);
  // White space is folded and indented; everything else stands there as it is, but for what is escaped.
  let ahead = text.slice(0, offset).replaceAll(/\s/g, '').length;
  let at = type?.startsWith('BLOCK') === true ? raw.indexOf('\n') + 1 : type?.startsWith('QUOTE') === true ? 1 : 0;
  for (; at < raw.length; at++) {
    if (/\s/.test(raw[at] ?? '')) continue;
    if (ahead === 0) break;
    if (type === 'QUOTE_DOUBLE' && raw[at] === '\\') at++;
    if (type === 'QUOTE_SINGLE' && raw.startsWith("''", at)) at++;
    ahead--;
  }
  return at;
}
