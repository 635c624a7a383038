// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Browsers. A web page of another origin may read this registry only when its origin is allowed (`server.allowed_origins`), and may never change
 * anything in it otherwise: without this, any page that is open beside a registry on loopback could push to it.
 */
import { RegistryError } from '../oci/errors.js';
import type { Reply, Request } from './contract.js';

const exposed =
  'Docker-Content-Digest, Docker-Upload-UUID, ETag, Link, Location, OCI-Filters-Applied, OCI-Subject, OCI-Tag, Range, Warning, WWW-Authenticate, X-Request-Id';

export function corsHeaders(origin: string, allowedOrigins: ReadonlySet<string>): Record<string, string> {
  if (!isAllowed(origin, allowedOrigins)) return { Vary: 'Origin' };
  return { 'Access-Control-Allow-Origin': origin, 'Access-Control-Expose-Headers': exposed, Vary: 'Origin' };
}

/** OPTIONS is answered without a look at who asks. */
export function preflight(request: Request, allowedOrigins: ReadonlySet<string>): Reply {
  const origin = request.header('origin');
  if (origin === undefined || !isAllowed(origin, allowedOrigins))
    return { status: 204, headers: { Allow: 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS' } };
  return {
    status: 204,
    headers: {
      'Access-Control-Allow-Methods': 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
      'Access-Control-Allow-Headers':
        request.header('access-control-request-headers') ?? 'Accept, Authorization, Content-Range, Content-Type, Range',
      'Access-Control-Max-Age': '86400',
    },
  };
}

/** Throws DENIED for a write that a web page of a foreign origin makes. */
export function refuseCrossSite(request: Request, allowedOrigins: ReadonlySet<string>): void {
  if (request.method === 'GET' || request.method === 'HEAD') return;
  const origin = request.header('origin');
  if (origin === undefined || isAllowed(origin, allowedOrigins)) return;
  const host = origin.replace(/^https?:\/\//, '');
  if (host === request.header('host') && addressOrLocalhost.test(host)) return;
  throw new RegistryError('DENIED', 'this origin may not change anything here (server.allowed_origins)', {
    detail: origin.slice(0, 200),
    rule: 'server.allowed_origins',
  });
}

/** A page of this very host; under any other name it may be a stranger's page whose name was made to point here. */
const addressOrLocalhost = /^(localhost|\d+(\.\d+){3}|\[[0-9a-f:.]+\])(:\d+)?$/;

function isAllowed(origin: string, allowedOrigins: ReadonlySet<string>): boolean {
  return allowedOrigins.has(origin) || allowedOrigins.has('*');
}
