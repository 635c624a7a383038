// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Who did what, or was not allowed to: a line per request that matters. */
import type { Recorder, Verdict } from '../access/verdict.js';
import type { ClientAddress } from '../http/client-address.js';
import type { FinishedRequest, Request, RequestObserver } from '../http/contract.js';
import { findDigest } from '../oci/digest.js';
import { findRepositoryName } from '../oci/repository-name.js';
import type { LineWriter } from './line-writer.js';

export type AuditedGrants = 'none' | 'writes' | 'all';

export interface AuditTrail extends Recorder {
  readonly observer: RequestObserver;
}

interface Notes {
  verdict: Verdict | undefined;
  refusal: string | undefined;
}

/** Answers that say that somebody may not, or not so often. */
const refusals = new Set([401, 403, 429]);
const longestText = 255;

/** Denials are told always, and of what was allowed as much as `grants` says. */
export function openAuditTrail(writers: readonly LineWriter[], grants: AuditedGrants, addressOf: ClientAddress): AuditTrail {
  const kept = new WeakMap<Request, Notes>();
  const notesOf = (request: Request): Notes => {
    let notes = kept.get(request);
    if (notes === undefined) kept.set(request, (notes = { verdict: undefined, refusal: undefined }));
    return notes;
  };
  return {
    decided(request, verdict) {
      notesOf(request).verdict = verdict;
    },
    refused(request, rule) {
      notesOf(request).refusal = rule;
    },
    observer: {
      // The engine may not know the peer any more when the request is over.
      begun: (request) => void request.remoteAddress,
      done(request) {
        const notes = kept.get(request);
        if (!isTold(request, notes, grants)) return;
        const line = `${JSON.stringify(describe(request, notes, addressOf))}\n`;
        for (const writer of writers) writer.write(line);
      },
    },
  };
}

function isDenied({ status }: FinishedRequest, notes: Notes | undefined): boolean {
  return refusals.has(status) || notes?.verdict?.outcome === 'denied';
}

function isTold(request: FinishedRequest, notes: Notes | undefined, grants: AuditedGrants): boolean {
  if (grants === 'all' && notes !== undefined) return true;
  if (isDenied(request, notes)) return !isFirstQuestion(request, notes);
  // A mount that was not allowed goes on as an upload.
  if (notes?.refusal !== undefined && request.status === 202) return true;
  return grants !== 'none' && notes?.verdict !== undefined && changesSomething(request, notes.verdict);
}

/** Clients ask /v2/ without credentials to learn where to log in: nobody was denied anything. */
function isFirstQuestion({ resource }: FinishedRequest, notes: Notes | undefined): boolean {
  return resource?.kind === 'base' && notes?.verdict?.identity === '' && notes.verdict.reason === undefined;
}

/** What can be read back, or is gone, afterwards; not each step of an upload. */
function changesSomething({ method, resource, status }: FinishedRequest, { action }: Verdict): boolean {
  if (action === 'issue-token') return true;
  if (method === 'GET' || method === 'HEAD' || resource?.kind === 'explain') return false;
  if (resource?.kind === 'uploads') return status === 201;
  return resource?.kind !== 'session' || method === 'PUT';
}

/** Names and addresses; of the query nothing but what a mount names, and never a header. */
function describe(request: FinishedRequest, notes: Notes | undefined, addressOf: ClientAddress): Record<string, unknown> {
  const { id, method, resource, status, path } = request;
  const { verdict, refusal } = notes ?? {};
  const mount = resource?.kind === 'uploads' ? mountOf(request.query) : undefined;
  const denied = isDenied(request, notes);
  return {
    time: new Date().toISOString(),
    requestId: id,
    identity: verdict?.identity.slice(0, longestText) ?? '',
    source: verdict?.source,
    remoteAddress: addressOf(request),
    method: method.slice(0, 20),
    action: mount !== undefined && verdict?.action === 'put-blob' ? 'mount-blob' : verdict?.action,
    ...(resource === undefined ? { path: path.slice(0, longestText) } : aboutResource(resource)),
    ...mount,
    scope: verdict?.scope,
    status,
    outcome: denied ? 'denied' : 'allowed',
    rule: denied ? (refusal ?? verdict?.rule) : verdict?.rule,
    ...(!denied && status === 202 && refusal !== undefined ? { refused: refusal } : {}),
    reason: verdict?.reason,
  };
}

function aboutResource(resource: NonNullable<Request['resource']>): Record<string, string | undefined> {
  const reference = 'reference' in resource ? resource.reference : undefined;
  return {
    resource: resource.kind,
    repository: 'repository' in resource ? resource.repository : undefined,
    reference: reference?.tag ?? ('tag' in resource ? resource.tag : undefined),
    digest: reference?.digest ?? ('digest' in resource ? resource.digest : undefined),
    session: 'id' in resource ? resource.id.slice(0, longestText) : undefined,
  };
}

/** Whatever else a query has in their place stays untold. */
function mountOf(query: string): { digest: string; from: string | undefined } | undefined {
  const parameters = new URLSearchParams(query);
  const digest = findDigest(parameters.get('mount') ?? '');
  return digest === undefined ? undefined : { digest, from: findRepositoryName(parameters.get('from') ?? '') };
}
