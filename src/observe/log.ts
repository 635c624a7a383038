// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { destination, pino, type Logger } from 'pino';

export type Log = Logger;

const errorLevel = pino.levels.values['error'] ?? 50;

/** JSON lines on stdout, written at once, so that the last words of a process that ends are not lost. */
export function openLog(level: string): Log {
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: {
        err: (error: unknown) => (error instanceof Untraced ? describeError(error.cause, false) : describeError(error, true)),
      },
      hooks: {
        // What is only a warning is about the world, and not about the place in the program that noticed.
        logMethod(args, method, number) {
          const [first] = args as unknown[];
          if (number < errorLevel && !log.isLevelEnabled('debug') && isWithError(first))
            Object.assign(args, [{ ...first, err: new Untraced(first.err) }]);
          method.apply(this, args);
        },
      },
    },
    destination({ dest: 1, sync: true }),
  );
  return log;
}

/** An error that is told without its stack. */
class Untraced {
  readonly cause: unknown;

  constructor(cause: unknown) {
    this.cause = cause;
  }
}

function isWithError(value: unknown): value is { readonly err: unknown } {
  return typeof value === 'object' && value !== null && 'err' in value && value.err !== undefined;
}

/** What is told of an error: not every property, since clients of databases and stores hang requests with their credentials on theirs. */
const toldProperties = ['code', 'errno', 'syscall', 'status', 'severity', 'constraint', 'table', 'where', 'hint'] as const;
const deepestCause = 5;

function describeError(error: unknown, hasStack: boolean, depth = 0): unknown {
  if (!(error instanceof Error)) return withoutSecrets(String(error));
  const told: Record<string, unknown> = { type: error.name, message: withoutSecrets(error.message) };
  if (hasStack) told['stack'] = withoutSecrets(error.stack ?? '');
  for (const name of toldProperties) {
    const value = (error as unknown as Record<string, unknown>)[name];
    if (typeof value === 'string' || typeof value === 'number') told[name] = value;
  }
  if (error.cause !== undefined && depth < deepestCause) told['cause'] = describeError(error.cause, hasStack, depth + 1);
  return told;
}

/** Passwords in URLs, signatures of presigned ones, and what follows Bearer, Basic or password=. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, '$1…@')
    .replaceAll(/([?&](?:x-amz-(?:signature|credential|security-token)|signature|awsaccesskeyid|token|sig)=)[^&\s"']*/gi, '$1…')
    .replaceAll(/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, '$1 …')
    .replaceAll(/\b(password|secret)=[^\s&"']+/gi, '$1=…');
}
