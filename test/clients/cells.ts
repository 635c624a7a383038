// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What drills of clients come to: a table, client × operation, and the counts. */
import { countsLine, table, type Counts } from '../support/table.js';

export type Cell = 'ok' | 'FAIL' | '-' | 'skipped';

export interface Column {
  readonly client: string;
  readonly version: string;
  readonly cells: readonly Cell[];
}

/** Prints how it went, and after a failure what there is to know about it. */
export async function perform(client: string, title: string, act: () => Promise<void>, evidence: () => string): Promise<Cell> {
  const begin = performance.now();
  try {
    await act();
    console.log(`${client}: ${title}: ok (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
    return 'ok';
  } catch (error) {
    console.log(`\n${client}: ${title}: FAIL\n${error instanceof Error ? error.message : String(error)}\n${evidence()}\n`);
    return 'FAIL';
  }
}

export function printColumns(title: string, operations: readonly { readonly title: string }[], columns: readonly Column[]): Cell[] {
  const rows = operations.map((operation, row) => [operation.title, ...columns.map(({ cells }) => cells[row] ?? '-')]);
  const heads = [
    [title, ...columns.map(({ client }) => client)],
    ['', ...columns.map(({ version }) => version)],
  ];
  console.log(`\n${table([...heads, ...rows])}\n`);
  return columns.flatMap(({ cells }) => cells);
}

export function printComplaints(log: string): void {
  const complaints = log.split('\n').filter((line) => /"level":"(error|fatal)"/.test(line));
  if (complaints.length === 0) return;
  console.log(`the registry's log has ${complaints.length} errors, the first ones:\n${complaints.slice(0, 5).join('\n')}\n`);
}

/** With CI=true what cannot be run is a failure. */
export function endWith(cells: readonly Cell[]): void {
  const number = (cell: Cell): number => cells.filter((each) => each === cell).length;
  const counts: Counts = { passed: number('ok'), failed: number('FAIL'), skipped: number('skipped') };
  console.log(countsLine(counts));
  process.exitCode = counts.failed > 0 || (counts.skipped > 0 && process.env['CI'] === 'true') ? 1 : 0;
}
