// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of the audit log, and what a value must be. */
import { z } from 'zod';
import { flag, path } from './values.js';

export const audit = z
  .strictObject({
    file: path.optional(),
    stdout: flag.default(false),
    grants: z.enum(['none', 'writes', 'all']).default('writes'),
  })
  .prefault({});
