// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** One policy: a CEL expression over `identity` and `request` that is compiled once. */
import { celEnv, celList, celMap, CelScalar, isCelError, mapType, parse, plan, type CelInput, type CelMap } from '@bufbuild/cel';
import type { Action } from '../actions.js';
import type { Identity } from '../identity.js';
import { checkActionNames } from './action-names.js';
import { partsOf, requestPartOf, type Expression } from './parts.js';
import { nameOf, TypeFault, typeOf, type Type } from './policy-types.js';

/** What a policy can ask about. `reference` and `digest` are undefined where they cannot be known yet: whatever depends on them is then in doubt. */
export interface PolicyRequest {
  readonly action: Action;
  readonly namespace: string | undefined;
  /** A tag, or the digest that stands in its place. */
  readonly reference: string | undefined;
  readonly digest: string | undefined;
  readonly ip: string;
  /** Undefined where a token is asked for. */
  readonly method: string | undefined;
}

/** A fault of whoever wrote the policy, at this place of the expression. */
export class PolicyFault extends Error {
  override readonly name = 'PolicyFault';
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

export interface Policy {
  readonly expression: string;
  /** What it depends on besides the identity, or more than that. */
  readonly mentions: ReadonlySet<keyof PolicyRequest>;
  /** What failed is an Error: a claim that this identity does not have, or something that is not known yet. */
  evaluate(identity: Identity, request: PolicyRequest): boolean | Error;
}

const variables: Readonly<Record<string, Type>> = {
  identity: {
    record: {
      id: 'string',
      username: 'string',
      groups: { list: 'string' },
      claims: { map: 'dyn' },
      certificate: { record: { common_names: { list: 'string' }, organizations: { list: 'string' } } },
    },
  },
  request: { record: { action: 'string', namespace: 'string', reference: 'string', digest: 'string', ip: 'string', method: 'string' } },
};

const environment = celEnv({
  variables: { identity: mapType(CelScalar.STRING, CelScalar.DYN), request: mapType(CelScalar.STRING, CelScalar.DYN) },
});

/** Throws PolicyFault. */
export function compilePolicy(expression: string): Policy {
  const parsed = parsePolicy(expression);
  const mentions = mentionedIn(checked(parsed));
  const evaluate = plan(environment, parsed);
  return {
    expression,
    mentions,
    evaluate(identity, request) {
      const result = evaluate({ identity: identityValue(identity), request: requestValue(request, mentions) });
      if (typeof result === 'boolean') return result;
      return isCelError(result) ? result : new Error('the policy is neither true nor false');
    },
  };
}

const requestParts = ['action', 'namespace', 'reference', 'digest', 'ip', 'method'] as const satisfies (keyof PolicyRequest)[];

/** All of them where it names the request other than by `request.part`. */
function mentionedIn(expression: Expression): Set<keyof PolicyRequest> {
  const found = new Set<keyof PolicyRequest>();
  const named = new Set<Expression | undefined>();
  for (const part of partsOf(expression)) {
    const { exprKind } = part;
    const field = requestPartOf(part);
    const known = requestParts.find((name) => name === field);
    if (known !== undefined && exprKind.case === 'selectExpr') {
      found.add(known);
      named.add(exprKind.value.operand);
    } else if (exprKind.case === 'identExpr' && exprKind.value.name === 'request' && !named.has(part)) return new Set(requestParts);
  }
  return found;
}

function parsePolicy(expression: string): ReturnType<typeof parse> {
  try {
    return parse(expression);
  } catch (error) {
    const { rawMessage, message, location } = error as Error & { rawMessage?: string; location?: { start: { offset: number } } };
    throw new PolicyFault(rawMessage ?? message, location?.start.offset ?? 0);
  }
}

function checked({ expr, sourceInfo }: ReturnType<typeof parse>): Expression {
  if (expr === undefined) throw new PolicyFault('an expression is needed', 0);
  try {
    const type = typeOf(environment, expr, variables);
    if (type !== 'bool' && type !== 'dyn') throw new TypeFault(expr.id, `a policy is true or false, not ${nameOf(type)}`);
    checkActionNames(expr);
    return expr;
  } catch (error) {
    if (!(error instanceof TypeFault)) throw error;
    throw new PolicyFault(error.message, sourceInfo?.positions[error.id.toString()] ?? 0);
  }
}

/** hot: turning an identity into CEL's values costs more than most policies. */
const identityValues = new WeakMap<Identity, CelMap>();

function identityValue(identity: Identity): CelMap {
  let value = identityValues.get(identity);
  if (value === undefined) {
    const { id, username, groups, claims, certificate } = identity;
    value = celMap(
      new Map<string, CelInput>([
        ['id', id],
        ['username', username],
        ['groups', celList([...groups])],
        ['claims', toCel(claims)],
        ['certificate', toCel(certificate)],
      ]),
    );
    identityValues.set(identity, value);
  }
  return value;
}

function requestValue(request: PolicyRequest, mentions: ReadonlySet<keyof PolicyRequest>): CelMap {
  const values = new Map<string, CelInput>();
  for (const part of mentions) {
    const value = request[part];
    if (value !== undefined) values.set(part, value);
  }
  return celMap(values);
}

/** JSON's values; a whole number is an int, as whoever writes `== 1` expects. */
function toCel(value: unknown): CelInput {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (typeof value === 'string' || typeof value === 'boolean' || value === null) return value;
  if (Array.isArray(value)) return celList(value.map(toCel));
  if (typeof value === 'object') return celMap(new Map(Object.entries(value).map(([key, entry]) => [key, toCel(entry)])));
  return null;
}
