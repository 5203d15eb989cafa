// Bytes of change messages, one after the other. Positions into it stay true while it grows.
import { PgFloError } from "../base/errors.ts";

const FIRST_BYTES = 256 * 1024;
/** Positions are 32-bit. */
const MAX_BYTES = 0x7fffffff;
/** What is kept of a grown arena when little or nothing is left in it. */
const KEPT_BYTES = 16 * 1024 * 1024;
/** Below this a loop of words beats the native copy, whose call costs more than the bytes. */
const SHORT_BYTES = 512;

export class Arena {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  length = 0;
  // The bytes that are appended from, and a view of them: they stay the same for thousands of changes.
  #source: Uint8Array = new Uint8Array(0);
  #sourceView: DataView = new DataView(this.#source.buffer);

  readonly #keptBytes: number;

  /** Above `keptBytes` memory is given back when what is in it is dropped. */
  constructor(firstBytes = FIRST_BYTES, keptBytes = KEPT_BYTES) {
    this.#keptBytes = keptBytes;
    this.bytes = new Uint8Array(firstBytes);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Copies source[start, end) and gives where it lies. MEMORY_EXCEEDED above 2 GiB. */
  append(source: Uint8Array, start: number, end: number): number {
    const size = end - start;
    const at = this.reserve(size);
    if (size > SHORT_BYTES) this.bytes.set(source.subarray(start, end), at);
    else this.#appendWords(source, start, size, at);
    return at;
  }

  #appendWords(source: Uint8Array, start: number, size: number, at: number): void {
    if (source !== this.#source) {
      this.#source = source;
      this.#sourceView = new DataView(source.buffer, source.byteOffset, source.byteLength);
    }
    const { bytes, view } = this;
    const from = this.#sourceView;
    let k = 0;
    // Compiled to moves of 64 bits: no bigint is ever made.
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
    if (this.bytes.length > kept && rest.length <= kept / 2) this.#use(new Uint8Array(kept));
    this.bytes.set(rest);
    this.length = rest.length;
  }

  /** Drops what lies behind the first bytes. */
  truncateTo(byteCount: number): void {
    this.length = byteCount;
  }

  reset(): void {
    this.length = 0;
    if (this.bytes.length > this.#keptBytes) this.#use(new Uint8Array(this.#keptBytes));
  }

  #grow(needed: number): void {
    if (needed > MAX_BYTES) {
      throw new PgFloError("MEMORY_EXCEEDED", `transaction, size, more than ${MAX_BYTES} bytes of changes in memory`);
    }
    const { length } = this.bytes;
    const wanted = length < KEPT_BYTES ? length * 2 : length + length / 2;
    const grown = new Uint8Array(Math.min(MAX_BYTES, Math.max(Math.ceil(wanted), needed)));
    grown.set(this.bytes.subarray(0, this.length));
    this.#use(grown);
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}
