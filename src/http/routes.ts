// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Action } from '../access/actions.js';
import { anybody, type Caller } from '../access/caller.js';
import { DirectoryAway } from '../access/ldap/directory-away.js';
import { postExplain } from '../access/policy/explain.js';
import type { LiveAccess } from '../access/live-access.js';
import type { Access } from '../access/open-access.js';
import { postRevoke } from '../access/token/revoke.js';
import { getToken, postToken, type TokenService } from '../access/token/token-endpoint.js';
import { IssuerAway } from '../access/workload/issuer-keys.js';
import { deleteBlob, getBlob, type BlobReads } from '../blob/handlers.js';
import type { Availability } from '../database/availability.js';
import { asRegistryError, DatabaseAway, unavailable } from '../database/failures.js';
import { deleteManifest, getManifest, putManifest, type ManifestParts } from '../manifest/handlers.js';
import { errorBody, RegistryError } from '../oci/errors.js';
import type { RequestLimits } from '../limits/request-limits.js';
import { getReferrers } from '../referrer/handlers.js';
import { getCatalog } from '../repository/catalog.js';
import { StoreLost } from '../storage/store-lost.js';
import { getTags } from '../tag/handlers.js';
import { getTagHistory, postManifestRestore, postTagRestore } from '../undo/handlers.js';
import type { RestoreParts } from '../undo/restore.js';
import { deleteSession, getSession, patchSession, postSession, putSession } from '../upload/handlers.js';
import type { Uploads } from '../upload/active-upload.js';
import { BodyAborted, type Handler, type Headers, type Reply, type Request, type StreamBody } from './contract.js';
import { corsHeaders, preflight, refuseCrossSite } from './cross-origin.js';
import { isStream } from './engine/reply-body.js';
import { faultReply } from './fault-reply.js';
import { getBase, getLivez, getReadyz, type Health } from './health.js';
import { parsePath, type Resource } from './path.js';

export interface Registry {
  readonly uploads: Uploads;
  readonly blobs: BlobReads;
  readonly manifests: ManifestParts;
  readonly undo: RestoreParts;
  readonly health: Health;
  readonly availability: Pick<Availability, 'degraded' | 'reason'>;
  readonly access: Pick<LiveAccess, 'current' | 'enter' | 'leave'>;
  readonly metrics: Handler;
  /** Undefined where nobody is counted. */
  readonly limits: RequestLimits | undefined;
  readonly deleteEnabled: boolean;
  readonly allowedOrigins: ReadonlySet<string>;
  /** A bug, or a disk or database that failed: logged once, here. */
  onFailure(error: unknown, request: Request): void;
  /** Which rule refused a request that was admitted, or never asked for admission. */
  readonly onRefusal: ((request: Request, rule: string) => void) | undefined;
}

type Handle<Kind extends Resource['kind']> = (
  registry: Registry,
  request: Request,
  path: Extract<Resource, { kind: Kind }>,
  query: URLSearchParams,
  caller: Caller,
) => Promise<Reply> | Reply;

/** What must be allowed before the handler is called, and the handler. `open` are the few that everybody may ask. */
type Endpoint<Kind extends Resource['kind']> = readonly [action: Action | 'open', handle: Handle<Kind>];

type AnyEndpoint = readonly [
  action: Action | 'open',
  handle: (registry: Registry, request: Request, path: Resource, query: URLSearchParams, caller: Caller) => Promise<Reply> | Reply,
];

