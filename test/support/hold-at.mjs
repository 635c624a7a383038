// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Loaded before the program (`--import`): whoever comes first to each of the places in HOLD_AT is held there for as long as the place's file in HOLD_FILES is there,
 * which it makes itself.
 */
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const { HOLD_AT = '', HOLD_FILES = '' } = process.env;
const { pausePoints } = await import('../../dist/database/pause-points.js');
const places = new Set(HOLD_AT.split(' '));
pausePoints.reached = async (place) => {
  if (!places.delete(place)) return;
  const file = path.join(HOLD_FILES, place);
  writeFileSync(file, '');
  while (existsSync(file)) await sleep(20);
};
