// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** HAProxy before the nodes: it asks each for its readiness, and passes connections to those that are ready. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTracked } from '../support/command.js';
import { freePort, temporaryDirectory } from '../support/registry.js';

export interface Balancer {
  readonly port: number;
  log(): string;
  stop(): Promise<void>;
}

/** As bytes (`mode tcp`): whether a connection breaks is the node's doing then, and nothing else's. */
export async function startBalancer(program: string, ports: readonly number[]): Promise<Balancer> {
  const port = await freePort();
  const file = path.join(await temporaryDirectory('balancer-'), 'haproxy.cfg');
  await writeFile(
    file,
    `defaults
  mode tcp
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout check 1500ms
  option redispatch 1
  retries 3
frontend registry
  bind 127.0.0.1:${port}
  default_backend nodes
backend nodes
  balance roundrobin
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host registry hdr Connection close
  default-server check inter 250ms fall 2 rise 2 on-marked-down shutdown-sessions
${ports.map((node, index) => `  server node${index} 127.0.0.1:${node}`).join('\n')}
`,
  );
  const child = spawnTracked(program, ['-db', '-f', file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const said: Buffer[] = [];
  child.stdout?.on('data', (piece: Buffer) => said.push(piece));
  child.stderr?.on('data', (piece: Buffer) => said.push(piece));
  const exited = once(child, 'exit');
  for (let tries = 0; ; tries++) {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
    if (answer?.status === 200) break;
    if (tries > 400 || child.exitCode !== null) throw new Error(`HAProxy did not start: ${Buffer.concat(said).toString()}`);
    await sleep(25);
  }
  return {
    port,
    log: () => Buffer.concat(said).toString(),
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}
