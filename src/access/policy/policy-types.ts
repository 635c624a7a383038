// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Types of policies. The CEL library evaluates and does not check types; a policy that cannot work must be found before somebody stands at the door. */
import type { CelEnv, CelType } from '@bufbuild/cel';
import type { Expression } from './parts.js';

/** `dyn` fits everything. */
export type Type =
  | 'dyn'
  | 'bool'
  | 'bytes'
  | 'double'
  | 'int'
  | 'null_type'
  | 'string'
  | 'type'
  | 'uint'
  | { readonly list: Type }
  | { readonly map: Type }
  | { readonly record: Readonly<Record<string, Type>> }
  | { readonly object: string };

type Scope = Readonly<Record<string, Type>>;

/** `id` is that of the expression that is wrong. */
export class TypeFault extends Error {
  readonly id: bigint;

  constructor(id: bigint, message: string) {
    super(message);
    this.id = id;
  }
}

/** The expression's type. Throws TypeFault. */
export function typeOf(env: CelEnv, expression: Expression, scope: Scope): Type {
  const { id, exprKind } = expression;
  const inner = (part: Expression | undefined, names: Scope = scope): Type => (part === undefined ? 'dyn' : typeOf(env, part, names));
  switch (exprKind.case) {
    case 'constExpr':
      return constantTypes[exprKind.value.constantKind.case ?? ''] ?? 'dyn';
    case 'identExpr': {
      const { name } = exprKind.value;
      const type = Object.hasOwn(scope, name) ? scope[name] : typeNames.has(name) ? 'type' : undefined;
      if (type === undefined) throw new TypeFault(id, `${name} is not known: there are identity and request`);
      return type;
    }
    case 'selectExpr':
      return fieldType(id, inner(exprKind.value.operand), exprKind.value.field, exprKind.value.testOnly);
    case 'listExpr':
      return { list: commonType(exprKind.value.elements.map((element) => inner(element))) };
    case 'structExpr': {
      if (exprKind.value.messageName !== '') throw new TypeFault(id, `${exprKind.value.messageName} is not known`);
      for (const { keyKind } of exprKind.value.entries) if (keyKind.case === 'mapKey') inner(keyKind.value);
      return { map: commonType(exprKind.value.entries.map(({ value }) => inner(value))) };
    }
    case 'comprehensionExpr': {
      const { accuVar, accuInit, iterVar, iterVar2, iterRange, loopCondition, loopStep, result } = exprKind.value;
      const range = inner(iterRange);
      const element =
        typeof range === 'object' && 'list' in range ? range.list : typeof range === 'object' || range === 'dyn' ? 'dyn' : undefined;
      if (element === undefined) throw new TypeFault(iterRange?.id ?? id, `a list or a map is needed here, not ${nameOf(range)}`);
      const start = inner(accuInit);
      // An empty list says nothing of what will be in it.
      const accumulated: Type = typeof start === 'object' ? 'dyn' : start;
      const within = { ...scope, [iterVar]: element, ...(iterVar2 === '' ? {} : { [iterVar2]: 'dyn' as const }), [accuVar]: accumulated };
      inner(loopCondition, within);
      const step = inner(loopStep, within);
      if (accumulated === 'bool' && !fits('bool', step))
        throw new TypeFault(loopStep?.id ?? id, `true or false is needed here, not ${nameOf(step)}`);
      return inner(result, { ...scope, [accuVar]: accumulated === 'dyn' ? step : accumulated });
    }
    case 'callExpr': {
      const { target, function: name, args } = exprKind.value;
      return callType(
        env,
        id,
        name,
        target === undefined ? undefined : inner(target),
        args.map((argument) => inner(argument)),
      );
    }
    case undefined:
      return 'dyn';
  }
}

const constantTypes: Readonly<Record<string, Type>> = {
  boolValue: 'bool',
  bytesValue: 'bytes',
  doubleValue: 'double',
  int64Value: 'int',
  nullValue: 'null_type',
  stringValue: 'string',
  uint64Value: 'uint',
};
const typeNames = new Set(['bool', 'bytes', 'double', 'int', 'list', 'map', 'null_type', 'string', 'type', 'uint']);

