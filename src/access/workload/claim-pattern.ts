// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Patterns of claims: `*` is anything within a part between slashes and colons, `**` anything; neither is nothing. */

type Step = { readonly text: string } | { readonly any: 'part' | 'all' };

/** Longer claims are not what anybody writes patterns for. */
const longestText = 2_048;

/** Takes time by the length of the two, whatever they are. */
export function claimPattern(pattern: string): (text: string) => boolean {
  const steps = stepsOf(pattern);
  if (steps.every((step) => 'text' in step)) return (text) => text === pattern;
  return (text) => {
    if (text.length > longestText) return false;
    let places = new Set([0]);
    for (const character of text) {
      const next = new Set<number>();
      for (const place of places) {
        const step = steps[place];
        if (step === undefined) continue;
        if ('text' in step) {
          if (step.text === character) next.add(place + 1);
        } else if (step.any === 'all' || !/[/:]/.test(character)) next.add(place).add(place + 1);
      }
      places = next;
    }
    return places.has(steps.length);
  };
}

function stepsOf(pattern: string): Step[] {
  return (pattern.match(/\*\*|[^]/gu) ?? []).map((part) =>
    part === '**' ? { any: 'all' } : part === '*' ? { any: 'part' } : { text: part },
  );
}