/** One line per endpoint; a HEAD is a GET whose body the engine does not send. */
export const endpoints: { readonly [Kind in Resource['kind']]: Readonly<Record<string, Endpoint<Kind>>> } = {
  livez: { GET: ['open', getLivez] },
  readyz: { GET: ['open', ({ health }) => getReadyz(health)] },
  token: {
    GET: ['open', ({ access }, request, _path, query) => getToken(tokensOf(access), request, query)],
    POST: ['open', ({ access }, request) => postToken(tokensOf(access), request)],
  },
  metrics: { GET: ['admin', ({ metrics }, request) => metrics(request)] },
  explain: { POST: ['admin', ({ access }, request) => postExplain(access.current.explainer, request)] },
  revoke: { POST: ['admin', ({ access }, request) => postRevoke(access.current.tokens?.revocations, request)] },
  base: { GET: ['get-api-version', getBase] }, // end-1
  blob: {
    GET: ['get-blob', ({ blobs }, request, path) => getBlob(blobs, request, path)], // end-2
    DELETE: ['delete-blob', ({ uploads }, request, path) => deleteBlob(uploads.journal, request, path)], // end-10
  },
  manifest: {
    GET: ['get-manifest', ({ manifests }, request, path) => getManifest(manifests, request, path)], // end-3
    PUT: ['put-manifest', ({ manifests }, request, path, query, caller) => putManifest(manifests, request, path, query, caller)], // end-7
    DELETE: ['delete-manifest', ({ manifests }, request, path, _query, caller) => deleteManifest(manifests, request, path, caller)], // end-9
  },
  uploads: {
    POST: ['put-blob', ({ uploads }, request, path, query, caller) => postSession(uploads, request, path, query, caller)], // end-4, end-11
  },
  session: {
    PATCH: ['put-blob', ({ uploads }, request, path, _query, caller) => patchSession(uploads, request, path, caller)], // end-5
    PUT: ['put-blob', ({ uploads }, request, path, query, caller) => putSession(uploads, request, path, query, caller)], // end-6
    GET: ['put-blob', ({ uploads }, request, path, _query, caller) => getSession(uploads, request, path, caller)], // end-13
    DELETE: ['put-blob', ({ uploads }, request, path, _query, caller) => deleteSession(uploads, request, path, caller)], // end-14
  },
  tags: { GET: ['list-tags', ({ manifests }, request, path, query, caller) => getTags(manifests, request, path, query, caller)] }, // end-8
  referrers: {
    GET: ['get-referrers', ({ manifests }, request, path, query, caller) => getReferrers(manifests, request, path, query, caller)], // end-12
  },
  catalog: { GET: ['list-catalog', ({ manifests }, request, path, query, caller) => getCatalog(manifests, request, path, query, caller)] },
  'tag-history': { GET: ['admin', ({ undo }, request, path, query) => getTagHistory(undo, request, path, query)] },
  'tag-restore': { POST: ['admin', ({ undo }, request, path, _query, caller) => postTagRestore(undo, request, path, caller)] },
  'manifest-restore': { POST: ['admin', ({ undo }, request, path, _query, caller) => postManifestRestore(undo, request, path, caller)] },
};

function tokensOf({ current: { tokens } }: Registry['access']): TokenService {
  if (tokens === undefined) throw new RegistryError('NOT_FOUND', 'there are no tokens here');
  return tokens;
}

/** The handler that both engines call. Whatever happens inside, it answers. */
export function createHandler(registry: Registry): Handler {
  return (request) => {
    const held = registry.access.enter();
    const finish = (reply: Reply): Reply => {
      registry.access.leave(held);
      return finishReply(registry, request, reply);
    };
    const fail = (error: unknown): Reply => finish(errorReply(registry, request, error));
    let reply;
    try {
      reply = dispatch(registry, held.access, request);
    } catch (error) {
      return fail(error);
    }
    return reply instanceof Promise ? reply.then(finish, fail) : finish(reply);
  };
}

function finishReply(registry: Registry, request: Request, reply: Reply): Reply {
  const { body } = reply;
  return finishHead(registry, request, isStream(body) ? withFailures(registry, request, reply, body) : reply);
}

/** A store that fails before the first byte is told as what a handler throws. */
function withFailures(registry: Registry, request: Request, reply: Reply, body: StreamBody): Reply {
  const failed = (error: unknown): Reply => finishHead(registry, request, errorReply(registry, request, asRegistryError(error)));
  return { ...reply, body: { ...body, failed } };
}

function finishHead(registry: Registry, request: Request, reply: Reply): Reply {
  const origin = request.header('origin');
  return origin === undefined ? reply : { ...reply, headers: { ...reply.headers, ...corsHeaders(origin, registry.allowedOrigins) } };
}

