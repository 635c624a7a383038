// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Who a connection's certificate says that its client is. That the client has its key, and that an authority leads to it, was checked when the connection was made; a connection
 * may last, so whether it still counts is checked here, for each request.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Request } from '../../http/contract.js';
import { RegistryError } from '../../oci/errors.js';
import { anonymous, makeIdentity, type Identity } from '../identity.js';
import { watchFiles } from '../watched-file.js';
import { isIssuedBy, nameOf, parseAuthorities, type Authority } from './authorities.js';
import { readRevocationLists, serialOf, type RevocationList } from './revocation-lists.js';
import { readSubject, type Subject } from './subject.js';

export interface CertificateSettings {
  readonly authoritiesFile: string;
  /** With it a certificate counts only while no list names it or an authority above it, and each of these has one. */
  readonly listFile: string | undefined;
  readonly isRequired: boolean;
  readonly idFrom: 'common_name' | 'san_dns' | 'san_email' | 'san_uri' | 'none';
  readonly hasGroups: boolean;
}

export interface ClientCertificates {
  /**
   * hot: the same object for the same certificate. Undefined where none was shown; without an id where the certificate gives none. Throws DENIED for one that does not count,
   * and where one is required.
   */
  identityOf(request: Pick<Request, 'clientCertificate'>): Identity | undefined;
  close(): void;
}

/** Which of the two files is no good. */
export class CertificateFault extends Error {
  readonly file: 'authorities' | 'list';

