// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Reads what a client says in Postgres' protocol, version 3: https://www.postgresql.org/docs/current/protocol-message-formats.html */

/** Takes a connection's bytes in any pieces, and tells each round trip: the statements of all messages up to a Sync or a simple Query. */
export function roundTripsOf(onRoundTrip: (statements: string) => void): (piece: Buffer) => void {
  let rest = Buffer.alloc(0);
  let started = false;
  let unnamed = '';
  const names: string[] = [];
  return (piece) => {
    rest = Buffer.concat([rest, piece]);
    // The first message has no type. There is no request for TLS before it, since tests don't ask for any.
    for (let head = started ? 1 : 0; rest.length >= head + 4; head = 1) {
      const end = head + rest.readInt32BE(head);
      if (rest.length < end) return;
      const type = started ? String.fromCharCode(rest[0] ?? 0) : 'startup';
      const body = rest.subarray(head + 4, end);
      rest = rest.subarray(end);
      started = true;
      if (type === 'P' && body[0] === 0) unnamed = textAt(body, 1);
      if (type === 'B') names.push(textAt(body, body.indexOf(0) + 1) || unnamed);
      else if (type === 'Q') onRoundTrip(textAt(body, 0));
      else if (type === 'S') onRoundTrip(names.splice(0).join(', '));
    }
  };
}

function textAt(body: Buffer, start: number): string {
  return body.toString('utf8', start, body.indexOf(0, start));
}
