// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** `npm run bench -- [options]`: the same work on this registry and its peers, alternated, and one table of medians. README.md explains. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import { dockerRegistry, haRegistry } from './launches.js';
import { loadWithAutocannon, loadWithSockets, loadWithWrk, wrkInstalled } from './load-client.js';
import { measure, medianSample, type Sample, type Target, targetOf } from './measure.js';
import { Server } from './servers.js';
import { figure, renderTable } from './table.js';
import { fullScale, listWorks, quickScale, type Work } from './works.js';

const { values } = parseArgs({
  options: {
    peer: { type: 'string', multiple: true },
    'peer-pid': { type: 'string', multiple: true },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
    quick: { type: 'boolean', default: false },
    root: { type: 'string', default: tmpdir() },
    engine: { type: 'string', default: 'uws' },
    client: { type: 'string', default: 'autocannon' },
    'cpu-prof': { type: 'string' },
    json: { type: 'string' },
  },
});
const { peer: peers = [], 'peer-pid': peerPids = [] } = values;

interface Row {
  readonly work: Work;
  readonly target: string;
  readonly rounds: readonly Sample[];
  readonly median: Sample;
}

const head = ['work', 'registry', 'client', 'rate', 'p50 ms', 'p99 ms', 'errors', 'CPU s', 'Postgres s', 'CPU per unit', 'peak MiB'];
process.exitCode = await main();

async function main(): Promise<number> {
  const works = chooseWorks();
  mkdirSync(values.root, { recursive: true });
  const nodeArguments = values['cpu-prof'] === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', values['cpu-prof']];
  const servers = [await Server.start('ha-registry', values.root, haRegistry({ engine: values.engine, nodeArguments }))];
  try {
    if (peers.includes('debian')) servers.push(await Server.start('debian', values.root, dockerRegistry));
    const targets = [...servers.map(targetOf), ...peers.filter((peer) => peer !== 'debian').map(remoteTarget)];
    const rows: Row[] = [];
    for (const work of works) rows.push(...(await runWork(work, targets)));
    print(rows, targets);
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ options: values, rows }, undefined, 2)}\n`);
    return rows.some(({ median }) => median.errors > 0) ? 1 : 0;
  } finally {
    for (const server of servers) await server.stop();
  }
}

function chooseWorks(): Work[] {
  if (values.client === 'wrk' && !wrkInstalled()) throw new Error('wrk is not installed; leave --client out to measure with autocannon');
  const load = values.client === 'wrk' ? loadWithWrk : loadWithAutocannon;
  const scale = {
    ...(values.quick ? quickScale : fullScale),
    load,
    bodyLoad: values.client === 'wrk' ? loadWithWrk : loadWithSockets('GET'),
  };
  const works = listWorks(scale);
  const names = values.only?.split(',') ?? works.map(({ name }) => name);
  const unknown = names.filter((name) => !works.some((work) => work.name === name));
  if (unknown.length > 0) throw new Error(`no such work: ${unknown.join(', ')}; there are ${works.map(({ name }) => name).join(', ')}`);
  return works.filter(({ name }) => names.includes(name));
}

/** `NAME=URL`, and its pid if `--peer-pid NAME=PID` is given. */
function remoteTarget(peer: string): Target {
  const [name, url] = splitOnce(peer);
  const { hostname, port } = new URL(url);
  const pid = peerPids.map(splitOnce).find(([named]) => named === name)?.[1];
  return { name, address: { host: hostname, port: Number(port || 80) }, pid: pid === undefined ? undefined : Number(pid) };
}

function splitOnce(pair: string): [string, string] {
  const at = pair.indexOf('=');
  if (at < 1) throw new Error(`expected NAME=VALUE, not ${pair}`);
  return [pair.slice(0, at), pair.slice(at + 1)];
}

/** A B A B: within each round every target does the work once. */
async function runWork(work: Work, targets: readonly Target[]): Promise<Row[]> {
  const samples = new Map<Target, Sample[]>(targets.map((target) => [target, []]));
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const [target, taken] of samples) {
      if (work.heavy) await target.renew?.();
      const sample = await measure(target, await work.prepare(target));
      taken.push(sample);
      console.error(`${work.name} ${target.name} round ${round}: ${rateOf(work, sample)}, ${sample.errors} errors`);
      if (sample.errors > 0) console.error(target.lastWords?.());
    }
  }
  return [...samples].map(([target, rounds]) => ({ work, target: target.name, rounds, median: medianSample(rounds) }));
}

function print(rows: readonly Row[], targets: readonly Target[]): void {
  const lines = rows.flatMap((row) => {
    const ours = rows.find(({ work, target }) => work === row.work && target === targets[0]?.name);
    return ours === undefined || ours === row ? [cellsOf(row)] : [cellsOf(row), ratioCells(ours, row)];
  });
  console.log(`${values.rounds} rounds, medians; CPU s and peak MiB are the server's; ratios are ours/peer; engine ${values.engine}`);
  console.log(renderTable(head, lines));
}

function cellsOf({ work, target, median: m }: Row): string[] {
  const cpu = work.unit === 'byte' ? `${figure(cpuPerUnit(work, m))} s/GB` : `${figure(cpuPerUnit(work, m))} us`;
  const latencies = [figure(m.p50), figure(m.p99)];
  return [
    work.name,
    target,
    m.client,
    rateOf(work, m),
    ...latencies,
    String(m.errors),
    figure(m.serverCpu),
    figure(m.postgresCpu),
    cpu,
    figure(m.peakRss),
  ];
}

/** CPU per unit is that of server and Postgres together. */
function ratioCells({ work, median: a }: Row, { target, median: b }: Row): string[] {
  const times = [ratio(a.amount / a.seconds, b.amount / b.seconds), ratio(a.p50, b.p50), ratio(a.p99, b.p99)];
  return ['', `ours/${target}`, '', ...times, '', '', '', ratio(cpuPerUnit(work, a), cpuPerUnit(work, b)), ratio(a.peakRss, b.peakRss)];
}

function ratio(ours: number, theirs: number): string {
  return `${figure(ours / theirs)}x`;
}

function rateOf(work: Work, { amount, seconds }: Sample): string {
  return work.unit === 'byte' ? `${figure(amount / seconds / 1e6)} MB/s` : `${figure(amount / seconds)} /s`;
}

function cpuPerUnit(work: Work, { amount, serverCpu, postgresCpu }: Sample): number {
  return ((serverCpu + postgresCpu) / amount) * (work.unit === 'byte' ? 1e9 : 1e6);
}
