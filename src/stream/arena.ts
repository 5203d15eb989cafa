// Bytes of change messages, one after the other. Positions into it stay true while it grows.
import { PgFloError } from "../base/errors.ts";
import { viewedBytes } from "../base/viewed-bytes.ts";

const FIRST_BYTES = 256 * 1024;
/** Positions are 32-bit. */
const MAX_BYTES = 0x7fffffff;
/** What is kept of a grown arena when little or nothing is left in it. */
const KEPT_BYTES = 16 * 1024 * 1024;
/** From there on it grows by so much at least: each growth copies all, and what was not written to takes no memory. */
const GROWTH_BYTES = 128 * 1024 * 1024;
/** Below this a loop of words beats the native copy, whose call costs more than the bytes. */
const SHORT_BYTES = 512;
const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

export class Arena {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  length = 0;
  // The bytes that are appended from, and a view of them: they stay the same for thousands of changes.
  #source: Uint8Array = NO_BYTES;
  #sourceView: DataView = NO_VIEW;

  readonly #keptBytes: number;

  /** Above `keptBytes` memory is given back when what is in it is dropped. */
  constructor(firstBytes = FIRST_BYTES, keptBytes = KEPT_BYTES) {
    this.#keptBytes = keptBytes;
    this.bytes = viewedBytes(firstBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** What it takes of memory, as far as it was ever full. */
  get heldBytes(): number {
    return Math.min(this.bytes.length, Math.max(KEPT_BYTES, this.length));
  }

  /** Copies source[start, end) and gives where it lies. MEMORY_EXCEEDED above 2 GiB. */
  append(source: Uint8Array, start: number, end: number): number {
    const at = this.reserve(end - start);
    this.write(at, source, start, end);
    return at;
  }

  /** Copies source[start, end) to `at`, where room for it was reserved. */
  write(at: number, source: Uint8Array, start: number, end: number): void {
    const size = end - start;
    if (size > SHORT_BYTES) this.bytes.set(source.subarray(start, end), at);
    else this.#writeWords(source, start, size, at);
  }

  #writeWords(source: Uint8Array, start: number, size: number, at: number): void {
    if (source !== this.#source) {
      this.#source = source;
      this.#sourceView = new DataView(source.buffer, source.byteOffset);
    }
    const { bytes, view } = this;
    const from = this.#sourceView;
    let k = 0;
    // Compiled to moves of 64 bits: no bigint is ever made. Four of them take half of the time of four turns.
    for (; k + 32 <= size; k += 32) {
      view.setBigInt64(at + k, from.getBigInt64(start + k, true), true);
      view.setBigInt64(at + k + 8, from.getBigInt64(start + k + 8, true), true);
      view.setBigInt64(at + k + 16, from.getBigInt64(start + k + 16, true), true);
      view.setBigInt64(at + k + 24, from.getBigInt64(start + k + 24, true), true);
    }
    for (; k + 8 <= size; k += 8) view.setBigInt64(at + k, from.getBigInt64(start + k, true), true);
    for (; k < size; k++) bytes[at + k] = source[start + k]!;
  }

  /** Takes `size` bytes, to be filled by the caller. */
  reserve(size: number): number {
    const at = this.length;
    if (at + size > this.bytes.length) this.#grow(at + size);
    this.length = at + size;
    return at;
  }

  /** Moves all behind the first bytes to the start. Positions change by as many. */
  dropFirst(byteCount: number): void {
    const rest = this.bytes.subarray(byteCount, this.length);
    const kept = this.#keptBytes;
    if (this.bytes.length > kept && rest.length <= kept / 2) this.#use(viewedBytes(kept));
    this.bytes.set(rest);
    this.length = rest.length;
  }

  /** Drops what lies behind the first bytes. */
  truncateTo(byteCount: number): void {
    this.length = byteCount;
  }

  reset(): void {
    this.length = 0;
    // They can be another arena's, of any size.
    this.#source = NO_BYTES;
    this.#sourceView = NO_VIEW;
    if (this.bytes.length > this.#keptBytes) this.#use(viewedBytes(this.#keptBytes));
  }

  #grow(needed: number): void {
    if (needed > MAX_BYTES) {
      throw new PgFloError("MEMORY_EXCEEDED", `transaction, size, more than ${MAX_BYTES} bytes of changes in memory`);
    }
    const { length } = this.bytes;
    const wanted = length < KEPT_BYTES ? length * 2 : length + Math.max(length / 2, GROWTH_BYTES);
    const grown = viewedBytes(Math.min(MAX_BYTES, Math.max(Math.ceil(wanted), needed)));
    grown.set(this.bytes.subarray(0, this.length));
    this.#use(grown);
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}
