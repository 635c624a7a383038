// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { parseContentRange, parseRange } from '../../src/http/byte-range.js';

/** undefined: the header is to be ignored; no ranges: 416. */
const table: readonly (readonly [
  header: string | undefined,
  size: number,
  expected: readonly (readonly [number, number])[] | undefined,
])[] = [
  [undefined, 100, undefined],
  ['', 100, undefined],
  ['bytes', 100, undefined],
  ['bytes=', 100, undefined],
  ['bytes=x', 100, undefined],
  ['bytes=-', 100, undefined],
  ['bytes=1', 100, undefined],
  ['bytes=1-2-3', 100, undefined],
  ['bytes=+1-2', 100, undefined],
  ['bytes=1.0-2', 100, undefined],
  ['bytes=0-1,', 100, undefined],
  ['bytes=12345678901234567-', 100, undefined],
  ['chars=0-1', 100, undefined],
  ['bytes 0-1', 100, undefined],
  ['bytes=0-0', 100, [[0, 1]]],
  ['Bytes=0-0', 100, [[0, 1]]],
  ['bytes= 0-0 ', 100, [[0, 1]]],
  ['bytes=0-', 100, [[0, 100]]],
  ['bytes=99-', 100, [[99, 100]]],
  ['bytes=0-99', 100, [[0, 100]]],
  ['bytes=0-100', 100, [[0, 100]]],
  ['bytes=50-9007199254740991', 100, [[50, 100]]],
  ['bytes=-1', 100, [[99, 100]]],
  ['bytes=-100', 100, [[0, 100]]],
  ['bytes=-101', 100, [[0, 100]]],
  ['bytes=007-8', 100, [[7, 9]]],
  ['bytes=100-', 100, []],
  ['bytes=100-200', 100, []],
  ['bytes=-0', 100, []],
  ['bytes=5-4', 100, []],
  ['bytes=200-,300-400', 100, []],
  [
    'bytes=0-1,2-3',
    100,
    [
      [0, 2],
      [2, 4],
    ],
  ],
  [
    'bytes=2-3 , 0-1',
    100,
    [
      [2, 4],
      [0, 2],
    ],
  ],
  [
    'bytes=0-9,5-14,5-14',
    100,
    [
      [0, 10],
      [5, 15],
      [5, 15],
    ],
  ],
  [
    'bytes=0-1,200-,-1',
    100,
    [
      [0, 2],
      [99, 100],
    ],
  ],
];

void t.test('Range', async (t) => {
  for (const [header, size, expected] of table) {
    t.strictSame(
      parseRange(header, size),
      expected?.map(([start, end]) => ({ start, end })),
      `${header} of ${size}`,
    );
  }
  t.equal(parseRange(many(1024), 5000)?.length, 1024, 'as many as anybody asks for');
  t.equal(parseRange(many(1025), 5000), undefined, 'and no more');
});

void t.test('Content-Range of a chunk', async (t) => {
  for (const [header, expected] of [
    ['0-0', [0, 0]],
    ['0-1023', [0, 1023]],
    [' 5-7 ', [5, 7]],
    ['100000000000000-100000000000001', [100_000_000_000_000, 100_000_000_000_001]],
  ] as const) {
    t.strictSame(parseContentRange(header), { first: expected[0], last: expected[1] }, header);
  }
  for (const header of [
    '',
    '-',
    '0-',
    '-5',
    '5-4',
    'bytes 0-5',
    'bytes 0-5/6',
    '0-5/6',
    '0-5,6-7',
    '0 - 5',
    'a-b',
    '0x0-0x1',
    '1234567890123456-1234567890123457',
  ]) {
    t.equal(parseContentRange(header), undefined, header);
  }
});

function many(count: number): string {
  return `bytes=${Array.from({ length: count }, (_, index) => `${index}-${index}`).join(',')}`;
}
