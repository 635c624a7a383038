// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Opens the audit log as it is configured. */
import type { ClientAddress } from '../http/client-address.js';
import type { Metrics } from '../observe/metrics.js';
import { openAuditTrail, type AuditedGrants, type AuditTrail } from './audit-trail.js';
import { openAuditFile, standardOutput } from './line-targets.js';
import { LineWriter } from './line-writer.js';

export interface AuditSettings {
  readonly file?: string | undefined;
  readonly stdout: boolean;
  readonly grants: AuditedGrants;
}

export interface Audit extends AuditTrail {
  close(): Promise<void>;
}

/** Undefined where none is wanted. Rejects where the file cannot be opened. */
export async function openAudit(
  { file, stdout, grants }: AuditSettings,
  addressOf: ClientAddress,
  metrics: Metrics,
  onProblem: (line: string, error: unknown) => void,
): Promise<Audit | undefined> {
  if (file === undefined && !stdout) return undefined;
  const targets = stdout ? [standardOutput] : [];
  if (file !== undefined) {
    targets.push(
      await openAuditFile(file).catch((error: unknown) => {
        throw new Error(`the audit log cannot be opened (audit.file): ${(error as Error).message}`, { cause: error });
      }),
    );
  }
  const writers = targets.map(
    (target) =>
      new LineWriter(target, (error) => onProblem('the audit log cannot be written; its lines wait in memory, and the oldest stay', error)),
  );
  const sum = (read: (writer: LineWriter) => number) => () => writers.reduce((total, writer) => total + read(writer), 0);
  metrics.count(
    'registry_audit_lines_total',
    'Lines of the audit log.',
    sum(({ taken }) => taken),
  );
  metrics.count(
    'registry_audit_lost_lines_total',
    'Lines that the audit log has lost, since they could not be written for long.',
    sum(({ lost }) => lost),
  );
  return {
    ...openAuditTrail(writers, grants, addressOf),
    async close() {
      for (const writer of writers) await writer.close();
    },
  };
}
