// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import { destination, pino, type Logger } from 'pino';

export type Log = Logger;

/** JSON lines on stdout, written at once, so that the last words of a process that ends are not lost. */
export function openLog(level: string): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
    },
    destination({ dest: 1, sync: true }),
  );
}

/** What is told of an error: not every property, since clients of databases and stores hang requests with their credentials on theirs. */
const toldProperties = ['code', 'errno', 'syscall', 'status', 'severity', 'constraint', 'table', 'where', 'hint'] as const;
const deepestCause = 5;

function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return withoutSecrets(String(error));
  const told: Record<string, unknown> = {
    type: error.name,
    message: withoutSecrets(error.message),
    stack: withoutSecrets(error.stack ?? ''),
  };
  for (const name of toldProperties) {
    const value = (error as unknown as Record<string, unknown>)[name];
    if (typeof value === 'string' || typeof value === 'number') told[name] = value;
  }
  if (error.cause !== undefined && depth < deepestCause) told['cause'] = describeError(error.cause, depth + 1);
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
