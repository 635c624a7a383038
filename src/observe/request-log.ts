// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { ClientAddress } from '../http/client-address.js';
import type { FinishedRequest, Request, RequestObserver } from '../http/contract.js';
import type { Log } from './log.js';
import type { Tracer } from './tracer.js';

export type LoggedRequests = 'none' | 'errors' | 'all';

/**
 * A line per request, or per request that this side could not answer (5xx). Undefined where none is wanted, or the level would drop it: writing a line costs as much as
 * answering a small pull.
 */
export function logRequests(log: Log, which: LoggedRequests, addressOf: ClientAddress, tracer?: Tracer): RequestObserver | undefined {
  const all = which === 'all' && log.isLevelEnabled('info');
  if (!all && (which === 'none' || !log.isLevelEnabled('warn'))) return undefined;
  return {
    // The engine may not know the peer any more when the request is over.
    begun: all ? (request) => void request.remoteAddress : () => undefined,
    done: (request) => {
      if (request.status >= 500) log.warn(describe(request, addressOf, tracer), 'request');
      else if (all) log.info(describe(request, addressOf, tracer), 'request');
    },
  };
}

/** Never the query or a header but User-Agent: those may hold what is secret. */
function describe(request: FinishedRequest, addressOf: ClientAddress, tracer: Tracer | undefined): Record<string, unknown> {
  const { id, method, resource, status, receivedBytes, sentBytes, complete } = request;
  return {
    requestId: id,
    traceId: tracer?.traceIdOf(request) ?? traceIdOf(request),
    method: method.slice(0, 20),
    route: resource?.kind ?? 'none',
    ...(resource === undefined ? { path: request.path.slice(0, longestText) } : nameOf(resource)),
    status,
    receivedBytes,
    sentBytes,
    ...(complete ? {} : { aborted: true }),
    ms: Math.round((performance.now() - request.startedMs) * 10) / 10,
    remoteAddress: addressOf(request),
    userAgent: request.header('user-agent')?.slice(0, longestText),
  };
}

/** What a request is about, for any line of the log. */
export function nameOf(resource: NonNullable<Request['resource']>): Record<string, string> {
  const named: Record<string, string> = {};
  if ('repository' in resource) named['repository'] = resource.repository;
  if ('reference' in resource) named['reference'] = resource.reference.tag ?? resource.reference.digest;
  if ('tag' in resource) named['reference'] = resource.tag;
  if ('digest' in resource) named['digest'] = resource.digest;
  if ('id' in resource) named['session'] = resource.id.slice(0, longestText);
  return named;
}

/** Of the caller's trace, where there are none of our own. */
function traceIdOf(request: Request): string | undefined {
  return /^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(request.header('traceparent') ?? '')?.[1];
}

const longestText = 200;
