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
  /** It was asked to end, and answers what it has taken. */
  draining: boolean;
}

/** Whatever takes requests: one node, or several. */
export interface Answering {
  /** Waits for a node to be up. `in doubt` when it was killed before it answered. Any 5xx, and any connection lost without a kill, is a failure of the drill. */
  request(method: string, target: string, message?: Message, onSend?: (life: number) => void): Promise<Answer | 'in doubt'>;
}

let lives = 0;

export class DrilledNode implements Answering {
  readonly root: string;
  readonly port: number;
  /** From the start of the process to its first answer. */
  readonly restartsMs: number[] = [];
  readonly failures: string[];
  kills = 0;
  private readonly settings: object;
  private registry: RunningRegistry | undefined;
  private life: Life | undefined;
  private waiting: (() => void)[] = [];

  private constructor(root: string, port: number, settings: object, failures: string[]) {
    this.root = root;
    this.port = port;
    this.settings = settings;
    this.failures = failures;
  }

  static async prepare(settings: object, failures: string[], root?: string): Promise<DrilledNode> {
    return new DrilledNode(root ?? (await temporaryDirectory('drill-')), await freePort(), settings, failures);
  }

  /** Starts the node; `onReady` is told the number of its life before the first request is sent. */
  async start(more: object = {}, onReady: (life: number) => void = () => undefined): Promise<void> {
    const since = performance.now();
    const config = { ...this.settings, ...more };
    this.registry = await startRegistry({ root: this.root, port: this.port, config, readyTimeoutMs: startWithinMs });
    this.restartsMs.push(performance.now() - since);
    const number = ++lives;
    onReady(number);
    this.life = { number, agent: new Agent({ keepAlive: true, maxSockets: connections }), draining: false };
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  /** At the given moment, with nothing done between it and the signal. */
  async kill(moment?: Promise<unknown>): Promise<void> {
    const { registry, life } = this;
    if (registry === undefined) return;
    const left = descendants(registry.pid);
    await moment;
    this.life = undefined;
    this.registry = undefined;
    this.kills++;
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

  /** With SIGTERM, as an operator does: it takes no more requests, and those under way must be answered. */
  async stop(): Promise<void> {
    const { life } = this;
    this.life = undefined;
    if (life !== undefined) life.draining = true;
    const code = await this.registry?.stop();
    this.registry = undefined;
    life?.agent.destroy();
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

  async request(
    method: string,
    target: string,
    message?: Message,
    onSend: (life: number) => void = () => undefined,
  ): Promise<Answer | 'in doubt'> {
    for (;;) {
      await this.untilUp();
      const result = await this.attempt(method, target, message, onSend);
      if (result !== 'not sent') return result;
    }
  }

  get isUp(): boolean {
    return this.life !== undefined;
  }

  async untilUp(): Promise<void> {
    while (this.life === undefined) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  /** Sends the request once, if the node is up. */
  async attempt(
    method: string,
    target: string,
    message?: Message,
    onSend: (life: number) => void = () => undefined,
  ): Promise<Answer | 'in doubt' | 'not sent'> {
    const { life } = this;
    if (life === undefined) return 'not sent';
    onSend(life.number);
    const result = await exchange({ port: this.port, agent: life.agent }, method, target, message);
    if ('status' in result) {
      if (result.status >= 500) this.failures.push(`${method} ${target}: ${result.status} ${result.body.toString().slice(0, 200)}`);
      return result;
    }
    // Who was asked to end refuses connections, and closes idle ones.
    const closed = life.draining && (!result.sent || result.reused);
    if (!closed && !(await this.wasKilled(life))) this.failures.push(`${method} ${target}: no answer without a kill: ${result.reason}`);
    return result.sent ? 'in doubt' : 'not sent';
  }

  /** A socket may break a moment before this process knows that the kill is done. */
  private async wasKilled(life: Life): Promise<boolean> {
    for (let tries = 0; tries < 20 && this.life === life; tries++) await sleep(25);
    return this.life !== life && !life.draining;
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
