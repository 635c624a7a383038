// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Connections to a directory that are used again and again: bound to one account, or for trying the passwords of others. */
import type { Socket } from 'node:net';
import { Client, ResultCodeError } from 'ldapts';
import { RegistryError } from '../../oci/errors.js';
import { openSocket, type SocketOptions } from './directory-socket.js';
import { AccountRefused, type Server, type Servers } from './servers.js';

export interface ConnectionsOptions extends SocketOptions {
  readonly servers: Servers;
  readonly most: number;
  readonly idleMs: number;
  /** How long an answer may take. */
  readonly answerMs: number;
  /** What a new connection is bound to; undefined: nobody. */
  readonly account?: { readonly dn: string; readonly password: string } | undefined;
  /** Asked about a server whose answer is late: true where that says nothing of the server. Without it, it does. */
  readonly isAlive?: (server: Server) => Promise<boolean>;
}

interface Connection {
  readonly client: Client;
  readonly socket: Socket;
  readonly server: Server;
  idleTimer?: NodeJS.Timeout;
}

interface Waiting {
  readonly go: () => void;
  readonly timer: NodeJS.Timeout;
}

/** More logins than that do not wait: their clients come again. */
const mostWaiting = 256;

export class Connections {
  private readonly options: ConnectionsOptions;
  private readonly idle: Connection[] = [];
  private readonly waiting: Waiting[] = [];
  private busy = 0;
  private isClosed = false;

  constructor(options: ConnectionsOptions) {
    this.options = options;
  }

  /**
   * Has it done on a connection of its own, and once more elsewhere where the connection or the server fails meanwhile, or answers too late. Throws DirectoryAway where no server can do it,
   * TOOMANYREQUESTS where too many want one, and the ResultCodeError of a server that answered.
   */
  async use<T>(act: (client: Client) => Promise<T>): Promise<T> {
    await this.enter();
    try {
      return await this.attempt(act);
    } finally {
      this.leave();
    }
  }

  /** Whether this server answers at all, on a new connection. Never rejects. */
  async answers(server: Server): Promise<boolean> {
    let connection: Connection | undefined;
    try {
      connection = await this.connect(server);
      // The root of it, which every server has.
      await connection.client.search('', { scope: 'base', attributes: ['1.1'], sizeLimit: 1 });
      return true;
    } catch (error) {
      return error instanceof ResultCodeError && !serverFaults.has(error.code);
    } finally {
      if (connection !== undefined) dispose(connection);
    }
  }

  /** Nothing is kept any more; what is under way is brought to its end. */
  close(): void {
    this.isClosed = true;
    for (const connection of this.idle.splice(0)) dispose(connection);
  }

  private async attempt<T>(act: (client: Client) => Promise<T>): Promise<T> {
    const { servers, isAlive } = this.options;
    const tried = new Set<Server>();
    const late = new Map<Server, unknown>();
    for (;;) {
      const kept = this.takeIdle(tried);
      const connection = kept ?? (await this.open(tried));
      try {
        const result = await act(connection.client);
        servers.worked(connection.server);
        this.keep(connection);
        // What another one has done was not the fault of who asked.
        for (const [server, error] of late) servers.failed(server, error);
        return result;
      } catch (error) {
        if (error instanceof ResultCodeError && !serverFaults.has(error.code)) {
          servers.worked(connection.server);
          this.keep(connection);
          throw error;
        }
        dispose(connection);
        // A kept connection may have been closed at the other end long ago; that says nothing of the server.
        if (kept !== undefined && !isFault(error)) continue;
        tried.add(connection.server);
        if (isLate(error) && (await isAlive?.(connection.server)) === true) {
          servers.late(connection.server, error);
          late.set(connection.server, error);
        } else servers.failed(connection.server, error);
      }
    }
  }

  private takeIdle(tried: ReadonlySet<Server>): Connection | undefined {
    for (;;) {
      const at = this.idle.findLastIndex(({ server }) => !tried.has(server));
      const [connection] = at < 0 ? [] : this.idle.splice(at, 1);
      if (connection === undefined) return undefined;
      clearTimeout(connection.idleTimer);
      if (this.options.servers.isUp(connection.server) && connection.client.isConnected) return connection;
      dispose(connection);
    }
  }

  private async open(tried: Set<Server>): Promise<Connection> {
    const { servers } = this.options;
    for (;;) {
      const server = servers.next(tried);
      try {
        return await this.connect(server);
      } catch (error) {
        const isRefused = error instanceof ResultCodeError && error.code === wrongCredentials;
        servers.failed(server, isRefused ? new AccountRefused('it does not take the account (ldap.bind_dn)', { cause: error }) : error);
        tried.add(server);
      }
    }
  }

  private async connect(server: Server): Promise<Connection> {
    const { account, answerMs } = this.options;
    const socket = await openSocket(server.url, this.options);
    try {
      const client = clientOn(socket, answerMs);
      if (account !== undefined) await client.bind(account.dn, account.password);
      return { client, socket, server };
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  private keep(connection: Connection): void {
    if (this.isClosed || !connection.client.isConnected) {
      dispose(connection);
      return;
    }
    connection.idleTimer = setTimeout(() => {
      this.idle.splice(this.idle.indexOf(connection), 1);
      dispose(connection);
    }, this.options.idleMs).unref();
    this.idle.push(connection);
  }

  private async enter(): Promise<void> {
    const { most, timeoutMs, answerMs } = this.options;
    if (this.busy < most) {
      this.busy++;
      return;
    }
    const busy = new RegistryError('TOOMANYREQUESTS', 'too many are logging in', { headers: { 'Retry-After': '5' } });
    if (this.waiting.length >= mostWaiting) throw busy;
    await new Promise<void>((resolve, reject) => {
      const waiting = {
        go: resolve,
        timer: setTimeout(() => {
          this.waiting.splice(this.waiting.indexOf(waiting), 1);
          reject(busy);
        }, timeoutMs + answerMs),
      };
      this.waiting.push(waiting);
    });
  }

  /** Whoever waits longest takes the place. */
  private leave(): void {
    const next = this.waiting.shift();
    if (next === undefined) {
      this.busy--;
      return;
    }
    clearTimeout(next.timer);
    next.go();
  }
}

const wrongCredentials = 49;
/** busy, unavailable: another server may be better off. */
const serverFaults = new Set([51, 52]);

function isFault(error: unknown): boolean {
  return error instanceof ResultCodeError || isLate(error);
}

function isLate(error: unknown): boolean {
  return error instanceof Error && error.message.endsWith('timed out');
}

/** The library would connect again by itself, without TLS and to whom it likes. */
function clientOn(socket: Socket, timeout: number): Client {
  let isTaken = false;
  const take = (): Socket => {
    if (isTaken) throw new Error('the connection is closed');
    isTaken = true;
    return socket;
  };
  return new Client({ url: 'ldap://directory', timeout, createConnection: take });
}

function dispose({ client, socket }: Connection): void {
  // It says goodbye; whether it is heard does not matter.
  client
    .unbind()
    .catch(() => undefined)
    .finally(() => socket.destroy());
}
