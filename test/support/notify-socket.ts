// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The service manager's end of sd_notify(3): a real datagram socket. Node cannot bind one; python3 can. */
import { once } from 'node:events';
import { spawnTracked } from './command.js';

export interface NotifySocket {
  /** All messages so far; each is the lines of one datagram. */
  readonly messages: readonly (readonly string[])[];
  /** Resolves when nobody listens any more. */
  close(): Promise<void>;
}

const listener = `
import json, socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('\\0' + name[1:] if name.startswith('@') else name)
print('[]', flush=True)
while True:
    print(json.dumps(s.recv(65536).decode().splitlines()), flush=True)
`;

/** `address` as in NOTIFY_SOCKET: a path, or an abstract name behind an `@`. */
export async function openNotifySocket(address: string): Promise<NotifySocket> {
  const child = spawnTracked('python3', ['-c', listener, address], { stdio: ['ignore', 'pipe', 'inherit'] });
  const messages: string[][] = [];
  let rest = '';
  const bound = new Promise<void>((resolve) => {
    child.stdout?.on('data', (piece: Buffer) => {
      const lines = (rest + piece.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) messages.push(JSON.parse(line) as string[]);
      if (messages.length > 0) resolve();
    });
  });
  const ended = once(child, 'exit');
  await Promise.race([
    bound,
    ended.then(() => {
      throw new Error('python3 could not bind the socket');
    }),
  ]);
  messages.length = 0;
  return {
    messages,
    async close() {
      child.kill();
      await ended;
    },
  };
}
