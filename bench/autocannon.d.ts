// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The little that the benches use of autocannon, which brings no typings. */
declare module 'autocannon' {
  const autocannon: (options: {
    url: string;
    connections: number;
    duration: number;
    headers: Record<string, string>;
    timeout: number;
  }) => Promise<{
    duration: number;
    errors: number;
    non2xx: number;
    requests: { total: number };
    latency: { p50: number; p99: number };
  }>;
  export = autocannon;
}
