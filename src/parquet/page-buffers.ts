// Buffers of closed pages and written pieces, for the next ones of any column: new ones would keep the garbage collector
// busy, which counts memory outside of its heap.

import { viewedBytes } from "../base/viewed-bytes.ts";

/** As much as may wait for the compressor, with some room. */
const MAX_KEPT_BYTES = 48 * 1024 * 1024;
/** A buffer that one huge value made longer than this is not used again. */
export const MAX_BUFFER_BYTES = 4 * 1024 * 1024;

export class PageBuffers {
  readonly #byLength = new Map<number, Uint8Array<ArrayBuffer>[]>();
  #keptBytes = 0;

  /** A buffer of exactly this length; what is in it is undefined. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const kept = this.#byLength.get(length);
    const buffer = kept?.pop();
    if (!kept || !buffer) return viewedBytes(length);
    this.#keptBytes -= length;
    this.#touch(length, kept);
    return buffer;
  }

  /** Nobody may use the buffer afterwards. */
  give(buffer: Uint8Array<ArrayBuffer>): void {
    const { length } = buffer;
    if (length > MAX_BUFFER_BYTES) return;
    const kept = this.#byLength.get(length) ?? [];
    kept.push(buffer);
    this.#keptBytes += length;
    this.#touch(length, kept);
    while (this.#keptBytes > MAX_KEPT_BYTES) this.#dropOne();
  }

  // A Map keeps the order of insertion: the length that was not asked for the longest is in front.
  #touch(length: number, kept: Uint8Array<ArrayBuffer>[]): void {
    this.#byLength.delete(length);
    this.#byLength.set(length, kept);
  }

  #dropOne(): void {
    for (const [length, kept] of this.#byLength) {
      if (kept.pop()) {
        this.#keptBytes -= length;
        return;
      }
      this.#byLength.delete(length);
    }
  }
}
