// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The command line. Exit codes: 0 done, 1 failed, 2 the command or the configuration is wrong. */
import { parseArgs } from 'node:util';
import { UsageError, type Command } from './commands/command.js';
import { configCommand } from './commands/config.js';
import { exportCommand } from './commands/export.js';
import { gcCommand } from './commands/gc.js';
import { hashPasswordCommand } from './commands/hash-password.js';
import { importCommand } from './commands/import.js';
import { manifestCommand } from './commands/manifest.js';
import { policyCommand } from './commands/policy.js';
import { rebuildCommand } from './commands/rebuild.js';
import { scrubCommand } from './commands/scrub.js';
import { statusCommand } from './commands/status.js';
import { tagCommand } from './commands/tag.js';
import { checkFiles } from './config/check-files.js';
import { childEnvironment, ConfigurationError, loadConfig, readSupervision, type Config } from './config/config.js';
import { reasonOf } from './database/failures.js';
import { startNode, version } from './node.js';
import { openLog, type Log } from './observe/log.js';
import { StoreLost } from './storage/store-lost.js';
import { onHangUp } from './supervision/hang-up.js';
import { chooseNotify, openServiceManager, type ServiceManager } from './supervision/service-manager.js';
import { answersAt, startWatchdog } from './supervision/watchdog.js';
import { loadAddon } from './worker/addon.js';

const commands: Readonly<Record<string, Command>> = {
  gc: gcCommand,
  rebuild: rebuildCommand,
  policy: policyCommand,
  config: configCommand,
  'hash-password': hashPasswordCommand,
  scrub: scrubCommand,
  status: statusCommand,
  tag: tagCommand,
  manifest: manifestCommand,
  export: exportCommand,
  import: importCommand,
};

const usage = `ha-registry ${version}, an OCI container registry

Usage: ha-registry serve [options]
${Object.values(commands)
  .map((command) => `       ${command.usage.split('\n', 1)[0]}\n`)
  .join('')}
  --config FILE        YAML configuration; every setting has a default
  --host ADDRESS       address to listen on             (server.bind_address, 127.0.0.1)
  -p, --port PORT      port to listen on                (server.port, 5000)
  -s, --storage KIND   where blobs are kept: filesystem or s3 (storage.s3)
  --root DIR           directory for the store and the embedded database (./data)
  -h, --help           this text
  -V, --version        the version
${Object.values(commands)
  .map((command) => `\n${command.usage}`)
  .join('')}`;

