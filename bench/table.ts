// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Three significant figures, thousands separated; a dash for what was not measured. */
export function figure(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '-';
  if (Math.abs(value) >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString('en');
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

/** Lines of columns: the first column to the left, the others to the right. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    widths.map((width, column) => (column === 0 ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join('  ');
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/** One line a target of the issue: what was measured, what is asked, and whether it holds. */
export function verdict(name: string, value: number, asked: { atMost: number } | { atLeast: number }, unit = ''): string {
  const held = 'atMost' in asked ? value <= asked.atMost : value >= asked.atLeast;
  const bound = 'atMost' in asked ? `<= ${figure(asked.atMost)}` : `>= ${figure(asked.atLeast)}`;
  return `${held ? 'holds ' : 'MISSED'}  ${name}: ${figure(value)}${unit} (target ${bound}${unit})`;
}
