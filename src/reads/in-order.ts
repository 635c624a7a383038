// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Results in the order of the elements; work is begun for up to `mostAtOnce` of them ahead of what is consumed. */
export async function* inOrder<Element, Result>(
  elements: Iterable<Element>,
  mostAtOnce: number,
  work: (element: Element) => Promise<Result>,
): AsyncGenerator<readonly [Element, Result]> {
  const ahead: { readonly element: Element; readonly result: Promise<Result> }[] = [];
  for (const element of elements) {
    const result = work(element);
    // It may fail before its turn, or after nobody wants it any more.
    result.catch(() => undefined);
    ahead.push({ element, result });
    const first = ahead.length < mostAtOnce ? undefined : ahead.shift();
    if (first !== undefined) yield [first.element, await first.result];
  }
  for (const { element, result } of ahead) yield [element, await result];
}

/** Keys and names are ASCII, where the order of UTF-16 units is the order of bytes. */
export function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
