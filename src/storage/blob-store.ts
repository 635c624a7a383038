// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Bytes that are read while they are sent. A chunk is valid until the next call of `next`, so one or two buffers serve a whole stream. */
export interface ByteSource {
  /** The next bytes, or undefined at the end. */
  next(): Promise<Uint8Array | undefined>;
  /** Gives buffers and descriptors back; safe to call at any time and twice. */
  close(): void;
}
