// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * What is counted, and how it is handed to who asks. Counters and histograms are plain numbers of our own, since prom-client's, with their
 * labels as objects, take 6 to 10 µs per request (bench/observe.ts), half of what a pull takes; prom-client collects them, and its own metrics of the process, when a scrape comes.
 */
import { collectDefaultMetrics, Registry, type Metric } from 'prom-client';
import { exposition, type Family, type Sample } from './exposition.js';

/** Only goes up. */
export class Counter {
  value = 0;

  add(amount = 1): void {
    this.value += amount;
  }
}

/** In seconds. */
export class Histogram {
  readonly bounds: readonly number[];
  /** One more than bounds: the last has what is above all of them. */
  readonly counts: number[];
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = Array.from({ length: bounds.length + 1 }, () => 0);
  }

  /** hot: once per request. */
  observe(value: number): void {
    const { bounds } = this;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] as number)) at++;
    (this.counts[at] as number)++;
    this.sum += value;
  }
}

/** One metric with labels; ask once for each combination and keep what you get. Values come from our own code, never from a request: their number is bounded. */
export interface Labelled<Series> {
  with(...values: string[]): Series;
}

export type Labels = Readonly<Record<string, string>>;

/** Undefined: nothing to tell now. */
export type Reading = number | undefined | readonly { readonly labels: Labels; readonly value: number }[];

/** From half a millisecond, what a batched look-up takes, to what a large layer over a slow line takes. */
export const requestSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120, 600];
export const operationSeconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30];

export class Metrics {
  private readonly registry = new Registry();
  private readonly beforeScrape: (() => Promise<void>)[] = [];

  constructor() {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 20 });
    // They walk all open connections, and are gauges under the name of a counter.
    for (const kind of ['resources', 'handles', 'requests'])
      for (const name of [`nodejs_active_${kind}`, `nodejs_active_${kind}_total`]) this.registry.removeSingleMetric(name);
  }

  /** A number that is read when somebody asks for it. */
  gauge(name: string, help: string, read: () => Reading): void {
    this.register({ name, help, type: 'gauge' }, () => samplesOf(read()));
  }

  /** A number that only goes up and is counted elsewhere. */
  count(name: string, help: string, read: () => Reading): void {
    this.register({ name, help, type: 'counter' }, () => samplesOf(read()));
  }

  counter(name: string, help: string, labelNames: readonly string[]): Labelled<Counter> {
    const series = new SeriesByLabels(labelNames, () => new Counter());
    this.register({ name, help, type: 'counter' }, () => series.all().map(([labels, { value }]) => ({ labels, value })));
    return series;
  }

  histogram(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]): Labelled<Histogram> {
    const series = new SeriesByLabels(labelNames, () => new Histogram(bounds));
    this.register({ name, help, type: 'histogram' }, () =>
      series.all().flatMap(([labels, histogram]) => bucketsOf(name, labels, histogram)),
    );
    return series;
  }

  /** Done before each scrape, within `scrapeWaitMs`: what takes longer is told by the next one. */
  prepare(work: () => Promise<void>): void {
    this.beforeScrape.push(work);
  }

  async text(form: 'openmetrics' | 'text'): Promise<string> {
    await Promise.race([Promise.allSettled(this.beforeScrape.map((work) => work())), after(scrapeWaitMs)]);
    return exposition((await this.registry.getMetricsAsJSON()) as unknown as Family[], form);
  }

  private register(about: Omit<Family, 'values'>, collect: () => readonly Sample[]): void {
    const metric = { ...about, get: () => Promise.resolve({ ...about, values: collect() }), reset: () => undefined };
    this.registry.registerMetric(metric as unknown as Metric);
  }
}

/** Prometheus gives up after 10 s by default. */
const scrapeWaitMs = 2_000;

class SeriesByLabels<Series> implements Labelled<Series> {
  private readonly names: readonly string[];
  private readonly create: () => Series;
  private readonly series = new Map<string, { readonly labels: Labels; readonly series: Series }>();

  constructor(names: readonly string[], create: () => Series) {
    this.names = names;
    this.create = create;
    if (names.length === 0) this.with();
  }

  with(...values: string[]): Series {
    const key = values.join('\n');
    let found = this.series.get(key);
    if (found === undefined) {
      found = { labels: Object.fromEntries(this.names.map((name, at) => [name, values[at] ?? ''])), series: this.create() };
      this.series.set(key, found);
    }
    return found.series;
  }

  all(): (readonly [Labels, Series])[] {
    return [...this.series.values()].map(({ labels, series }) => [labels, series]);
  }
}

function samplesOf(reading: Reading): readonly Sample[] {
  if (reading === undefined) return [];
  return typeof reading === 'number' ? [{ labels: {}, value: reading }] : reading;
}

function bucketsOf(name: string, labels: Labels, { bounds, counts, sum }: Histogram): Sample[] {
  const samples: Sample[] = [];
  let total = 0;
  for (let at = 0; at < counts.length; at++) {
    total += counts[at] ?? 0;
    samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le: bounds[at] ?? Infinity }, value: total });
  }
  samples.push({ metricName: `${name}_sum`, labels, value: sum }, { metricName: `${name}_count`, labels, value: total });
  return samples;
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
