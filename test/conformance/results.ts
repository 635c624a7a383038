// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Reads what a suite leaves in its results directory. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';

export interface SuiteResults {
  readonly pass: number;
  readonly fail: number;
  /** Faults of the suite itself. */
  readonly error: number;
  /** What the registry said it does not support. */
  readonly skip: number;
  /** What the configuration turned off. */
  readonly disabled: number;
  /** Those that failed, were skipped or turned off. */
  readonly notPassed: readonly SuiteTest[];
}

export interface SuiteTest {
  readonly name: string;
  readonly status: string;
  /** What was wrong. */
  readonly message: string;
  /** The requests and responses, credentials blacked out. */
  readonly exchanges: string;
}

/** Rejects when there are no results. */
export async function readResults(directory: string): Promise<SuiteResults> {
  const junit = await readFile(path.join(directory, 'junit.xml'), 'utf8');
  const suite = /<testsuite\s[^>]*>/.exec(junit)?.[0];
  if (suite === undefined) throw new Error('junit.xml has no testsuite');
  const [total, fail, error, skip, disabled] = ['tests', 'failures', 'errors', 'skipped', 'disabled'].map((name) =>
    Number(attribute(suite, name) ?? 0),
  );
  const counts = { fail: fail ?? 0, error: error ?? 0, skip: skip ?? 0, disabled: disabled ?? 0 };
  const pass = (total ?? 0) - counts.fail - counts.error - counts.skip - counts.disabled;
  if (Number.isNaN(pass) || pass < 0) throw new Error(`junit.xml has counts that do not add up: ${suite}`);
  return { ...counts, pass, notPassed: readTests(junit).filter(({ status }) => status !== 'passed') };
}

function readTests(junit: string): SuiteTest[] {
  return [...junit.matchAll(/<testcase\s[^>]*?(?:\/>|>[\s\S]*?<\/testcase>)/g)].map(([text]) => ({
    name: attribute(text, 'name') ?? '',
    status: attribute(text, 'status') ?? '',
    message: element(text, 'system-out') || element(text, 'failure'),
    exchanges: element(text, 'system-err'),
  }));
}

function attribute(tag: string, name: string): string | undefined {
  const value = new RegExp(`\\s${name}="([^"]*)"`).exec(tag)?.[1];
  return value === undefined ? undefined : unescape(value);
}

function element(text: string, name: string): string {
  return unescape(new RegExp(`<${name}(?:\\s[^>]*)?>([\\s\\S]*?)</${name}>`).exec(text)?.[1] ?? '');
}

const entities: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

function unescape(xml: string): string {
  return xml.replaceAll(/&(?:#x([0-9A-Fa-f]+)|#([0-9]+)|([a-z]+));/g, (whole, hex?: string, decimal?: string, name?: string) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    return entities[name ?? ''] ?? whole;
  });
}
