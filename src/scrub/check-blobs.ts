// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Reads data and compares them with their digests. */
import { sqlStateOf } from '../database/failures.js';
import { algorithmOf, makeDigest } from '../oci/digest.js';
import { RegistryError } from '../oci/errors.js';
import { setChecked, type CheckedBlob } from './blob-queries.js';
import { clearDamage, markDamaged } from './damage-queries.js';
import { found, type Scrubbing } from './scrubbing.js';
import { writeMark } from './heal-blobs.js';

/** What is read in one go: between two of them the pace is kept, and the work can be ended. */
const stretchBytes = 16 * 1024 * 1024;
/** What an object costs besides its bytes. */
const objectBytes = 64 * 1024;

/** Checks what `list` gives until that is nothing more; each blob that was checked must not come again. */
export async function checkBlobs(scrubbing: Scrubbing, list: (limit: number) => Promise<readonly CheckedBlob[]>): Promise<void> {
  for (;;) {
    const blobs = await list(scrubbing.atOnce * blobsPerWorker);
    if (blobs.length === 0) return;
    const waiting = blobs.values();
    const worker = async (): Promise<void> => {
      for (const blob of waiting) await checkBlob(scrubbing, blob);
    };
    await Promise.all(Array.from({ length: scrubbing.atOnce }, worker));
  }
}

const blobsPerWorker = 16;

export async function checkBlob(scrubbing: Scrubbing, blob: CheckedBlob): Promise<void> {
  const { journal, counters } = scrubbing;
  const { writes, node } = journal;
  // Twice, before it counts: an error on the way to us is none of the object.
  const first = await look(scrubbing, blob);
  const verdict = first === 'right' ? first : await look(scrubbing, blob);
  counters.blobs++;
  const about = { key: blob.key };
  if (verdict === 'right') {
    if (blob.damaged && (await clearDamage(writes, node.id, blob))) {
      found(scrubbing, { ...about, reason: `the bytes are those of ${blob.digest} again`, outcome: 'healed' });
    }
  } else if ('damage' in verdict) {
    if (!blob.damaged) await journal.history.requireStore();
    const sequence = blob.damaged ? undefined : await markDamaged(writes, node.id, blob, verdict.damage);
    if (sequence !== undefined) await writeMark(journal, blob, sequence);
    // Neither known as damaged nor damaged now: it was deleted meanwhile.
    if (blob.damaged || sequence !== undefined)
      found(scrubbing, { ...about, reason: verdict.damage, outcome: 'damaged', known: blob.damaged });
  } else found(scrubbing, { ...about, reason: `it cannot be checked: ${verdict.failure}`, outcome: 'reported' });
  await setChecked(writes, node.id, blob);
}

type Verdict = 'right' | { readonly damage: string } | { readonly failure: string };

async function look({ journal, hasher, pace, counters }: Scrubbing, { digest, key, size }: CheckedBlob): Promise<Verdict> {
  const { store } = journal;
  const algorithm = algorithmOf(digest);
  await pace.take(objectBytes);
  try {
    const actual = await store.size(key);
    if (actual === undefined) return { damage: `the object of ${digest} is missing` };
    if (actual !== size) return { damage: `the object has ${actual} bytes instead of the ${size} of ${digest}` };
    let state = hasher.initial(algorithm);
    for (let start = 0; start < size; start += stretchBytes) {
      const end = Math.min(size, start + stretchBytes);
      await pace.take(end - start);
      state = await store.hash(key, algorithm, state, end, start);
      counters.bytes += end - start;
    }
    return makeDigest(algorithm, hasher.digest(algorithm, state)) === digest ? 'right' : { damage: `the bytes are not those of ${digest}` };
  } catch (error) {
    // A store that cannot serve now, or work that is to end, says nothing of the object.
    if (error instanceof RegistryError || (error as Error).name === 'AbortError') throw error;
    const { message } = error as Error;
    // A disk that cannot read a sector has lost it. In a worker's error only the text is left of its code.
    return sqlStateOf(error) === 'EIO' || message.startsWith('EIO')
      ? { damage: `the object cannot be read: ${message}` }
      : { failure: message };
  }
}
