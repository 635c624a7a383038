// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Starts a registry as a process of its own: what `npm run build` made, or any other one by `launch`. */
import type { ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, statfs, writeFile } from 'node:fs/promises';
import { rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { constants, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { atExit, killAtExit, spawnTracked } from './command.js';
import { descendants, killMarked, type ProcessMark } from './orphans.js';

export interface RegistryOptions {
  /** Further arguments of `serve`. */
  readonly args?: readonly string[];
  /** Arguments of Node itself. */
  readonly nodeArguments?: readonly string[];
  /** Settings, written to a file that is passed by `--config`. */
  readonly config?: object;
  /** The data directory. Without it a new one is made, and removed when this process exits. */
  readonly root?: string;
  /** Without it any free port is taken. */
  readonly port?: number;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Another program than `node dist/main.js serve`, for example docker-registry or an older build. */
  readonly launch?: (place: Place) => Launch | Promise<Launch>;
  /** Answers 200 when the registry can be used. */
  readonly readyPath?: string;
  readonly readyTimeoutMs?: number;
  /** It speaks TLS, with a certificate of this authority (PEM). */
  readonly ca?: string;
}

export interface Place {
  readonly root: string;
  readonly port: number;
  readonly configFile: string | undefined;
}

export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
}

export interface RunningRegistry {
  /** `http://127.0.0.1:<port>`, or `https`, without a slash at the end. */
  readonly url: string;
  /** `127.0.0.1:<port>`, as image names have it. */
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  readonly root: string;
  /** SIGTERM, then waits for the end. A registry that has not ended after `timeoutMs` is killed, and the promise rejects. */
  readonly stop: (timeoutMs?: number) => Promise<number>;
  /** SIGKILL to the process alone, as a crash would be. What it leaves running (a database) is killed when this process exits. */
  readonly kill: () => Promise<void>;
  /** All it wrote to standard output and error. */
  readonly log: () => string;
}

export async function startRegistry(options: RegistryOptions = {}): Promise<RunningRegistry> {
  const root = options.root ?? (await temporaryDirectory('registry-'));
  const configFile = options.config === undefined ? undefined : await writeConfig(options.config);
  for (let triesLeft = options.port === undefined ? 3 : 1; ; triesLeft--) {
    const port = options.port ?? (await freePort());
    try {
      return await startOnce({ root, port, configFile }, options);
    } catch (error) {
      // Another process may have taken the free port meanwhile.
      if (triesLeft === 1 || !(error instanceof Error && /EADDRINUSE|address already in use/i.test(error.message))) throw error;
    }
  }
}

/** A new directory that is removed when this process exits. */
export async function temporaryDirectory(prefix: string): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), `ha-registry-${prefix}`));
  atExit(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
  return directory;
}

/** In memory where there is enough of it: thousands of small files are synced here, and what a sync is worth is tested elsewhere. */
export async function quickDirectory(prefix: string): Promise<string> {
  const memory = '/dev/shm';
  const room = await statfs(memory).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => 0,
  );
  if (room < roomBytes) return temporaryDirectory(prefix);
  const directory = await mkdtemp(path.join(memory, `ha-registry-${prefix}`));
  atExit(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
  return directory;
}

const roomBytes = 2 * 1024 * 1024 * 1024;

/** A port of the loopback address that nobody listens on, and that no other test is given while this process lives. */
export async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    if (await reserve(port)) return port;
  }
}

/** By a datagram socket, which is in nobody's way. */
async function reserve(port: number): Promise<boolean> {
  const socket = createSocket('udp4');
  try {
    socket.bind({ port, address: '127.0.0.1', exclusive: true });
    await once(socket, 'listening');
    socket.unref();
    return true;
  } catch {
    socket.close();
    return false;
  }
}

async function startOnce(place: Place, options: RegistryOptions): Promise<RunningRegistry> {
  const { command, args } = await (options.launch ?? ((at) => launchBuild(at, options)))(place);
  const child = spawnTracked(command, args, { env: { ...process.env, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  child.stdout?.on('data', (piece: Buffer) => output.push(piece));
  child.stderr?.on('data', (piece: Buffer) => output.push(piece));
  const log = () => Buffer.concat(output).toString();
  const exited = exitOf(child);
  const kill = async (): Promise<ProcessMark[]> => {
    const left = child.pid === undefined ? [] : descendants(child.pid);
    child.kill('SIGKILL');
    await exited;
    return left;
  };
  const url = `${options.ca === undefined ? 'http' : 'https'}://127.0.0.1:${place.port}`;
  try {
    await untilReady(() => statusOf(url + (options.readyPath ?? '/readyz'), options.ca), exited, options.readyTimeoutMs ?? 120_000);
  } catch (error) {
    killMarked(await kill());
    throw new Error(`${[command, ...args].join(' ')}\n${error instanceof Error ? error.message : String(error)}\n${log()}`, {
      cause: error,
    });
  }
  return {
    url,
    host: `127.0.0.1:${place.port}`,
    port: place.port,
    pid: child.pid ?? 0,
    root: place.root,
    log,
    async kill() {
      killAtExit(await kill());
    },
    async stop(timeoutMs = 60_000) {
      child.kill('SIGTERM');
      const code = await Promise.race([exited, sleep(timeoutMs, undefined, { ref: false })]);
      if (code !== undefined) return code;
      killMarked(await kill());
      throw new Error(`the registry did not stop within ${timeoutMs} ms\n${log()}`);
    },
  };
}

function launchBuild({ root, port, configFile }: Place, { args = [], nodeArguments = [] }: RegistryOptions): Launch {
  const config = configFile === undefined ? [] : ['--config', configFile];
  const main = path.resolve(import.meta.dirname, '../../dist/main.js');
  return { command: process.execPath, args: [...nodeArguments, main, 'serve', '--root', root, '-p', String(port), ...config, ...args] };
}

async function writeConfig(config: object): Promise<string> {
  const file = path.join(await temporaryDirectory('config-'), 'registry.yaml');
  await writeFile(file, JSON.stringify(config, undefined, 2)); // JSON is YAML.
  return file;
}

/** The exit code; as a shell tells it (128 + n) when a signal ended the process. */
function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    child.once('error', () => resolve(127));
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
  });
}

async function untilReady(ask: () => Promise<number>, exited: Promise<number>, timeoutMs: number): Promise<void> {
  let ended: number | undefined;
  void exited.then((code) => (ended = code));
  const deadline = Date.now() + timeoutMs;
  for (let last = 'nothing asked'; ; await sleep(25)) {
    if (ended !== undefined) throw new Error(`exited with ${ended} before it was ready`);
    if (Date.now() > deadline) throw new Error(`not ready after ${timeoutMs} ms: ${last}`);
    try {
      const status = await ask();
      if (status === 200) return;
      last = `status ${status}`;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
  }
}

async function statusOf(url: string, ca: string | undefined): Promise<number> {
  const signal = AbortSignal.timeout(5_000);
  if (ca === undefined) {
    const { status, body } = await fetch(url, { signal });
    await body?.cancel();
    return status;
  }
  const [response] = (await once(get(url, { ca, signal }), 'response')) as [IncomingMessage];
  response.resume();
  return response.statusCode ?? 0;
}
