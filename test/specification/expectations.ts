// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Compares answers with what the specification asks for. A fault is a line of text; no faults, no failure. */
import type { Test } from 'tap';
import { errorCode, type Answer } from '../support/http-client.js';

export interface Expected {
  readonly status: number | readonly number[];
  /** A text that one of the header's values must be, or a pattern for one of them. */
  readonly headers?: Readonly<Record<string, string | RegExp>>;
  readonly body?: Uint8Array;
  /** Of the first error in the body. */
  readonly code?: string | readonly string[];
}

/** Everything that is wrong with an answer. That an error has the specification's form is always asked, but of a HEAD's answer, which has no body. */
export function faultsOf(what: string, answer: Answer, expected: Expected, method = 'GET'): string[] {
  const faults: string[] = [];
  const statuses = [expected.status].flat();
  if (!statuses.includes(answer.status)) {
    faults.push(`status ${answer.status} instead of ${statuses.join(' or ')}: ${answer.body.toString('utf8').slice(0, 300)}`);
  }
  for (const [name, wanted] of Object.entries(expected.headers ?? {})) {
    const values = headerValues(answer, name);
    const found = values.some((value) => (typeof wanted === 'string' ? value === wanted : wanted.test(value)));
    if (!found) faults.push(`${name} is ${JSON.stringify(values)} instead of ${String(wanted)}`);
  }
  if (method === 'HEAD' && answer.body.byteLength > 0) faults.push(`a HEAD was answered with ${answer.body.byteLength} bytes`);
  if (expected.body !== undefined && !answer.body.equals(expected.body)) {
    faults.push(`${answer.body.byteLength} bytes that differ from the ${expected.body.byteLength} expected`);
  }
  if (answer.status >= 400 && method !== 'HEAD') {
    const code = errorCode(answer);
    if (!/^[A-Z_]+$/.test(code)) faults.push(`the error's body is ${code}`);
    else if (expected.code !== undefined && ![expected.code].flat().includes(code))
      faults.push(`${code} instead of ${String(expected.code)}`);
  }
  return faults.map((fault) => `${what}: ${fault}`);
}

/** Every value of a header, where it is repeated as well as where it is a list; as they stand. */
export function headerValues({ rawHeaders }: Answer, name: string): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name.toLowerCase());
}

/** One data set's checks: each becomes one assertion, named after data set and step. */
export class Steps {
  private readonly t: Test;
  private readonly dataSet: string;

  constructor(t: Test, dataSet: string) {
    this.t = t;
    this.dataSet = dataSet;
  }

  /** Passes when there are no faults. A request that got no answer is a fault too. */
  async check(step: string, look: () => Promise<readonly string[]>): Promise<void> {
    let faults: readonly string[];
    try {
      faults = await look();
    } catch (error) {
      faults = [`no answer: ${error instanceof Error ? error.message : String(error)}`];
    }
    this.t.strictSame(faults, [], `${this.dataSet}: ${step}`);
  }
}
