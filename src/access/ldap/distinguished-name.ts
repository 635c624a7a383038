// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Distinguished names (RFC 4514), as far as a group's name can be read from one. */

/** The value of the first part, such as `dev` of `cn=dev,ou=groups,dc=example`, where it lies below the other name; undefined elsewhere. */
export function nameBelow(dn: string, base: string): string | undefined {
  const parts = partsOf(dn);
  const above = partsOf(base).map(normalized);
  const [first, ...rest] = parts;
  if (first === undefined || rest.length < above.length) return undefined;
  const end = rest.slice(rest.length - above.length).map(normalized);
  if (end.some((part, at) => part !== above[at])) return undefined;
  return unescape(first.slice(first.indexOf('=') + 1).trim());
}

/** Between commas that are not escaped. */
function partsOf(dn: string): string[] {
  const parts = dn.match(/(?:\\[\s\S]|[^\\,])+/g) ?? [];
  return parts.map((part) => part.trim());
}

function normalized(part: string): string {
  const equals = part.indexOf('=');
  return `${part.slice(0, equals).trim()}=${unescape(part.slice(equals + 1).trim())}`.toLowerCase();
}

/** Hexadecimal pairs are bytes of UTF-8. */
function unescape(value: string): string {
  return value.replaceAll(/(?:\\[0-9a-f]{2})+|\\([\s\S])/gi, (text, char?: string) =>
    char === undefined ? Buffer.from(text.replaceAll('\\', ''), 'hex').toString('utf8') : char,
  );
}