const commonOptions = {
  config: { type: 'string' },
  host: { type: 'string' },
  port: { type: 'string', short: 'p' },
  storage: { type: 'string', short: 's' },
  root: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

function parseCommand(args: readonly string[]) {
  const [first, ...rest] = args;
  const name = first?.startsWith('-') === true ? undefined : first;
  const command = name !== undefined && Object.hasOwn(commands, name) ? commands[name] : undefined;
  try {
    const { values, positionals } = parseArgs({
      args: name === undefined ? [...args] : rest,
      options: { ...command?.options, ...commonOptions },
      allowPositionals: command?.arguments !== undefined,
    });
    const { least, most } = command?.arguments ?? { least: 0, most: 0 };
    if (values.help !== true && (positionals.length < least || positionals.length > most)) throw new Error('wrong number of arguments');
    return { name, command, values, positionals };
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function main(args: readonly string[]): Promise<void> {
  const { name, command, values, positionals } = parseCommand(args);
  if (values.help === true) return print(usage);
  if (values.version === true) return print(`${version}\n`);
  if (name === undefined) throw new UsageError('no command: `ha-registry serve` starts the registry');
  if (command === undefined && name !== 'serve') throw new UsageError(`unknown command ${JSON.stringify(name)}`);
  if (values.storage !== undefined && !['filesystem', 's3'].includes(values.storage))
    throw new UsageError(`unknown storage ${JSON.stringify(values.storage)}: filesystem and s3 are the ones there are`);
  const config = loadConfig(values.config, values);
  if (command === undefined) return serve(config, values.config === undefined ? undefined : () => loadConfig(values.config, values));
  const own = values as Readonly<Record<string, string | boolean | undefined>>;
  process.exitCode = await command.run({ config, version, values: own, arguments: positionals }).catch((error: unknown) => {
    if (error instanceof UsageError || error instanceof ConfigurationError) throw error;
    return fail(reasonOf(error instanceof Error && error.cause instanceof StoreLost ? error.cause : error), 1);
  });
}

/** `readAgain` is undefined where there is no file. */
async function serve(config: Config, readAgain: (() => Config) | undefined): Promise<void> {
  const warnings = await checkFiles(config);
  const log = openLog(config.log.level);
  for (const warning of warnings) log.warn(warning);
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled rejection'));
  process.on('uncaughtException', (error) => log.error({ err: error }, 'uncaught exception'));
  const service = reachServiceManager(log);
  let stopping = false;
  let starting: ReturnType<typeof startNode> | undefined;
  const stop = (reason: string, exitCode: number): void => {
    if (stopping) return;
    stopping = true;
    log.info(`${reason}: stopping`);
    const { shutdown_delay, drain_timeout } = config.server;
    service.stopping(shutdown_delay + drain_timeout + closingMs);
    const hanging = setTimeout(() => process.exit(exitCode), startingMs);
    const closed = starting?.then((node) => {
      clearTimeout(hanging);
      return node.close();
    });
    closed?.then(
      () => process.exit(exitCode),
      () => process.exit(1),
    );
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal, 0));
  let reloaded: Promise<void> = Promise.resolve();
  const reload = async (read: () => Config): Promise<void> => {
    try {
      const node = await starting;
      if (node !== undefined && !stopping) await service.reloading(Promise.resolve().then(() => node.reload(read())));
    } catch (error) {
      log.debug({ err: error }, 'reload failed');
      log.error(`the configuration is refused, and the one before goes on: ${(error as Error).message}`);
    }
  };
  // Without a file there is nothing to read again, and a terminal has gone away.
  onHangUp(() => {
    if (readAgain === undefined) stop('SIGHUP', 0);
    else reloaded = reloaded.then(() => reload(readAgain));
  });
  try {
    starting = startNode(config, log, (reason) => stop(reason, 1), service);
    const { port } = await starting;
    watch(config, port, service, () => stopping);
    if (!stopping) service.ready(`serving on port ${port}`);
  } catch (error) {
    log.debug({ err: error }, 'start failed');
    fail(describeStartFailure(config, error), 1);
  }
}

/** A start that goes on for longer after it was told to stop, such as one that waits for another node's migration, is left where it is: each of its steps stands a crash. */
const startingMs = 5_000;
/** What closing takes after the last request: the pools' connections, and an embedded Postgres that writes its checkpoint. */
const closingMs = 40_000;

function reachServiceManager(log: Log): ServiceManager {
  const onError = (error: unknown): void => log.warn({ err: error }, 'the service manager cannot be told how this node is');
  return openServiceManager(chooseNotify(readSupervision().notifySocket, loadAddon()?.notify, childEnvironment(), onError), onError);
}

function watch(config: Config, port: number, service: ServiceManager, isStopping: () => boolean): void {
  const { watchdogMs } = readSupervision();
  if (watchdogMs === undefined) return;
  const { bind_address: host, reuse_port: isShared, tls } = config.server;
  const answers = async (): Promise<boolean> => {
    // Whoever connects to a shared port may reach another node, and one that stops takes nobody any more: there, that this runs must do.
    if (isShared || isStopping()) return true;
    return answersAt({ host, port, tls: tls !== undefined }, watchdogMs / 2);
  };
  startWatchdog(watchdogMs, answers, () => service.alive());
}

function describeStartFailure(config: Config, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const { bind_address, port } = config.server;
  if (code === 'EADDRINUSE') return `cannot listen on ${bind_address}:${port}: the port is taken (server.port)`;
  return message;
}

function print(text: string): void {
  process.stdout.write(text);
}

function fail(message: string, exitCode: number): never {
  process.stderr.write(`ha-registry: ${message}\n`);
  process.exit(exitCode);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) fail(`${error.message.replaceAll(/\s*\n\s*/g, ' ')} (ha-registry --help tells what there is)`, 2);
  if (error instanceof ConfigurationError) fail(error.message, 2);
  fail(error instanceof Error ? (error.stack ?? error.message) : String(error), 1);
}
