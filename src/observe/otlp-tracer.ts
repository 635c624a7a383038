// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Traces by OpenTelemetry, sent as OTLP over HTTP. Loaded only where `tracing.endpoint` is set. */
import { context, diag, DiagLogLevel, propagation, SpanKind, SpanStatusCode, trace, type Context, type Span } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider, ParentBasedSampler, TraceIdRatioBasedSampler } from '@opentelemetry/sdk-trace-node';
import type { ClientAddress } from '../http/client-address.js';
import type { FinishedRequest, Reply, Request } from '../http/contract.js';
import type { Log } from './log.js';
import { nameOf } from './request-log.js';
import type { Tracer } from './tracer.js';

export interface TracingOptions {
  /** Where a collector takes traces, for example `http://127.0.0.1:4318/v1/traces`. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of the requests that no caller has decided about. */
  readonly sampleRatio: number;
  readonly serviceName: string;
  readonly version: string;
  readonly instance: string;
  readonly addressOf: ClientAddress;
}

/** A collector that does not answer costs this much per batch of spans, and nobody waits for it. */
const exportTimeoutMs = 10_000;
/** Spans that wait for the collector; more are dropped. */
const mostWaitingSpans = 4_096;
const spansPerBatch = 512;
const sendEveryMs = 1_000;
/** What a collector that hangs may hold up the end of the process. */
const closeWithinMs = 3_000;
const complainEveryMs = 60_000;

export function openTracer(options: TracingOptions, log: Log): Tracer {
  const exporter = new OTLPTraceExporter({ url: options.endpoint, headers: { ...options.headers }, timeoutMillis: exportTimeoutMs });
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      'service.name': options.serviceName,
      'service.version': options.version,
      'service.instance.id': options.instance,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(options.sampleRatio) }),
    spanProcessors: [
      new BatchSpanProcessor(exporter, {
        maxQueueSize: mostWaitingSpans,
        maxExportBatchSize: spansPerBatch,
        scheduledDelayMillis: sendEveryMs,
        exportTimeoutMillis: exportTimeoutMs,
      }),
    ],
  });
  provider.register();
  complainTo(log);
  const tracer = trace.getTracer('ha-registry', options.version);
  const spans = new WeakMap<Request, Span>();

  return {
    wrap: (handler) => (request) => {
      if (untraced.has(request.path)) return handler(request);
      const parent = propagation.extract(context.active(), request, {
        get: (_request, name) => request.header(name),
        keys: () => ['traceparent', 'tracestate'],
      });
      const startTime = performance.timeOrigin + request.startedMs;
      const span = tracer.startSpan(request.method.slice(0, 20), { kind: SpanKind.SERVER, startTime }, parent);
      spans.set(request, span);
      const inSpan = trace.setSpan(parent, span);
      const reply = context.with(inSpan, () => handler(request));
      return reply instanceof Promise ? reply.then((later) => openedIn(inSpan, later)) : openedIn(inSpan, reply);
    },
    traceIdOf: (request) => spans.get(request)?.spanContext().traceId,
    requests: {
      begun: (request) => void request.remoteAddress,
      done(request) {
        const span = spans.get(request);
        if (span === undefined) return;
        spans.delete(request);
        endRequest(span, request, options.addressOf);
      },
    },
    span(name, attributes, work) {
      if (trace.getActiveSpan()?.isRecording() !== true) return work();
      return tracer.startActiveSpan(name, { attributes: { ...attributes } }, (span) =>
        work()
          .catch((error: unknown) => {
            span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.name : 'failed' });
            throw error;
          })
          .finally(() => span.end()),
      );
    },
    past(name, attributes, startMs, endMs) {
      if (trace.getActiveSpan()?.isRecording() !== true) return;
      tracer.startSpan(name, { attributes: { ...attributes }, startTime: startMs }).end(endMs);
    },
    async close() {
      const closed = provider.shutdown().catch((error: unknown) => log.debug({ err: error }, 'the last traces could not be sent'));
      await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, closeWithinMs))]);
    },
  };
}

/** A body is opened by the engine, which knows no spans. */
function openedIn(inSpan: Context, reply: Reply): Reply {
  const { body } = reply;
  if (typeof body !== 'object' || !('open' in body)) return reply;
  return { ...reply, body: { ...body, open: () => context.with(inSpan, () => body.open()) } };
}

/** Names as OpenTelemetry's conventions for HTTP have them. */
function endRequest(span: Span, request: FinishedRequest, addressOf: ClientAddress): void {
  const { method, resource, status, receivedBytes, sentBytes, complete } = request;
  const route = resource?.kind ?? 'none';
  span.updateName(`${method.slice(0, 20)} ${route}`);
  span.setAttributes({
    'http.request.method': method.slice(0, 20),
    'http.route': route,
    'http.response.status_code': status,
    'http.request.body.size': receivedBytes,
    'http.response.body.size': sentBytes,
    'client.address': addressOf(request),
    'registry.request_id': request.id,
    ...Object.fromEntries(Object.entries(resource === undefined ? {} : nameOf(resource)).map(([key, value]) => [`registry.${key}`, value])),
  });
  if (!complete) span.setAttribute('registry.aborted', true);
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

/** A collector that is away is one line a minute. */
function complainTo(log: Log): void {
  let complainedMs = -Infinity;
  const complain = (message: string): void => {
    if (performance.now() - complainedMs < complainEveryMs) return;
    complainedMs = performance.now();
    log.warn({ reason: message.slice(0, 300) }, 'traces could not be delivered (tracing.endpoint)');
  };
  diag.setLogger(
    { error: complain, warn: complain, info: silent, debug: silent, verbose: silent },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
}

/** What balancers and Prometheus ask every few seconds. */
const untraced = new Set(['/livez', '/readyz', '/metrics']);

const silent = (): void => undefined;
