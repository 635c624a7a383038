// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { deleteBlob, getBlob, type BlobReads } from '../blob/handlers.js';
import type { Availability } from '../database/availability.js';
import { DatabaseAway, unavailable } from '../database/failures.js';
import { deleteManifest, getManifest, putManifest, type ManifestParts } from '../manifest/handlers.js';
import { errorBody, RegistryError } from '../oci/errors.js';
import { getReferrers } from '../referrer/handlers.js';
import { getCatalog } from '../repository/catalog.js';
import { getTags } from '../tag/handlers.js';
import { getTagHistory, postManifestRestore, postTagRestore } from '../undo/handlers.js';
import type { RestoreParts } from '../undo/restore.js';
import { deleteSession, getSession, patchSession, postSession, putSession } from '../upload/handlers.js';
import type { Uploads } from '../upload/upload-sessions.js';
import { BodyAborted, type Handler, type Headers, type Reply, type Request } from './contract.js';
import { corsHeaders, preflight, refuseCrossSite } from './cross-origin.js';
import { requireDirectLoopback } from './direct-loopback.js';
import { getBase, getLivez, getReadyz, type Health } from './health.js';
import { parsePath, type Resource } from './path.js';

export interface Registry {
  readonly uploads: Uploads;
  readonly blobs: BlobReads;
  readonly manifests: ManifestParts;
  readonly undo: RestoreParts;
  readonly health: Health;
  readonly availability: Pick<Availability, 'degraded' | 'reason'>;
  readonly metrics: Handler;
  readonly deleteEnabled: boolean;
  readonly allowedOrigins: ReadonlySet<string>;
  /** A bug, or a disk or database that failed: logged once, here. */
  onFailure(error: unknown, request: Request): void;
}

type Endpoint<Kind extends Resource['kind']> = (
  registry: Registry,
  request: Request,
  path: Extract<Resource, { kind: Kind }>,
  query: URLSearchParams,
) => Promise<Reply> | Reply;

type AnyEndpoint = (registry: Registry, request: Request, path: Resource, query: URLSearchParams) => Promise<Reply> | Reply;

/** One line per endpoint; a HEAD is a GET whose body the engine does not send. */
const endpoints: { readonly [Kind in Resource['kind']]: Readonly<Record<string, Endpoint<Kind>>> } = {
  livez: { GET: getLivez },
  readyz: { GET: ({ health }) => getReadyz(health) },
  metrics: { GET: ({ metrics }, request) => metrics(request) },
  base: { GET: getBase }, // end-1
  blob: {
    GET: ({ blobs }, request, path) => getBlob(blobs, request, path), // end-2
    DELETE: ({ uploads }, request, path) => deleteBlob(uploads.journal, request, path), // end-10
  },
  manifest: {
    GET: ({ manifests }, request, path) => getManifest(manifests, request, path), // end-3
    PUT: ({ manifests }, request, path, query) => putManifest(manifests, request, path, query), // end-7
    DELETE: ({ manifests }, request, path) => deleteManifest(manifests, request, path), // end-9
  },
  uploads: { POST: ({ uploads }, request, path, query) => postSession(uploads, request, path, query) }, // end-4, end-11
  session: {
    PATCH: ({ uploads }, request, path) => patchSession(uploads, request, path), // end-5
    PUT: ({ uploads }, request, path, query) => putSession(uploads, request, path, query), // end-6
    GET: ({ uploads }, request, path) => getSession(uploads, request, path), // end-13
    DELETE: ({ uploads }, request, path) => deleteSession(uploads, request, path), // end-14
  },
  tags: { GET: ({ manifests }, request, path, query) => getTags(manifests, request, path, query) }, // end-8
  referrers: { GET: ({ manifests }, request, path, query) => getReferrers(manifests, request, path, query) }, // end-12
  catalog: { GET: ({ manifests }, request, path, query) => getCatalog(manifests, request, path, query) },
  'tag-history': { GET: ({ undo }, request, path, query) => getTagHistory(undo, request, path, query) },
  'tag-restore': { POST: ({ undo }, request, path) => postTagRestore(undo, request, path) },
  'manifest-restore': { POST: ({ undo }, request, path) => postManifestRestore(undo, request, path) },
};

