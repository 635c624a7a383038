// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The text that Prometheus reads, in its two forms. prom-client has one of its own, but writing OpenMetrics once renames its counters for good. */

/** As prom-client gives them. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary';
  readonly values: readonly Sample[];
}

export interface Sample {
  /** Where it is not the family's. */
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

export const contentTypes = {
  openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
  text: 'text/plain; version=0.0.4; charset=utf-8',
} as const;

export type Form = keyof typeof contentTypes;

/** OpenMetrics for who names it and does not refuse it; anybody else gets the older form, which everything reads. */
export function formFor(accept: string | undefined): Form {
  const asked = (accept ?? '').split(',').find((range) => range.trim().toLowerCase().startsWith('application/openmetrics-text'));
  return asked === undefined || /;\s*q=0(\.0*)?\s*(;|$)/.test(asked) ? 'text' : 'openmetrics';
}

export function exposition(families: readonly Family[], form: Form): string {
  const lines: string[] = [];
  for (const family of families) {
    // In OpenMetrics a counter's family has no suffix and its samples have one; in the older form both do.
    const bare = family.type === 'counter' ? family.name.replace(/_total$/, '') : family.name;
    const name = family.type === 'counter' && form === 'text' ? `${bare}_total` : bare;
    lines.push(`# HELP ${name} ${escapeHelp(family.help, form)}`, `# TYPE ${name} ${family.type}`);
    for (const { metricName, labels, value } of family.values) {
      // The mean of nothing.
      if (Number.isNaN(value)) continue;
      const sampleName = family.type === 'counter' ? `${bare}_total` : (metricName ?? name);
      lines.push(`${sampleName}${labelText(labels, form)} ${number(value)}`);
    }
  }
  if (form === 'openmetrics') lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

function labelText(labels: Sample['labels'], form: Form): string {
  const parts = Object.entries(labels).map(([name, value]) => {
    const text = name === 'le' || name === 'quantile' ? bound(Number(value), value, form) : String(value);
    return `${name}="${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
  });
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

/** OpenMetrics wants whole numbers to have a point. */
function bound(value: number, text: string | number, form: Form): string {
  if (Number.isNaN(value)) return String(text);
  return form === 'openmetrics' && Number.isInteger(value) ? `${value}.0` : number(value);
}

function number(value: number): string {
  if (value === Infinity) return '+Inf';
  if (value === -Infinity) return '-Inf';
  return String(value);
}

function escapeHelp(help: string, form: Form): string {
  const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
  return form === 'openmetrics' ? escaped.replaceAll('"', '\\"') : escaped;
}
