#!/usr/bin/env node
// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Restarts the instances of ha-registry@.service one by one: `node systemd/rollout.mjs [options] [INSTANCE…]`, without instances all that run.
 * An instance is up when systemd says so (it waits for the node's READY=1) and its /readyz answers 200. The first that does not come up ends the roll with
 * exit code 1, and the ones after it go on with what they run.
 */
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const usage = `Usage: rollout.mjs [--ready URL] [--timeout SECONDS] [--pause SECONDS] [--systemctl PROGRAM] [INSTANCE…]

  --ready URL          asked after each restart, with the instance for %i; "none" asks nobody (http://127.0.0.1:%i/readyz)
  --timeout SECONDS    for an instance to become ready (120)
  --pause SECONDS      between two instances, for balancers to see the first one again (5)
  --systemctl PROGRAM  (systemctl)
`;

const { values, positionals } = parseArguments();
const instances = positionals.length > 0 ? positionals : listInstances();
if (instances.length === 0) fail('no instance of ha-registry@.service runs');
for (const [index, instance] of instances.entries()) {
  if (index > 0) await sleep(Number(values.pause) * 1000);
  const begin = performance.now();
  if (systemctl('restart', `ha-registry@${instance}.service`).status !== 0) fail(`${instance} did not restart; the rest is as it was`);
  const problem = values.ready === 'none' ? undefined : await untilReady(values.ready.replaceAll('%i', instance));
  if (problem !== undefined) fail(`${instance} is not ready after ${values.timeout} s: ${problem}; the rest is as it was`);
  console.log(`${instance}: ready after ${((performance.now() - begin) / 1000).toFixed(1)} s`);
}

function parseArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        ready: { type: 'string', default: 'http://127.0.0.1:%i/readyz' },
        timeout: { type: 'string', default: '120' },
        pause: { type: 'string', default: '5' },
        systemctl: { type: 'string', default: 'systemctl' },
      },
    });
  } catch (error) {
    process.stderr.write(`rollout: ${error.message}\n\n${usage}`);
    return process.exit(2);
  }
}

function listInstances() {
  const { status, stdout } = systemctl('list-units', '--plain', '--no-legend', '--state=active', 'ha-registry@*.service');
  if (status !== 0) fail('systemctl does not list the instances');
  return [...stdout.matchAll(/^ha-registry@(\S+)\.service/gm)].map(([, instance]) => instance);
}

function systemctl(...args) {
  const run = spawnSync(values.systemctl, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  if (run.error !== undefined) fail(`${values.systemctl}: ${run.error.message}`);
  return run;
}

async function untilReady(url) {
  let problem = 'no answer';
  for (const deadline = Date.now() + Number(values.timeout) * 1000; Date.now() < deadline; await sleep(200)) {
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
      await response.body?.cancel();
      if (response.status === 200) return undefined;
      problem = `status ${response.status}`;
    } catch (error) {
      problem = error.cause?.message ?? error.message;
    }
  }
  return problem;
}

function fail(message) {
  process.stderr.write(`rollout: ${message}\n`);
  process.exit(1);
}
