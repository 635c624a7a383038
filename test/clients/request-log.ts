// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a registry was asked, as its log tells (`log.requests: all`). */

export interface LoggedRequest {
  readonly method: string;
  readonly route: string;
  readonly repository?: string;
  readonly reference?: string;
  readonly status: number;
  readonly receivedBytes: number;
}

export interface RequestLog {
  /** Since the last `forget`. */
  readonly requests: () => LoggedRequest[];
  readonly forget: () => void;
}

export function requestLog(log: () => string): RequestLog {
  let begin = 0;
  return {
    requests() {
      const lines = log().slice(begin).split('\n');
      return lines.filter((line) => line.endsWith('"msg":"request"}')).map((line) => JSON.parse(line) as LoggedRequest);
    },
    forget: () => void (begin = log().length),
  };
}

export function describeRequest({ method, route, repository = '', reference = '', status, receivedBytes }: LoggedRequest): string {
  return `${method} ${route} ${repository} ${reference} (${receivedBytes} bytes) → ${status}`;
}
