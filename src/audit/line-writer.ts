// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Lines that are written a moment after they were made: whoever makes them never waits, and never fails. */

export interface LineTarget {
  /** Called before bytes that begin a line. */
  prepare(): Promise<void>;
  /** How many of the bytes were written. */
  write(bytes: Uint8Array): Promise<number>;
  close(): Promise<void>;
}

/** What waits is written this often. */
const flushMs = 200;
/** A disk that is full is tried again this often. */
const retryMs = 1_000;
/** What cannot be written waits in memory up to here; lines beyond it are lost. */
const mostWaitingBytes = 8 * 1024 * 1024;

export class LineWriter {
  /** Lines that were dropped. */
  lost = 0;
  /** Lines that were taken. */
  taken = 0;
  private readonly target: LineTarget;
  private readonly onProblem: (error: unknown) => void;
  private lines: string[] = [];
  private waitingBytes = 0;
  /** Of lines whose beginning may be written already. */
  private rest: Uint8Array | undefined;
  private restLines = 0;
  private hasProblem = false;
  private timer: NodeJS.Timeout | undefined;
  private flushing: Promise<void> | undefined;

  /** `onProblem` hears of the first failure, and then of none until writing went well again. */
  constructor(target: LineTarget, onProblem: (error: unknown) => void) {
    this.target = target;
    this.onProblem = onProblem;
  }

  write(line: string): void {
    const bytes = Buffer.byteLength(line);
    if (this.waitingBytes + bytes > mostWaitingBytes) {
      this.lost++;
      return;
    }
    this.taken++;
    this.lines.push(line);
    this.waitingBytes += bytes;
    this.schedule(flushMs);
  }

  /** Writes what waits; what cannot be written stays. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.flushing ??= this.drain().finally(() => {
      this.flushing = undefined;
    });
    return this.flushing;
  }

  async close(): Promise<void> {
    await this.flushing;
    await this.flush();
    clearTimeout(this.timer);
    this.lost += this.lines.length + this.restLines;
    this.lines = [];
    await this.target.close();
  }

  private schedule(ms: number): void {
    this.timer ??= setTimeout(() => void this.flush(), ms).unref();
  }

  private async drain(): Promise<void> {
    try {
      while (this.rest !== undefined || this.lines.length > 0) await this.writeSome();
      this.hasProblem = false;
    } catch (error) {
      // A reader of standard output that is slow is no problem yet.
      if (!this.hasProblem && (error as NodeJS.ErrnoException).code !== 'EAGAIN') {
        this.hasProblem = true;
        this.onProblem(error);
      }
      this.schedule(retryMs);
    }
  }

  private async writeSome(): Promise<void> {
    if (this.rest === undefined) {
      await this.target.prepare();
      this.restLines = this.lines.length;
      this.rest = Buffer.from(this.lines.join(''));
      this.lines = [];
    }
    const written = await this.target.write(this.rest);
    this.waitingBytes -= written;
    this.rest = this.rest.subarray(written);
    if (this.rest.byteLength > 0) return;
    this.rest = undefined;
    this.restLines = 0;
  }
}
