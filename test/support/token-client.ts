// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { HttpClient, jsonOf, type Answer, type Exchange } from './http-client.js';

/**
 * Logs in as the official suite does: one token is kept for each repository and each of pull, push and delete, as the method tells. Whoever is refused gets the one that
 * the challenge names, and asks once more; 403 is an answer like any other.
 */
export class TokenClient extends HttpClient {
  /** What tokens were asked for, in this order. */
  readonly scopes: string[] = [];
  requests = 0;
  private readonly login: Readonly<Record<string, string>>;
  private readonly tokens = new Map<string, string>();

  constructor(port: number, login: Readonly<Record<string, string>>) {
    super(port);
    this.login = login;
  }

  override async send(method: string, path: string, exchange: Exchange = {}): Promise<Answer> {
    this.requests++;
    const use = useOf(method, path);
    const kept = this.tokens.get(use);
    const answer = await super.send(method, path, kept === undefined ? exchange : withToken(exchange, kept));
    if (answer.status !== 401) return answer;
    const token = await this.tokenFor(answer);
    this.tokens.set(use, token);
    return super.send(method, path, withToken(exchange, token));
  }

  private async tokenFor({ headers }: Answer): Promise<string> {
    const challenge = headers['www-authenticate'] ?? '';
    const [, realm, service = '', scope = ''] = /^Bearer realm="([^"]+)",service="([^"]+)"(?:,scope="([^"]+)")?/.exec(challenge) ?? [];
    if (realm === undefined) throw new Error(`not a challenge for tokens: ${challenge}`);
    this.scopes.push(scope);
    // Several scopes are one parameter, with spaces between them.
    const query = new URLSearchParams({ service, ...(scope === '' ? {} : { scope }) }).toString();
    const answer = await super.send('GET', `${new URL(realm).pathname}?${query}`, { headers: this.login });
    if (answer.status !== 200) throw new Error(`no token for ${scope}: ${answer.status} ${answer.body.toString()}`);
    return jsonOf<{ readonly token: string }>(answer).token;
  }
}

const kinds: Readonly<Record<string, string>> = { GET: 'pull', HEAD: 'pull', POST: 'push', PATCH: 'push', PUT: 'push', DELETE: 'delete' };

function useOf(method: string, path: string): string {
  const repository = /^\/v2\/(.+)\/(?:blobs|manifests|tags|referrers)\//.exec(path)?.[1] ?? '';
  return `${repository}:${kinds[method] ?? method}`;
}

function withToken(exchange: Exchange, token: string): Exchange {
  return { ...exchange, headers: { ...exchange.headers, Authorization: `Bearer ${token}` } };
}
