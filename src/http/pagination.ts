// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { setImmediate } from 'node:timers/promises';
import { RegistryError } from '../oci/errors.js';

export interface Page {
  readonly limit: number;
  /** The last element of the page before; empty on the first one. */
  readonly last: string;
}

/** A page without `n`, and the most that `n` gets: some 100 KB of tags. */
const largestPage = 10_000;

/** `?n=&last=`. Throws PAGINATION_NUMBER_INVALID. */
export function parsePage(query: URLSearchParams, defaultLimit = largestPage): Page {
  const n = query.get('n');
  if (n !== null && !/^\d{1,9}$/.test(n)) {
    throw new RegistryError('PAGINATION_NUMBER_INVALID', 'n must be a number of elements, 0 or more', { detail: n.slice(0, 60) });
  }
  return { limit: Math.min(n === null ? defaultLimit : Number(n), largestPage), last: upToNul(query.get('last') ?? '') };
}

/** Postgres holds no U+0000; no name has one, so what sorts after it sorts after the text before it. */
function upToNul(text: string): string {
  const nul = text.indexOf('\0');
  return nul < 0 ? text : text.slice(0, nul);
}

/** The elements of this page, and the header that leads to the next one, from a list that was asked for one more than the page holds. */
export function pageOf(
  elements: readonly string[],
  page: Page,
  path: string,
): { readonly elements: readonly string[]; readonly headers: Record<string, string> } {
  if (elements.length <= page.limit || page.limit === 0) return { elements: elements.slice(0, page.limit), headers: {} };
  const shown = elements.slice(0, page.limit);
  return { elements: shown, headers: nextLink(path, { n: String(page.limit), last: shown.at(-1) ?? '' }) };
}

/** Reads on until it has one more than the page holds of what may be seen, or there is no more; undefined where the list is none. */
export async function listVisible(
  list: (last: string, limit: number) => Promise<readonly string[] | undefined>,
  { last, limit }: Page,
  isVisible: ((element: string) => boolean) | undefined,
  signal: AbortSignal,
): Promise<readonly string[] | undefined> {
  if (isVisible === undefined) return list(last, limit + 1);
  const visible: string[] = [];
  for (let after = last; ;) {
    const elements = await list(after, listedAtOnce);
    if (elements === undefined) return undefined;
    visible.push(...(await selectVisible(elements, isVisible, signal)));
    if (visible.length > limit || elements.length < listedAtOnce) return visible;
    after = elements.at(-1) ?? '';
  }
}

const listedAtOnce = 1_000;

/** The elements that may be seen. Rejects when nobody waits for them any more. */
export async function selectVisible<Element>(
  elements: readonly Element[],
  isVisible: (element: Element) => boolean,
  signal: AbortSignal,
): Promise<Element[]> {
  const visible: Element[] = [];
  for (let at = 0; at < elements.length; at += askedAtOnce) {
    const some = elements.slice(at, at + askedAtOnce);
    while (askable < some.length) await (renewal ??= renew());
    signal.throwIfAborted();
    askable -= some.length;
    visible.push(...some.filter((element) => isVisible(element)));
  }
  return visible;
}

/** Policies are asked about so many elements, of all lists that are made side by side, before other requests have their turn: some milliseconds. */
const askedAtOnce = 1_000;
let askable = askedAtOnce;
let renewal: Promise<void> | undefined;

async function renew(): Promise<void> {
  await setImmediate();
  askable = askedAtOnce;
  renewal = undefined;
}

/** RFC 8288, relative, so that it holds behind any proxy. */
export function nextLink(path: string, query: Record<string, string>): Record<string, string> {
  return { Link: `<${path}?${new URLSearchParams(query).toString()}>; rel="next"` };
}
