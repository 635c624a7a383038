// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Loaded into a program (--import): it gets a SIGHUP as soon as it asks for most of itself. */
import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';

if (isMainThread) register(import.meta.url);

export async function resolve(specifier, context, next) {
  if (specifier.endsWith('/command-line.js')) process.kill(process.pid, 'SIGHUP');
  return next(specifier, context);
}
