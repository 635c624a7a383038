// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Loaded before the program (`--import`), and so before each of its workers: the first of them that hashes while the file DIE_HASHING is there, or sends while
 * DIE_SENDING is, takes the file away and dies.
 */
import { rmSync } from 'node:fs';
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const { DIE_HASHING = '', DIE_SENDING = '' } = process.env;

function dieIfAsked(file) {
  try {
    rmSync(file);
  } catch {
    return;
  }
  process.exit(1);
}

if (!isMainThread) {
  const { request } = http;
  http.request = (...given) => {
    dieIfAsked(DIE_SENDING);
    return request(...given);
  };
  syncBuiltinESMExports();
  const now = performance.now.bind(performance);
  performance.now = () => {
    dieIfAsked(DIE_HASHING);
    return now();
  };
}
