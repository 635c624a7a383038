// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The real program with a configuration file that changes while it runs. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Test } from 'tap';
import { spawnTracked } from './command.js';
import { freshDatabase } from './postgres.js';
import { main } from './program.js';
import { freePort, temporaryDirectory } from './registry.js';
import { until, type Engine, type Settings } from './wire-suite.js';

export interface ConfiguredNode {
  readonly port: number;
  readonly pid: number;
  readonly configFile: string;
  /** All it wrote to standard output and error. */
  log(): string;
  /** Writes the file, sends SIGHUP, and waits for what the node says to it. */
  reload(settings: Settings): Promise<'taken' | 'refused'>;
  /** Text that may be no configuration. */
  reloadText(text: string): Promise<'taken' | 'refused'>;
}

/** Of a machine that does much else. */
const startLimitMs = 120_000;

/** Stopped when the test ends, and then it must exit with 0. Ready is what its log says, as over TLS not everybody may ask. */
export async function startConfigured(t: Test, engine: Engine, settings: Settings): Promise<ConfiguredNode> {
  const directory = await temporaryDirectory('configured-');
  const configFile = path.join(directory, 'registry.yaml');
  const port = await freePort();
  const { url } = await freshDatabase();
  const textOf = (changed: Settings): string => {
    const common = { database: { url }, workers: { threads: 2 }, log: { level: 'info' } };
    return JSON.stringify({ ...common, ...changed, server: { ...changed.server, engine } }, undefined, 2);
  };
  await writeFile(configFile, textOf(settings));
  const args = [main, 'serve', '--config', configFile, '--root', directory, '-p', String(port)];
  const child = spawnTracked(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => (log += piece.toString()));
  t.teardown(async () => {
    child.kill('SIGTERM');
    await until('it has stopped', () => child.exitCode !== null);
    if (child.exitCode !== 0) throw new Error(`it exited with ${child.exitCode}\n${log}`);
  });
  const listens = (): boolean => {
    if (child.exitCode !== null) throw new Error(`it has ended\n${log}`);
    return log.includes('"msg":"listening on ');
  };
  await until('it listens', listens, startLimitMs);
  const reloadText = async (text: string): Promise<'taken' | 'refused'> => {
    await writeFile(configFile, text);
    const before = log.length;
    child.kill('SIGHUP');
    return until('it tells of the reload', () => {
      const said = log.slice(before);
      return said.includes('holds from now on') ? 'taken' : said.includes('the configuration is refused') ? 'refused' : undefined;
    });
  };
  return {
    port,
    pid: child.pid ?? 0,
    configFile,
    log: () => log,
    reload: (changed) => reloadText(textOf(changed)),
    reloadText,
  };
}
