// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Filters (RFC 4515) with places for what a client says. */
import { Filter, FilterParser } from 'ldapts';

export type FillFilter = (values: Readonly<Record<string, string>>) => Filter;

/** What is filled in never ends the value that it stands in, whatever is in it. Throws an Error where it is no filter, or one of the places has another name. */
export function compileFilter(template: string, names: readonly string[]): FillFilter {
  const fill: FillFilter = (values) =>
    FilterParser.parseString(template.replaceAll(place, (_text, name: string) => Filter.escape(values[name] ?? '')));
  for (const [text, name] of template.matchAll(place))
    if (!names.includes(name ?? '')) throw new Error(`${text} is not known: there is ${names.map((known) => `{${known}}`).join(', ')}`);
  if (!names.some((name) => template.includes(`{${name}}`))) throw new Error(`expected a filter with {${names[0]}}`);
  if (/(^|\()[^()=]*\{/.test(template)) throw new Error('a place stands behind a =');
  if (template.split('(').length !== template.split(')').length) throw new Error('a parenthesis is not closed, or not opened');
  fill(Object.fromEntries(names.map((name) => [name, 'x'])));
  return fill;
}

const place = /\{([a-z]*)\}/g;
