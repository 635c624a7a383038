// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { readFileSync } from 'node:fs';
import t from 'tap';
import { functionIndex, indexFile } from '../support/function-index.js';

void t.test('whoever looks for a function finds the migration whose text of it counts', (t) => {
  t.equal(readFileSync(indexFile, 'utf8'), functionIndex(), 'npx tsx test/support/function-index.ts writes it anew');
  t.end();
});
