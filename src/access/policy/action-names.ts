// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A policy that asks for an action which there is not is never true, or always: whoever wrote it has to be told. */
import { actions, isAction } from '../actions.js';
import { partsOf, requestPartOf, textOf, type Expression } from './parts.js';
import { TypeFault } from './policy-types.js';

/** Throws TypeFault at the name that is none. */
export function checkActionNames(expression: Expression): void {
  for (const part of partsOf(expression)) {
    if (part.exprKind.case !== 'callExpr') continue;
    const { function: name, target, args } = part.exprKind.value;
    const [left, right] = args;
    if ((name === '_==_' || name === '_!=_' || name === '@in') && args.some(isActionAsked)) {
      for (const other of [left, right]) for (const element of elementsOf(other)) check(element, isAction);
    } else if (isActionAsked(target) && isTextTest(name) && left !== undefined) {
      check(left, (text) => actions.some((action) => action[name](text)));
    }
  }
}

function isActionAsked(expression: Expression | undefined): boolean {
  return requestPartOf(expression) === 'action';
}

function isTextTest(name: string): name is 'startsWith' | 'endsWith' {
  return name === 'startsWith' || name === 'endsWith';
}

function elementsOf(expression: Expression | undefined): readonly Expression[] {
  if (expression === undefined) return [];
  return expression.exprKind.case === 'listExpr' ? expression.exprKind.value.elements : [expression];
}

function check(expression: Expression, fits: (text: string) => boolean): void {
  const text = textOf(expression);
  if (text === undefined || fits(text)) return;
  throw new TypeFault(expression.id, `${JSON.stringify(text.slice(0, 60))} fits no action: there are ${actions.join(', ')}`);
}