function dispatch(registry: Registry, { gate, certificates }: Access, request: Request): Promise<Reply> | Reply {
  // Balancers that look after a node have none.
  if (certificates !== undefined && request.path !== '/livez' && request.path !== '/readyz') certificates.identityOf(request);
  if (request.method === 'OPTIONS') return preflight(request, registry.allowedOrigins);
  refuseCrossSite(request, registry.allowedOrigins);
  const path = resourceOf(request);
  request.resource = path;
  // The path's kind chose the line, so the path is of the kind that the line takes.
  const methods = endpoints[path.kind] as Readonly<Record<string, AnyEndpoint>>;
  const endpoint = methods[request.method === 'HEAD' ? 'GET' : request.method];
  if (endpoint === undefined) {
    throw new RegistryError('UNSUPPORTED', `${request.method.slice(0, 20)} is not supported here`, {
      headers: { Allow: allowed(methods) },
    });
  }
  const [action, handle] = endpoint;
  const limits = uncounted.has(path.kind) ? undefined : registry.limits;
  limits?.admitAddress(request);
  const go = (caller: Caller): Promise<Reply> | Reply => {
    if (action !== 'open') limits?.admitIdentity(request, caller.id);
    refuseForNow(registry, request, path, methods);
    return handle(registry, request, path, request.query === '' ? noQuery : new URLSearchParams(request.query), caller);
  };
  const onDenied = limits === undefined ? undefined : (id: string): void => limits.admitIdentity(request, id);
  const admitted = action === 'open' ? anybody : gate.admit(request, action, path, onDenied);
  return admitted instanceof Promise ? admitted.then(go) : go(admitted);
}

/** What cannot be a tag is refused where it is pushed; nobody has one of that name, so whoever asks for it is told that it is unknown. */
function resourceOf({ path, method }: Request): Resource {
  try {
    return parsePath(path);
  } catch (error) {
    if (!(error instanceof RegistryError) || error.code !== 'TAG_INVALID' || method === 'PUT' || !path.startsWith('/v2/')) throw error;
    throw new RegistryError('MANIFEST_UNKNOWN', 'unknown manifest: not a tag', { detail: error.detail });
  }
}

/** Whoever watches the node is never told to wait. */
const uncounted: ReadonlySet<Resource['kind']> = new Set(['livez', 'readyz', 'metrics']);

/** Throws for what nobody may do, or can do at the moment. */
function refuseForNow({ deleteEnabled, availability }: Registry, request: Request, path: Resource, methods: object): void {
  if (request.method === 'DELETE' && !deleteEnabled && path.kind !== 'session') {
    const { DELETE: _disabled, ...enabled } = methods as Record<string, unknown>;
    throw new RegistryError('UNSUPPORTED', 'deletion is disabled (delete.enabled)', { headers: { Allow: allowed(enabled) } });
  }
  if (availability.degraded && needsDatabase(request, path)) {
    throw unavailable('nothing can be pushed, deleted or restored at the moment; pulls go on', new DatabaseAway(availability.reason ?? ''));
  }
}

/** Everything but pulls and what leads to them: also where an upload stands, and what a tag was, is known to the database alone. */
function needsDatabase({ method }: Request, { kind }: Resource): boolean {
  if (kind === 'token' || kind === 'explain' || kind === 'revoke') return false;
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
    if (error.rule !== undefined) registry.onRefusal?.(request, error.rule);
    // That the database, the store, an issuer or the directory of users is away is told once, not by each request that needed it.
    const isTold = [DatabaseAway, StoreLost, IssuerAway, DirectoryAway].some((kind) => error.cause instanceof kind);
    if (error.status >= 500 && !isTold) registry.onFailure(error, request);
    return faultReply(error, request.id);
  }
  // Nobody is there to read it, but the engine is owed an answer.
  if (error instanceof BodyAborted)
    return { status: 408, headers: json, body: errorBody('REQUEST_TIMEOUT', 'the request body did not arrive in time') };
  registry.onFailure(error, request);
  return { status: 500, headers: json, body: errorBody('UNKNOWN', 'internal error', { requestId: request.id }) };
}
