// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A strict reader of what Prometheus reads: text 0.0.4 and OpenMetrics 1.0. Throws where a real one might shrug. */

export interface ScrapedFamily {
  readonly name: string;
  readonly type: string;
  readonly samples: Map<string, number>;
}

export type Scrape = ReadonlyMap<string, ScrapedFamily>;

const suffixes: Readonly<Record<string, readonly string[]>> = {
  gauge: [''],
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count'],
};
const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const sampleLine = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^{}]*)\})? (\S+)$/;
const labelPair = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;

export function parseExposition(text: string, form: 'text' | 'openmetrics'): Scrape {
  const families = new Map<string, ScrapedFamily>();
  const lines = text.split('\n');
  if (lines.pop() !== '') throw new Error('the last line does not end');
  if (form === 'openmetrics' && lines.pop() !== '# EOF') throw new Error('no # EOF at the end');
  let help: string | undefined;
  let family: ScrapedFamily | undefined;
  for (const line of lines) {
    const [, word, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (word === 'HELP') {
      if (!metricName.test(name) || families.has(name)) throw new Error(`a family twice, or no name: ${line}`);
      help = name;
      family = undefined;
    } else if (word === 'TYPE') {
      if (help !== name) throw new Error(`TYPE without its HELP: ${line}`);
      if (!['counter', 'gauge', 'histogram', 'summary'].includes(rest)) throw new Error(`no such type: ${line}`);
      if (form === 'openmetrics' && rest === 'counter' && name.endsWith('_total'))
        throw new Error(`a counter's family has no suffix: ${line}`);
      family = { name, type: rest, samples: new Map() };
      families.set(name, family);
    } else addSample(line, family, form);
  }
  for (const each of families.values()) if (each.type === 'histogram') checkHistogram(each);
  return families;
}

function addSample(line: string, family: ScrapedFamily | undefined, form: string): void {
  const [, name = '', labels = '', value = ''] = sampleLine.exec(line) ?? [];
  if (name === '' || family === undefined) throw new Error(`no sample: ${line}`);
  const allowed = family.type === 'counter' ? [form === 'openmetrics' ? '_total' : ''] : (suffixes[family.type] ?? []);
  if (!allowed.some((suffix) => name === family.name + suffix)) throw new Error(`${name} does not belong to ${family.name}`);
  if (family.type === 'counter' && !name.endsWith('_total')) throw new Error(`a counter without _total: ${line}`);
  const number = value === '+Inf' ? Infinity : Number(value);
  if (value.trim() === '' || Number.isNaN(number)) throw new Error(`no number: ${line}`);
  if (family.type === 'counter' && number < 0) throw new Error(`a counter below 0: ${line}`);
  const key = `${name}{${readLabels(labels, form)
    .map(([label, text]) => `${label}="${text}"`)
    .join(',')}}`;
  if (family.samples.has(key)) throw new Error(`twice: ${line}`);
  family.samples.set(key, number);
}

function readLabels(text: string, form: string): [string, string][] {
  const found: [string, string][] = [];
  for (labelPair.lastIndex = 0; labelPair.lastIndex < text.length;) {
    const at = labelPair.lastIndex;
    const [, name = '', value = ''] = labelPair.exec(text) ?? [];
    if (name === '') throw new Error(`no label at ${at}: ${text}`);
    if (found.some(([other]) => other === name)) throw new Error(`a label twice: ${text}`);
    if (name === 'le' && form === 'openmetrics' && !/^(\+Inf|-?\d+\.\d+|\d+(\.\d+)?e[+-]?\d+)$/.test(value)) throw new Error(`le=${value}`);
    found.push([name, value]);
  }
  return found;
}

/** Buckets rise, and the last of them counts everything. */
function checkHistogram({ name, samples }: ScrapedFamily): void {
  const last = new Map<string, number>();
  for (const [key, value] of samples) {
    if (!key.startsWith(`${name}_bucket{`)) continue;
    const others = key.replace(/(?<=\{)le="[^"]*",|,?le="[^"]*"/, '').slice(`${name}_bucket`.length);
    if (value < (last.get(others) ?? 0)) throw new Error(`buckets fall: ${key}`);
    last.set(others, value);
    if (key.includes('le="+Inf"') && samples.get(`${name}_count${others}`) !== value)
      throw new Error(`count and the last bucket differ: ${key}`);
  }
}

/** The value of a sample, written `name{label="value"}` with all its labels in their order; 0 when it is not there yet. */
export function valueOf(scrape: Scrape, sample: string): number {
  const key = sample.includes('{') ? sample : `${sample}{}`;
  for (const { samples } of scrape.values()) {
    const value = samples.get(key);
    if (value !== undefined) return value;
  }
  return 0;
}

/** All samples of one name. */
export function samplesOf(scrape: Scrape, name: string): string[] {
  return [...scrape.values()].flatMap(({ samples }) => [...samples.keys()].filter((key) => key.startsWith(`${name}{`)));
}
