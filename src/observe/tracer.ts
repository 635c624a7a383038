// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the program wants of traces. Where they are not configured there is no tracer at all, and nothing of what `otlp-tracer.ts` needs is loaded. */
import type { Handler, Request, RequestObserver } from '../http/contract.js';

export type Attributes = Readonly<Record<string, string | number | boolean>>;

export interface Tracer {
  /** Each request in a span of its own, below the caller's (`traceparent`). The observer ends it. */
  readonly requests: RequestObserver;
  wrap(handler: Handler): Handler;
  /** Undefined for a request that is over, or is not traced. */
  traceIdOf(request: Request): string | undefined;
  /** Runs `work` in a span below the one that is active here. A rejection marks the span as failed. Without an active span it only runs. */
  span<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T>;
  /** A span of the past, below the active one; epoch milliseconds. */
  past(name: string, attributes: Attributes, startMs: number, endMs: number): void;
  /** Sends what is left, for a few seconds at most. */
  close(): Promise<void>;
}
