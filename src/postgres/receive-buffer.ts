// The bytes that were received and not yet used: one stretch of memory that the socket fills in place, so that a message
// that came in pieces lies in one piece without being put together. It grows to a message's size and shrinks again.
// Refuses nothing: what is a message, and which length is possible, is wire.ts's to say.

import { viewedBytes } from "../base/viewed-bytes.ts";

/** A buffer grown for one big message is given back when it is larger than this. */
const KEPT_MAX_BYTES = 4 * 1024 * 1024;
/** Less room than this is not worth a read; the partial message is moved to the front instead. */
const READ_MIN_BYTES = 64 * 1024;

export class ReceiveBuffer {
  /** The whole buffer, and one view over it: positions mean the same in both. Both change only in `makeRoom`. */
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  /** Bytes from `start` to `end` were received and not used. The reader moves `start`. */
  start = 0;
  end = 0;
  /** Set by the reader: how many bytes from `start` the partial message there will have; 0 if not known. */
  wantedBytes = 0;
  readonly #startBytes: number;
  #spare: Uint8Array<ArrayBuffer> | undefined;
  #space: Uint8Array<ArrayBuffer> | undefined;

  constructor(startBytes: number) {
    this.#startBytes = startBytes;
    this.bytes = viewedBytes(startBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Where the next bytes go. The same object as before while nothing moved. */
  space(): Uint8Array<ArrayBuffer> {
    if (this.#space === undefined || this.#space.byteOffset !== this.end || this.#space.buffer !== this.bytes.buffer) {
      this.#space = this.bytes.subarray(this.end);
    }
    return this.#space;
  }

  /** Takes bytes that somebody else received. Call `makeRoom` first: it throws a RangeError when they do not fit. */
  append(chunk: Uint8Array): void {
    this.bytes.set(chunk, this.end);
    this.end += chunk.length;
  }

  /**
   * Makes room for the wanted message and for at least `roomBytes`. With `keep` the bytes before `start` stay as they
   * are until the call after next: somebody still reads them, so the unused ones go to another buffer.
   */
  makeRoom(keep: boolean, roomBytes = READ_MIN_BYTES): void {
    const unused = this.end - this.start;
    const needed = Math.max(this.#startBytes, this.wantedBytes + READ_MIN_BYTES, unused + roomBytes);
    const capacity = this.bytes.length;
    const fits =
      needed <= capacity && (capacity <= Math.max(KEPT_MAX_BYTES, this.#startBytes) || needed > capacity / 4);
    if (!fits || keep) {
      const spare = this.#spare;
      const usable = spare !== undefined && spare.length >= needed && spare !== this.bytes;
      // Zeroed memory of this size costs nothing before it is touched: a length that lies costs no real memory.
      const next = usable ? spare : viewedBytes(needed);
      next.set(this.bytes.subarray(this.start, this.end));
      this.#spare = this.bytes.length <= Math.max(KEPT_MAX_BYTES, this.#startBytes) ? this.bytes : undefined;
      this.bytes = next;
      this.view = new DataView(next.buffer);
    } else if (unused === 0) {
      // The usual case: everything was used.
    } else if (this.start > 0 && (capacity - this.end < roomBytes || this.start + this.wantedBytes > capacity)) {
      this.bytes.copyWithin(0, this.start, this.end);
    } else {
      return;
    }
    this.start = 0;
    this.end = unused;
  }
}
