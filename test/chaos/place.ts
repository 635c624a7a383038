// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Where random operations happen: two nodes, their database, their store, a collector beside them, and what clients were told. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import type { Drill } from '../drills/drill.js';
import type { DrilledNode } from '../drills/drilled-node.js';
import { History } from '../drills/history.js';
import { repositories, tags } from '../drills/push-manifests.js';
import type { Random } from '../drills/random.js';
import { newReadings, type Readings } from '../drills/read-store.js';
import type { StoredObjects } from '../drills/stored-objects.js';
import { deleteTag } from '../drills/workload.js';
import { age } from '../support/ageing.js';
import { databaseState, stateDifferences } from '../support/database-state.js';
import { freshDatabase, type FreshDatabase } from '../support/postgres.js';
import { ha } from '../support/program.js';
import { HandCollector } from './hand-collector.js';
import { checkInvariants, unknownData, untilNothingPends, untilTrashIsEmpty, type Checked } from './invariants.js';
import { TwoNodes } from './two-nodes.js';

export interface PlaceOptions {
  readonly engine: string;
  /** Of the nodes: `storage`, and the same store seen from behind. */
  readonly storage: object;
  readonly objects: StoredObjects;
  readonly root: string;
}

/** What must not be, by what it speaks against. */
const noFailures = () => ({
  clients: [] as string[],
  state: [] as string[],
  collection: [] as string[],
  rebuild: [] as string[],
  nodes: [] as string[],
});

export class Place {
  readonly failures: ReturnType<typeof noFailures>;
  readonly history: History;
  readonly nodes: TwoNodes;
  private readonly options: PlaceOptions;
  private readonly settings: object;
  private readonly configFile: string;
  private database: FreshDatabase;
  private hand: HandCollector | undefined;
  private readonly read: Readings = newReadings();
  /** Data objects that only a database knew which was lost: the sweep's. */
  private orphans: ReadonlySet<string> = new Set();
  /** Crashes and restarts, one after the other. */
  private events: Promise<void> = Promise.resolve();
  private readonly lives = new Map<DrilledNode, number>();
  private readonly ended = new Set<number>();

  private constructor(
    options: PlaceOptions,
    settings: object,
    database: FreshDatabase,
    failures: ReturnType<typeof noFailures>,
    nodes: TwoNodes,
    history: History,
  ) {
    this.options = options;
    this.settings = settings;
    this.configFile = path.join(options.root, 'registry.yaml');
    this.database = database;
    this.failures = failures;
    this.nodes = nodes;
    this.history = history;
  }

  /** `onKept` is told of what clients may count on from now on. */
  static async open(options: PlaceOptions, onKept: NonNullable<ConstructorParameters<typeof History>[0]>): Promise<Place> {
    const { engine, storage, root } = options;
    // The seed says when something is collected, not the nodes. What was sent to a node before it was asked to end is answered within its delay.
    const settings = {
      server: { engine, shutdown_delay: '1s' },
      storage,
      workers: { threads: 1 },
      log: { level: 'warn' },
      gc: { interval: '1h' },
    };
    const failures = noFailures();
    const nodes = await TwoNodes.prepare(settings, failures.clients, root);
    const place = new Place(options, settings, await freshDatabase(), failures, nodes, new History(onKept));
    await place.startAll();
    return place;
  }

  get collector(): HandCollector {
    if (this.hand === undefined) throw new Error('the collector is away');
    return this.hand;
  }

  get url(): string {
    return this.database.url;
  }

  private async startAll(): Promise<void> {
    await Promise.all(this.nodes.nodes.map((node) => this.start(node)));
    await writeFile(this.configFile, JSON.stringify({ ...this.settings, database: { url: this.url } }));
    this.hand = await HandCollector.open(this.configFile, this.options.root, this.hand);
  }

  async start(node: DrilledNode): Promise<void> {
    await node.start({ database: { url: this.url } }, (life) => this.lives.set(node, life));
  }

  async kill(node: DrilledNode, moment?: Promise<unknown>): Promise<void> {
    this.readLog(node);
    await node.kill(moment);
    this.ended.add(this.lives.get(node) ?? 0);
  }

  async restart(node: DrilledNode): Promise<void> {
    await this.stop(node);
    await this.start(node);
  }

  private async stop(node: DrilledNode): Promise<void> {
    await node.stop();
    this.readLog(node);
  }

  private readLog(node: DrilledNode): void {
    const errors = node
      .log()
      .split('\n')
      .filter((line) => /"level":(50|60)/.test(line));
    this.failures.nodes.push(...errors.map((line) => line.slice(0, 400)));
  }

  /** Something that happens to nodes while operations go on, after what happens to them already. */
  happens(event: () => Promise<void>): void {
    this.events = this.events.then(event);
    // Whoever settles is told.
    this.events.catch(() => undefined);
  }

  /** Both nodes are up, and what killed ones had begun has been ended. */
  async settle(): Promise<void> {
    await this.events;
    await untilNothingPends(this.url, this.failures.state);
    this.history.endLives((life) => this.ended.has(life));
  }

  async age(minutes: number): Promise<void> {
    await inTransaction(this.url, (client) => age((statement, values) => client.query(statement, [...values]), `${minutes} minutes`));
  }

  untilTrashIsEmpty(): Promise<void> {
    return untilTrashIsEmpty(this.url, () => this.collector.emptyTrash(), this.failures.collection);
  }

  /** `random` chooses what the API is asked for; without it everything is read anew. */
  async check(drill: Drill, random: Random | undefined): Promise<Checked> {
    const read = random === undefined ? newReadings() : this.read;
    const failures = this.failures.state;
    const checked = await checkInvariants({ ...drill, failures }, this.url, this.options.objects, read, random);
    for (const uuid of checked.unknownData) if (!this.orphans.has(uuid)) failures.push(`data object ${uuid}: nothing names it`);
    return checked;
  }

  /** The database is lost, and comes back from the store. Both nodes are stopped, or killed, and go on with the new one. */
  async rebuild(random: Random): Promise<void> {
    const before = await databaseState(this.url);
    await this.collector.close();
    for (const node of this.nodes.nodes) await (random.chance(0.5) ? this.kill(node) : this.stop(node));
    const lost = this.database;
    this.database = await freshDatabase();
    await writeFile(this.configFile, JSON.stringify({ ...this.settings, database: { url: this.url } }));
    const { code, stdout, stderr } = await ha(['rebuild', '--root', this.options.root, '--config', this.configFile, '--json']);
    const { rebuild } = this.failures;
    if (code !== 0 || (JSON.parse(stdout) as { findings: number }).findings !== 0) rebuild.push(`exit code ${code}: ${stdout}${stderr}`);
    rebuild.push(...(await stateDifferences(this.url, before)));
    this.orphans = new Set(await unknownData(this.url, this.options.objects));
    await lost.drop();
    await this.startAll();
  }

  async deleteTags(drill: Drill): Promise<void> {
    for (const repository of repositories) for (const tag of tags) await deleteTag(drill, repository, tag);
  }

  async close(): Promise<void> {
    await this.events;
    await this.hand?.close();
    for (const node of this.nodes.nodes) await this.stop(node);
  }
}

async function inTransaction(url: string, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('BEGIN');
    await work(client);
    await client.query('COMMIT');
  } finally {
    await client.end();
  }
}