  constructor(file: 'authorities' | 'list', path: string, cause: unknown) {
    super(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.file = file;
  }
}

export interface Trust {
  readonly authorities: readonly Authority[];
  readonly lists: ReadonlyMap<Authority, RevocationList> | undefined;
}

/** Throws CertificateFault. */
export async function readTrust({ authoritiesFile, listFile }: Pick<CertificateSettings, 'authoritiesFile' | 'listFile'>): Promise<Trust> {
  const authorities = await readFile(authoritiesFile, 'utf8').then(parseAuthorities).catch(fault('authorities', authoritiesFile));
  if (listFile === undefined) return { authorities, lists: undefined };
  const lists = await readFile(listFile)
    .then((bytes) => readRevocationLists(bytes, authorities))
    .catch(fault('list', listFile));
  return { authorities, lists };
}

function fault(file: CertificateFault['file'], path: string): (error: unknown) => never {
  return (error) => {
    throw new CertificateFault(file, path, error);
  };
}

/** What an operator should know of lists that there are, and of those that there are not. */
export function listWarnings({ authorities, lists }: Trust, nowMs: number): string[] {
  if (lists === undefined) return [];
  return authorities.flatMap((authority) => {
    const list = lists.get(authority);
    const name = nameOf(authority.certificate);
    if (list === undefined) return [`there is no revocation list of ${name}, so no certificate counts that it signed`];
    return isCurrent(list, nowMs) ? [] : [`the revocation list of ${name} is out of date, so no certificate counts that it signed`];
  });
}

/** Clocks of authorities differ a little. */
const toleranceMs = 5 * 60_000;
const mostRemembered = 10_000;

function isCurrent({ thisUpdateMs, nextUpdateMs }: RevocationList, nowMs: number): boolean {
  return thisUpdateMs - toleranceMs <= nowMs && nowMs < nextUpdateMs;
}

/** A certificate that was looked at. */
interface Examined {
  readonly identity: Identity;
  /** Why it does not count, whatever the time. */
  readonly refusal: string | undefined;
  readonly fromMs: number;
  readonly untilMs: number;
  /** Of all authorities above it. */
  readonly lists: readonly RevocationList[];
}

/** Throws CertificateFault. */
export async function openClientCertificates(
  settings: CertificateSettings,
  warn: (message: string, error: unknown) => void,
  now: () => number = Date.now,
): Promise<ClientCertificates> {
  const { authoritiesFile, listFile, isRequired } = settings;
  let trust = await readTrust(settings);
  let examined = new Map<string, Examined>();
  const tellLists = (): void => {
    for (const line of listWarnings(trust, now())) warn(`${listFile} (server.tls.client_crl_file): ${line}`, undefined);
  };
  tellLists();
  const watched = watchFiles(
    [authoritiesFile, ...(listFile === undefined ? [] : [listFile])],
    async () => {
      trust = await readTrust(settings);
      examined = new Map();
      tellLists();
    },
    (error) => warn(`${(error as Error).message}; what was before goes on (server.tls.client_ca_bundle, client_crl_file)`, undefined),
  );
  const told = new WeakSet<RevocationList>();
  return {
    identityOf({ clientCertificate: pem }) {
      if (pem === undefined) {
        if (isRequired) throw denied('a client certificate is required');
        return undefined;
      }
      let known = examined.get(pem);
      if (known === undefined) {
        if (examined.size >= mostRemembered) examined.clear();
        examined.set(pem, (known = examineAny(pem, trust, settings)));
      }
      const nowMs = now();
      if (known.refusal !== undefined) throw denied(known.refusal);
      if (nowMs < known.fromMs || nowMs >= known.untilMs) throw denied('the client certificate, or one of its authorities, has expired');
      for (const list of known.lists) {
        if (isCurrent(list, nowMs)) continue;
        if (!told.has(list)) {
          told.add(list);
          tellLists();
        }
        throw denied('whether the client certificate was revoked is not known');
      }
      return known.identity;
    },
    close: () => watched.close(),
  };
}

function denied(message: string): RegistryError {
  // Another certificate needs another connection.
  return new RegistryError('DENIED', message, { headers: { Connection: 'close' }, rule: `server.tls: ${message}` });
}

/** What one library reads, the other may not. */
function examineAny(pem: string, trust: Trust, settings: CertificateSettings): Examined {
  try {
    return examine(pem, trust, settings);
  } catch {
    return { identity: anonymous, refusal: 'the client certificate cannot be read', fromMs: 0, untilMs: 0, lists: [] };
  }
}

function examine(pem: string, { authorities, lists }: Trust, settings: CertificateSettings): Examined {
  const certificate = new X509Certificate(pem);
  const path = pathOf(certificate, authorities);
  const [issuer] = path;
  const all = [certificate, ...path.map((authority) => authority.certificate)];
  const listed = path.map((authority) => lists?.get(authority));
  const isRevoked = listed.some((list, index) => list?.serials.has(serialOf(all[index]?.serialNumber ?? '')));
  const refusal =
    issuer === undefined
      ? 'the client certificate is of an authority that does not count here'
      : isRevoked
        ? 'the client certificate was revoked'
        : lists !== undefined && listed.includes(undefined)
          ? 'whether the client certificate was revoked is not known'
          : undefined;
  return {
    identity: identityOf(readSubject(pem), settings),
    refusal,
    fromMs: Math.max(...all.map(({ validFrom }) => Date.parse(validFrom))),
    untilMs: Math.min(...all.map(({ validTo }) => Date.parse(validTo))),
    lists: listed.filter((list) => list !== undefined),
  };
}

/** From who signed it up to the root; empty where that is nobody of these. */
function pathOf(certificate: X509Certificate, authorities: readonly Authority[]): Authority[] {
  const path: Authority[] = [];
  for (let above = authorities.find((one) => isIssuedBy(certificate, one.certificate)); above !== undefined; above = above.issuer)
    path.push(above);
  return path;
}

function identityOf(subject: Subject, { idFrom, hasGroups }: CertificateSettings): Identity {
  const { common_names, organizations } = subject;
  const [id = ''] = idFrom === 'none' ? [] : idFrom === 'common_name' ? common_names : subject[idFrom];
  const isName = id.length <= 255 && !/\p{Cc}/u.test(id);
  const certificate = { common_names, organizations };
  return isName && id !== ''
    ? makeIdentity(id, id, { certificate, groups: hasGroups ? organizations : [] })
    : { ...anonymous, certificate };
}
