// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** A node that is killed and started again and again, and a client of it that knows when. */
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTracked } from '../support/command.js';
import { descendants, type ProcessMark } from '../support/orphans.js';
import { freePort, startRegistry, temporaryDirectory, type RunningRegistry } from '../support/registry.js';
import { exchange, type Answer, type Message } from './http-client.js';

const connections = 32;
const startWithinMs = 60_000;

interface Life {
  readonly number: number;
  readonly agent: Agent;
}

export class DrilledNode {
  readonly root: string;
  readonly port: number;
  /** From the start of the process to its first answer. */
  readonly restartsMs: number[] = [];
  readonly failures: string[];
  kills = 0;
  private readonly settings: object;
  private registry: RunningRegistry | undefined;
  private life: Life | undefined;
  private lives = 0;
  private waiting: (() => void)[] = [];

  private constructor(root: string, port: number, settings: object, failures: string[]) {
    this.root = root;
    this.port = port;
    this.settings = settings;
    this.failures = failures;
  }

  static async prepare(settings: object, failures: string[]): Promise<DrilledNode> {
    return new DrilledNode(await temporaryDirectory('drill-'), await freePort(), settings, failures);
  }

  /** Starts the node; `onReady` runs before the first request is sent. Returns the number of its life. */
  async start(more: object = {}, onReady: (life: number) => void = () => undefined): Promise<void> {
    const since = performance.now();
    const config = { ...this.settings, ...more };
    this.registry = await startRegistry({ root: this.root, port: this.port, config, readyTimeoutMs: startWithinMs });
    this.restartsMs.push(performance.now() - since);
    const number = ++this.lives;
    onReady(number);
    this.life = { number, agent: new Agent({ keepAlive: true, maxSockets: connections }) };
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  async kill(): Promise<void> {
    const { registry, life } = this;
    if (registry === undefined) return;
    this.life = undefined;
    this.kills++;
    const left = descendants(registry.pid);
    await registry.kill();
    life?.agent.destroy();
    this.leftBehind.push(...left);
  }

  /** A start that is killed before, or just when, it is ready. */
  async killWhileStarting(afterMs: number): Promise<void> {
    const main = path.resolve(import.meta.dirname, '../../dist/main.js');
    const child = spawnTracked(process.execPath, [main, 'serve', '--root', this.root, '-p', String(this.port)], { stdio: 'ignore' });
    const exited = once(child, 'exit');
    await sleep(afterMs);
    if (child.pid !== undefined) this.leftBehind.push(...descendants(child.pid));
    if (child.exitCode !== null) this.failures.push(`a start ended by itself with ${child.exitCode}`);
    child.kill('SIGKILL');
    await exited;
    this.kills++;
  }

  /** With SIGTERM, as an operator does. */
  async stop(): Promise<void> {
    this.life?.agent.destroy();
    this.life = undefined;
    const code = await this.registry?.stop();
    if (code !== 0) this.failures.push(`SIGTERM: the node ended with ${code}`);
  }

  log(): string {
    return this.registry?.log() ?? '';
  }

  /** Nothing that a killed node had started may run any more, and exactly one Postgres serves the directory. */
  checkProcesses(): void {
    const alive = this.leftBehind.splice(0).filter(isAlive);
    if (alive.length > 0)
      this.failures.push(`${alive.length} processes of a killed node still run: ${alive.map(({ pid }) => pid).join(' ')}`);
    const servers = postmasters(this.root);
    if (servers.length !== 1) this.failures.push(`${servers.length} Postgres servers run on ${this.root}: ${servers.join(' ')}`);
  }
  private readonly leftBehind: ProcessMark[] = [];

  /** Waits for the node to be up. `in doubt` when it was killed before it answered. Any 5xx, and any connection lost without a kill, is a failure of the drill. */
  async request(
    method: string,
    target: string,
    message?: Message,
    onSend: (life: number) => void = () => undefined,
  ): Promise<Answer | 'in doubt'> {
    for (;;) {
      const life = await this.untilUp();
      onSend(life.number);
      const result = await exchange({ port: this.port, agent: life.agent }, method, target, message);
      if ('status' in result) {
        if (result.status >= 500) this.failures.push(`${method} ${target}: ${result.status} ${result.body.toString().slice(0, 200)}`);
        return result;
      }
      if (!(await this.wasKilled(life))) this.failures.push(`${method} ${target}: no answer without a kill: ${result.reason}`);
      if (result.sent) return 'in doubt';
    }
  }

  private async untilUp(): Promise<Life> {
    while (this.life === undefined) await new Promise<void>((resolve) => this.waiting.push(resolve));
    return this.life;
  }

  /** A socket may break a moment before this process knows that the kill is done. */
  private async wasKilled(life: Life): Promise<boolean> {
    for (let tries = 0; tries < 20 && this.life === life; tries++) await sleep(25);
    return this.life !== life;
  }
}

function isAlive({ pid, startTime }: ProcessMark): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[19] === startTime && fields[0] !== 'Z';
  } catch {
    return false;
  }
}

/** Postgres servers that were started on a directory. A child of one has the same command line for a moment after its fork. */
function postmasters(root: string): string[] {
  if (!existsSync('/proc')) return ['unknown'];
  const cluster = path.join(root, 'postgres', 'cluster');
  const found = readdirSync('/proc').filter((name) => {
    const [program = '', ...args] = readProcess(name, 'cmdline').split('\0');
    return program.endsWith('postgres') && args.includes(cluster);
  });
  return found.filter((name) => !found.includes(/^PPid:\s*(\d+)$/m.exec(readProcess(name, 'status'))?.[1] ?? ''));
}

function readProcess(pid: string, file: 'cmdline' | 'status'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
