// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Chains of certificates that tokens bring along: who may sign, and who only has the name of one who may. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { keyOfChain } from '../../src/access/token/certificate-chain.js';
import { run } from '../support/command.js';
import { temporaryDirectory } from '../support/registry.js';

const directory = await temporaryDirectory('chains-');
const file = (name: string): string => path.join(directory, name);

/** Without the identifier of who signed it, so that a name is all that leads from one to the next. */
async function make(name: string, subject: string, isAuthority: boolean, by?: string): Promise<X509Certificate> {
  const signer = by === undefined ? [] : ['-CA', file(`${by}.crt`), '-CAkey', file(`${by}.key`)];
  const extensions = [
    `basicConstraints=critical,CA:${isAuthority ? 'TRUE' : 'FALSE'}`,
    'subjectKeyIdentifier=hash',
    'authorityKeyIdentifier=none',
  ];
  const request = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${subject}`,
  ];
  const more = extensions.flatMap((extension) => ['-addext', extension]);
  await run('openssl', [...request, '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`), ...signer, ...more]);
  return new X509Certificate(await readFile(file(`${name}.crt`)));
}

void t.test('chains', async (t) => {
  const root = await make('root', 'root', true);
  const server = await make('server', 'server', false, 'root');
  const step = await make('step', 'step', true, 'root');
  const ofServer = await make('of-server', 'signer', false, 'server');
  const ofStep = await make('of-step', 'signer', false, 'step');
  await make('false-root', 'root', true);
  const ofFalseRoot = await make('of-false-root', 'signer', false, 'false-root');
  await make('false-step', 'step', true, 'root');
  const ofFalseStep = await make('of-false-step', 'signer', false, 'false-step');
  const now = Date.now();
  const isGood = (chain: readonly X509Certificate[], atMs = now): boolean =>
    keyOfChain(
      chain.map(({ raw }) => raw.toString('base64')),
      [root],
      atMs,
    ) !== undefined;
  t.ok(isGood([server]) && isGood([ofStep, step]), 'signed by the root, or by what it signed');
  t.notOk(isGood([ofServer, server]), 'not by who may not sign');
  t.notOk(isGood([ofFalseRoot]), 'not by another one of the name of the root');
  t.notOk(isGood([ofFalseStep, step]), 'nor of the name of the step');
  const days = 86_400_000;
  t.notOk(isGood([ofStep, step], now + 3 * days), 'not any more');
  t.notOk(isGood([ofStep, step], now - 3 * days), 'not yet');
});