function fieldType(id: bigint, operand: Type, field: string, isTest: boolean): Type {
  if (operand === 'dyn') return isTest ? 'bool' : 'dyn';
  if (typeof operand === 'object' && 'map' in operand) return isTest ? 'bool' : operand.map;
  if (typeof operand !== 'object' || !('record' in operand)) throw new TypeFault(id, `${nameOf(operand)} has no ${field}`);
  const type = Object.hasOwn(operand.record, field) ? operand.record[field] : undefined;
  if (type === undefined) throw new TypeFault(id, `there is no ${field} here, only ${Object.keys(operand.record).join(', ')}`);
  return isTest ? 'bool' : type;
}

function callType(env: CelEnv, id: bigint, name: string, target: Type | undefined, args: readonly Type[]): Type {
  const [first = 'dyn', second = 'dyn', third = 'dyn'] = args;
  const isLogic = name === '_&&_' || name === '_||_';
  if (isLogic || name === '_?_:_') {
    for (const part of isLogic ? args : [first])
      if (!fits('bool', part)) throw new TypeFault(id, `true or false is needed here, not ${nameOf(part)}`);
    return isLogic ? 'bool' : commonType([second, third]);
  }
  if (name === '@not_strictly_false') return 'bool';
  if (name === '_[_]') {
    if (typeof first === 'object' && 'list' in first && fits('int', second)) return first.list;
    if (typeof first === 'object' && 'map' in first) return first.map;
    if (first === 'dyn' || (typeof first === 'object' && 'record' in first)) return 'dyn';
    throw new TypeFault(id, `${nameOf(first)} has no elements [${nameOf(second)}]`);
  }
  const numbers = ['int', 'uint', 'double'];
  const areNumbers = [first, second].every((type) => typeof type === 'string' && numbers.includes(type));
  if ((name === '_==_' || name === '_!=_') && !areNumbers && !fits(first, second) && !fits(second, first))
    throw new TypeFault(id, `${nameOf(first)} and ${nameOf(second)} are never the same`);
  const element = typeof second === 'object' && 'list' in second ? second.list : undefined;
  if (name === '@in' && element !== undefined && !fits(element, first) && !fits(first, element))
    throw new TypeFault(id, `${nameOf(first)} is never in a list of ${nameOf(element)}`);
  const forms = [...(env.funcs.find(name) ?? [])];
  if (forms.length === 0) throw new TypeFault(id, `there is no function ${name}`);
  const results = forms
    .filter((form) => (form.target === undefined) === (target === undefined) && form.arguments.length === args.length)
    .filter((form) => form.target === undefined || fits(fromCel(form.target), target ?? 'dyn'))
    .filter((form) => form.arguments.every((wanted, at) => fits(fromCel(wanted), args[at] ?? 'dyn')))
    .map((form) => fromCel(form.result));
  if (results.length === 0) {
    const given = `(${args.map(nameOf).join(', ')})`;
    throw new TypeFault(id, `${name.replaceAll(/[_@]/g, '')} does not take ${target === undefined ? '' : `${nameOf(target)}.`}${given}`);
  }
  return commonType(results);
}

function fits(wanted: Type, given: Type): boolean {
  if (wanted === 'dyn' || given === 'dyn') return true;
  if (typeof wanted === 'string' || typeof given === 'string') return wanted === given;
  if ('list' in wanted) return 'list' in given && fits(wanted.list, given.list);
  if ('map' in wanted || 'record' in wanted) return 'map' in given || 'record' in given;
  return 'object' in given && wanted.object === given.object;
}

function commonType(types: readonly Type[]): Type {
  const [first = 'dyn', ...rest] = types;
  return rest.every((type) => JSON.stringify(type) === JSON.stringify(first)) ? first : 'dyn';
}

function fromCel(type: CelType): Type {
  switch (type.kind) {
    case 'list':
      return { list: fromCel(type.element) };
    case 'map':
      return { map: fromCel(type.value) };
    case 'object':
      return { object: type.name };
    case 'scalar':
      return type.scalar;
  }
}

export function nameOf(type: Type): string {
  if (typeof type === 'string') return type === 'dyn' ? 'something' : `a ${type.replace('_type', '')}`;
  if ('object' in type) return type.object;
  return 'list' in type ? 'a list' : 'a map';
}
