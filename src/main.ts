#!/usr/bin/env node
// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where the program begins. The rest takes a moment to load, and signals do not wait for that. */
import { holdHangUps } from './supervision/hang-up.js';

if (process.argv[2] === 'serve') holdHangUps();
await import('./command-line.js');
