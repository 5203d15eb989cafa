// The batch that fills, and when it is due: by its age, by what was received for it, or because somebody asked.
import { Batch } from "./batch.ts";
import type { StreamOptions } from "./stream-options.ts";

export class OpenBatch {
  readonly #options: StreamOptions;
  #madeCount = 0;
  #batch: Batch;
  #sinceMs = 0;
  /** Of its changes, as they were received. */
  receivedBytes = 0;
  /** Whether it is due, whatever is in it; also without anything in it the position is to be written. */
  flushAsked = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#batch = this.make();
  }

  get batch(): Batch {
    return this.#batch;
  }

  get due(): boolean {
    if (this.#batch.empty) return false;
    if (this.flushAsked) return true;
    const { flushIntervalMs, fileSizeBytes } = this.#options;
    return this.receivedBytes >= fileSizeBytes || performance.now() - this.#sinceMs >= flushIntervalMs;
  }

  /** A transaction is about to be put into it. */
  noteTransaction(): void {
    if (this.#batch.empty) this.#sinceMs = performance.now();
  }

  /** Gives it, and begins another one; null when nothing is in it. */
  take(): Batch | null {
    const batch = this.#batch;
    this.flushAsked = false;
    if (batch.empty) return null;
    this.#batch = this.make();
    this.receivedBytes = 0;
    return batch;
  }

  /** A further batch, that fills apart. */
  make(): Batch {
    const { group, stream, epoch, storage, fileSizeBytes, compression, progress } = this.#options;
    // Counted apart from the committed numbers: a batch is opened, and may write files, before its turn is known.
    const made = String(++this.#madeCount).padStart(8, "0");
    const batch = new Batch({ group, name: `${stream}-${epoch}-${made}`, storage, fileSizeBytes, compression });
    progress.undurable.add(batch);
    return batch;
  }
}
