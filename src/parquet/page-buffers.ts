// Page buffers that the compressor is done with, for the next pages of any column: new ones would keep the garbage
// collector busy, which counts memory outside of its heap.

/** As much as may wait for the compressor, with some room. */
const MAX_KEPT_BYTES = 16 * 1024 * 1024;
/** A buffer that one huge value made longer than this is not used again. */
export const MAX_BUFFER_BYTES = 4 * 1024 * 1024;

export class PageBuffers {
  readonly #byLength = new Map<number, Uint8Array<ArrayBuffer>[]>();
  #keptBytes = 0;

  /** A buffer of exactly this length; what is in it is undefined. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const kept = this.#byLength.get(length)?.pop();
    if (!kept) return new Uint8Array(length);
    this.#keptBytes -= length;
    return kept;
  }

  /** Nobody may use the buffer afterwards. */
  give(bytes: Uint8Array<ArrayBuffer>): void {
    const { length } = bytes;
    if (length > MAX_BUFFER_BYTES) return;
    // Full of lengths that nobody takes any more: leaves grow to longer ones.
    if (this.#keptBytes + length > MAX_KEPT_BYTES) {
      this.#byLength.clear();
      this.#keptBytes = 0;
    }
    this.#keptBytes += length;
    const kept = this.#byLength.get(length);
    if (kept) kept.push(bytes);
    else this.#byLength.set(length, [bytes]);
  }
}
