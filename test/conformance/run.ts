// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * The official conformance suites: `npm run conformance -- [--suite current|released] [--engine uws|node|both] [--store filesystem|s3|redirects] [--url http://…]`. On each
 * engine and store, and through two nodes of which each is given every second request, open to all and authenticated. Exits with 75 (EX_TEMPFAIL) when the suite cannot
 * be had, which is neither a pass nor a failure.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CommandFailed, run } from '../support/command.js';
import { startRegistry, temporaryDirectory } from '../support/registry.js';
import { stopS3Servers } from '../support/s3-server.js';
import { missingStore, newStore, stores, type StoreKind } from '../support/stores.js';
import { countsLine, table } from '../support/table.js';
import { findTool } from '../support/tools.js';
import { startTwoNodes } from '../support/two-nodes.js';
import type { SuiteResults } from './results.js';
import { suites, type Settings, type Suite } from './suites.js';

interface Program {
  readonly suite: Suite;
  readonly binary: string;
}

/** What the suite talks to. */
interface Place {
  /** `both` are two nodes. */
  readonly engine: string;
  readonly store: string;
  readonly suite: Readonly<Record<string, string>>;
  start(registry: object): Promise<Running>;
  urlOf(running: Running): string;
}

interface Running {
  readonly url: string;
  stop(): Promise<unknown>;
}

const notRun = 75;
const shownFailures = 25;
const shownExchangeLines = 40;

const { values: options } = parseArgs({
  options: {
    suite: { type: 'string', default: 'current' },
    engine: { type: 'string' },
    store: { type: 'string' },
    url: { type: 'string' },
  },
});
const suite = suites[options.suite];
if (suite === undefined) throw new Error(`--suite ${options.suite}: there are ${Object.keys(suites).join(' and ')}`);

const program = await findTool(suite.tool);
if ('missing' in program) {
  console.log(`NOT RUN: the official suite could not be fetched (${program.missing})`);
  console.log(countsLine({ passed: 0, failed: 0, skipped: 1 }));
  process.exit(notRun);
}

const rows = [['engine', 'store', 'settings', 'pass', 'fail', 'error', 'skip', 'disabled', 'seconds', '']];
const total = { passed: 0, failed: 0, skipped: 0 };
for (const place of await findPlaces(suite)) {
  for (const each of suite.settings) rows.push(await runSuite({ suite, binary: program.path }, place, each));
}
await stopS3Servers();
console.log(`\n${table(rows)}\n`);
console.log(countsLine(total));
process.exitCode = total.failed > 0 ? 1 : 0;

async function findPlaces({ settings }: Suite): Promise<Place[]> {
  const { url } = options;
  if (url !== undefined) {
    const start = () => Promise.resolve({ url, stop: () => Promise.resolve() });
    return [{ engine: 'as it is', store: '', suite: {}, start, urlOf: () => url }];
  }
  const chosen = stores.filter((store) => options.store === undefined || shortName(store) === options.store);
  const engines = ['uws', 'node', 'both'].filter((engine) => options.engine === undefined || engine === options.engine);
  const places: Place[] = [];
  for (const store of chosen) {
    if ((await missingStore(store)) === false) for (const engine of engines) places.push(placeOf(engine, store));
    else total.skipped += engines.length * settings.length;
  }
  return places;
}

function placeOf(engine: string, store: StoreKind): Place {
  // What comes from the store by redirect has no digest in its headers.
  const isRedirected = store === 's3 with redirects';
  const variables: Record<string, string> = isRedirected ? { OCI_API_BLOBS_DIGEST_HEADER: 'false' } : {};
  return {
    engine,
    store: shortName(store),
    suite: variables,
    start: (registry) => startPlace(engine, store, registry),
    // Go's clients bring their credentials along to another port of the same host, and no store takes them beside a signature.
    urlOf: ({ url }) => (isRedirected ? url.replace('127.0.0.1', 'localhost') : url),
  };
}

async function startPlace(engine: string, kind: StoreKind, registry: object): Promise<Running> {
  const store = await newStore(kind);
  if (engine !== 'both') return startRegistry({ root: store.root, config: { storage: store.storage, ...registry, server: { engine } } });
  const nodes = await startTwoNodes(store, registry);
  return { url: `http://127.0.0.1:${nodes.port}`, stop: () => nodes.stop() };
}

function shortName(store: StoreKind): string {
  return store.replace('s3 with ', '');
}

async function runSuite({ suite, binary }: Program, place: Place, each: Settings): Promise<string[]> {
  const begin = performance.now();
  const registry = await place.start(each.registry);
  const directory = path.join(await temporaryDirectory('conformance-'), 'results');
  await mkdir(directory);
  const unique = `team/conformance-${Date.now().toString(36)}`;
  const variables = suite.environment(place.urlOf(registry), [`${unique}/repo1`, `${unique}/repo2`], directory);
  const said = await runBinary(binary, directory, { ...variables, ...each.suite, ...place.suite });
  await registry.stop();
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const title = [place.engine, place.store, each.title];
  try {
    const results = await suite.read(directory);
    const verdict = judge(results, each);
    report(title.join(', '), results);
    total.passed += results.pass;
    total.failed += results.fail + results.error;
    total.skipped += results.skip;
    if (verdict !== 'ok' && results.fail + results.error === 0) total.failed += 1; // A wrong number of passes or skips is a failure too.
    const counts = [results.pass, results.fail, results.error, results.skip, results.disabled].map(String);
    return [...title, ...counts, seconds, verdict];
  } catch (error) {
    console.log(`${title.join(', ')}: no results: ${error instanceof Error ? error.message : String(error)}\n${said}`);
    total.failed += 1;
    return [...title, '', '', '', '', '', seconds, 'NO RESULTS'];
  }
}

/** Returns what it printed. */
async function runBinary(binary: string, directory: string, variables: Readonly<Record<string, string>>): Promise<string> {
  const inherited = Object.keys(process.env).filter((name) => name.startsWith('OCI_'));
  const env = { ...Object.fromEntries(inherited.map((name) => [name, undefined])), ...variables };
  try {
    const { stdout, stderr } = await run(binary, [], { env, cwd: directory, timeoutMs: 10 * 60_000 });
    return stdout + stderr;
  } catch (error) {
    if (error instanceof CommandFailed) return error.message; // Exits with 1 when a test failed; the results tell.
    throw error;
  }
}

function judge({ pass, fail, error, skip }: SuiteResults, { passesAtLeast }: Settings): string {
  if (fail + error > 0) return 'FAIL';
  if (skip > 0) return `FAIL: ${skip} skipped`;
  if (passesAtLeast === undefined) return pass > 0 ? 'ok' : 'FAIL: nothing ran';
  return pass >= passesAtLeast ? 'ok' : `FAIL: ${pass} passed instead of ${passesAtLeast}`;
}

function report(title: string, { notPassed, disabled }: SuiteResults): void {
  // The results tell a test that was turned off from a skipped one by number only; what was turned off says so itself.
  const shown = notPassed.filter(({ status, message }) => status !== 'skipped' || disabled === 0 || message !== '');
  for (const { name, status, message, exchanges } of shown.slice(0, shownFailures)) {
    const lines = exchanges.trim().split('\n');
    console.log(`\n${title}: ${status}: ${name}\n${message}`);
    console.log(lines.slice(-shownExchangeLines).join('\n'));
  }
  if (shown.length > shownFailures) console.log(`\n… and ${shown.length - shownFailures} more:`);
  for (const { name, status } of shown.slice(shownFailures)) console.log(`${status}: ${name}`);
}
