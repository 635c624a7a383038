// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The tree that a policy is parsed into, as far as questions about it go. */
import type { parse } from '@bufbuild/cel';

export type Expression = NonNullable<ReturnType<typeof parse>['expr']>;

/** The expression, and all that it is made of; what is outside comes before what is inside. */
export function* partsOf(expression: Expression | undefined): Generator<Expression> {
  if (expression === undefined) return;
  yield expression;
  for (const part of directParts(expression)) yield* partsOf(part);
}

function directParts({ exprKind }: Expression): (Expression | undefined)[] {
  switch (exprKind.case) {
    case 'selectExpr':
      return [exprKind.value.operand];
    case 'listExpr':
      return exprKind.value.elements;
    case 'structExpr':
      return exprKind.value.entries.flatMap(({ keyKind, value }) => [keyKind.case === 'mapKey' ? keyKind.value : undefined, value]);
    case 'callExpr':
      return [exprKind.value.target, ...exprKind.value.args];
    case 'comprehensionExpr': {
      const { accuInit, iterRange, loopCondition, loopStep, result } = exprKind.value;
      return [accuInit, iterRange, loopCondition, loopStep, result];
    }
    case 'constExpr':
    case 'identExpr':
    case undefined:
      return [];
  }
}

/** `action` of `request.action`. */
export function requestPartOf(expression: Expression | undefined): string | undefined {
  const { exprKind } = expression ?? {};
  if (exprKind?.case !== 'selectExpr') return undefined;
  const operand = exprKind.value.operand?.exprKind;
  return operand?.case === 'identExpr' && operand.value.name === 'request' ? exprKind.value.field : undefined;
}

/** Of a text that is written out. */
export function textOf({ exprKind }: Expression): string | undefined {
  if (exprKind.case !== 'constExpr' || exprKind.value.constantKind.case !== 'stringValue') return undefined;
  return exprKind.value.constantKind.value;
}
