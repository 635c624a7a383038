// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { errorBody, type RegistryError } from '../oci/errors.js';
import type { Reply } from './contract.js';

/** What the client is told of a fault that it is told of. */
export function faultReply(error: RegistryError, requestId: string): Reply {
  // With it an operator finds the line in the log that has the cause.
  const detail = error.detail ?? (error.status >= 500 ? { requestId } : undefined);
  const headers = { 'Content-Type': 'application/json', ...error.headers };
  return { status: error.status, headers, body: errorBody(error.code, error.message, detail) };
}