/** The handler that both engines call. Whatever happens inside, it answers. */
export function createHandler(registry: Registry): Handler {
  return (request) => {
    const finish = (reply: Reply): Reply => finishReply(registry, request, reply);
    const fail = (error: unknown): Reply => finish(errorReply(registry, request, error));
    try {
      const reply = dispatch(registry, request);
      return reply instanceof Promise ? reply.then(finish, fail) : finish(reply);
    } catch (error) {
      return fail(error);
    }
  };
}

function finishReply(registry: Registry, request: Request, reply: Reply): Reply {
  const origin = request.header('origin');
  return origin === undefined ? reply : { ...reply, headers: { ...reply.headers, ...corsHeaders(origin, registry.allowedOrigins) } };
}

function dispatch(registry: Registry, request: Request): Promise<Reply> | Reply {
  if (request.method === 'OPTIONS') return preflight(request, registry.allowedOrigins);
  refuseCrossSite(request, registry.allowedOrigins);
  const path = parsePath(request.path);
  request.resource = path;
  if (forOperators.has(path.kind)) requireDirectLoopback(request);
  // The path's kind chose the line, so the path is of the kind that the line takes.
  const methods = endpoints[path.kind] as Readonly<Record<string, AnyEndpoint>>;
  const endpoint = methods[request.method === 'HEAD' ? 'GET' : request.method];
  if (endpoint === undefined) {
    throw new RegistryError('UNSUPPORTED', `${request.method.slice(0, 20)} is not supported here`, {
      headers: { Allow: allowed(methods) },
    });
  }
  if (request.method === 'DELETE' && !registry.deleteEnabled && path.kind !== 'session') {
    const { DELETE: _disabled, ...enabled } = methods;
    throw new RegistryError('UNSUPPORTED', 'deletion is disabled (delete.enabled)', { headers: { Allow: allowed(enabled) } });
  }
  if (registry.availability.degraded && needsDatabase(request, path)) {
    throw unavailable(
      'nothing can be pushed, deleted or restored at the moment; pulls go on',
      new DatabaseAway(registry.availability.reason ?? ''),
    );
  }
  return endpoint(registry, request, path, request.query === '' ? noQuery : new URLSearchParams(request.query));
}

const forOperators: ReadonlySet<Resource['kind']> = new Set(['tag-history', 'tag-restore', 'manifest-restore']);

/** Everything but pulls: also where an upload stands, and what a tag was, is known to the database alone. */
function needsDatabase({ method }: Request, { kind }: Resource): boolean {
  return kind === 'session' || kind === 'tag-history' || (method !== 'GET' && method !== 'HEAD');
}

const noQuery = new URLSearchParams();

function allowed(methods: object): string {
  const names = Object.keys(methods);
  return [...names, ...(names.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ');
}

function errorReply(registry: Registry, request: Request, error: unknown): Reply {
  const json: Headers = { 'Content-Type': 'application/json' };
  if (error instanceof RegistryError) {
    // That the database is away is told once, not by each request that needed it.
    if (error.status >= 500 && !(error.cause instanceof DatabaseAway)) registry.onFailure(error, request);
    // With it an operator finds the line in the log that has the cause.
    const detail = error.detail ?? (error.status >= 500 ? { requestId: request.id } : undefined);
    return { status: error.status, headers: { ...json, ...error.headers }, body: errorBody(error.code, error.message, detail) };
  }
  // Nobody is there to read it, but the engine is owed an answer.
  if (error instanceof BodyAborted)
    return { status: 408, headers: json, body: errorBody('REQUEST_TIMEOUT', 'the request body did not arrive in time') };
  registry.onFailure(error, request);
  return { status: 500, headers: json, body: errorBody('UNKNOWN', 'internal error', { requestId: request.id }) };
}
