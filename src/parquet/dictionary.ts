// Dictionary encoding of a column chunk: PLAIN values of closed pages become indices into the distinct values.
// All or nothing per chunk, and only while dictionary and indices stay clearly smaller than PLAIN.
// Source: https://github.com/apache/parquet-format/blob/master/Encodings.md#dictionary-encoding-plain_dictionary--2-and-rle_dictionary--8
import { viewedBytes } from "../base/viewed-bytes.ts";
import { LEVEL_HEADROOM_BYTES, type LeafBuffer } from "./leaf-buffer.ts";
import { maxRleBytes, writeRle } from "./rle.ts";
import type { ValueType } from "./schema.ts";
import { type PageBounds, pageBounds } from "./statistics.ts";

const MAX_DICTIONARY_BYTES = 1024 * 1024;
const MAX_DICTIONARY_VALUES = 1 << 16;
/** The share of PLAIN that dictionary and indices may take. */
const WORTH_IT = 0.9;
/** Values looked at before a page is given up as too distinct: a column of unique values costs no more than this. */
const PROBE_VALUES = 2048;
/** The share of them that may be new. */
const PROBE_NEW = 0.45;

/** MAX_DICTIONARY_VALUES fits into 16 bits. */
export type Indices = Uint8Array | Uint16Array;

// Used during one call, by all builders of the thread: new ones for each page would keep the garbage collector busy.
let scratchIndices = new Int32Array(32 * 1024);
let scratchValues = new Uint8Array(64 * 1024);
const scratchUsed = new Uint8Array(MAX_DICTIONARY_VALUES);
/** What is kept after a page that needed more. */
const MAX_SCRATCH_INDICES = 1024 * 1024;

export class DictionaryBuilder {
  /** Bytes of one value; 0 for BYTE_ARRAY, whose values carry a length. */
  readonly #width: number;
  #values = viewedBytes(4096);
  #view = new DataView(this.#values.buffer);
  #end = 0;
  #starts = new Int32Array(256);
  #count = 0;
  #slots = new Int32Array(1024).fill(-1);
  #plainBytes = 0;
  #indexBytes = 0;

  private constructor(width: number) {
    this.#width = width;
  }

  /** Null for types whose values are too small to gain. */
  static for(type: ValueType): DictionaryBuilder | null {
    switch (type.physical) {
      case "BOOLEAN":
        return null;
      case "INT32":
      case "FLOAT":
        return new DictionaryBuilder(4);
      case "INT64":
      case "DOUBLE":
        return new DictionaryBuilder(8);
      case "FIXED_LEN_BYTE_ARRAY":
        return new DictionaryBuilder(type.lengthBytes!);
      case "BYTE_ARRAY":
        return new DictionaryBuilder(0);
    }
  }

  get valueCount(): number {
    return this.#count;
  }

  /** The distinct values, PLAIN. */
  values(): Uint8Array {
    return this.#values.subarray(0, this.#end);
  }

  /** Indices of the page's values; null when the chunk is not worth a dictionary (the builder keeps earlier pages' values). */
  indices(leaf: LeafBuffer): Indices | null {
    const { valueCount } = leaf;
    // A page of NULLs says nothing about the values that may come.
    if (valueCount === 0) return new Uint8Array(0);
    if (scratchIndices.length < valueCount) scratchIndices = new Int32Array(valueCount);
    const indices = scratchIndices.subarray(0, valueCount);
    if (!this.#lookUp(leaf, indices)) return null;
    this.#plainBytes += leaf.valueBytes;
    this.#indexBytes += 1 + ((valueCount * this.#bitWidth() + 7) >>> 3);
    if (this.#end + this.#indexBytes >= this.#plainBytes * WORTH_IT) return null;
    const narrowed = narrow(indices, this.#count);
    if (scratchIndices.length > MAX_SCRATCH_INDICES) scratchIndices = new Int32Array(0);
    return narrowed;
  }

  /** Writes each value's index; false when the dictionary is full, or the page too distinct. */
  #lookUp(leaf: LeafBuffer, indices: Int32Array): boolean {
    const { bytes, view, valueCount } = leaf;
    const countBefore = this.#count;
    let at = LEVEL_HEADROOM_BYTES;
    let index = 0;
    if (isOneValue(leaf, this.#sizeAt(view, at))) {
      index = this.#find(bytes, view, at, this.#sizeAt(view, at));
      indices.fill(index);
      return index >= 0;
    }
    for (let i = 0; i < valueCount; i++) {
      const size = this.#sizeAt(view, at);
      // Values come in runs: then there is nothing to look up.
      if (i === 0 || !this.#equals(index, bytes, view, at, size)) {
        index = this.#find(bytes, view, at, size);
        if (index < 0) return false;
      }
      indices[i] = index;
      at += size;
      if (i === PROBE_VALUES && this.#count - countBefore > PROBE_VALUES * PROBE_NEW) return false;
    }
    return true;
  }

  /** Bounds of a page with these indices: only its distinct values are compared. */
  bounds(type: ValueType, indices: Indices): PageBounds {
    const used = scratchUsed.fill(0, 0, this.#count);
    for (let i = 0; i < indices.length; i++) used[indices[i]!] = 1;
    if (scratchValues.length < this.#end) scratchValues = new Uint8Array(2 * this.#end);
    const values = scratchValues;
    let end = 0;
    let count = 0;
    for (let index = 0; index < this.#count; index++) {
      if (used[index] === 0) continue;
      const start = this.#starts[index]!;
      const size = this.#sizeOf(index);
      for (let k = 0; k < size; k++) values[end + k] = this.#values[start + k]!;
      end += size;
      count++;
    }
    return pageBounds(type, values, 0, end, count);
  }

  /** Body of a data page: levels, the bit width, the indices. */
  pageBody(levels: Uint8Array, indices: Indices): Uint8Array {
    const bitWidth = this.#bitWidth();
    const { length } = indices;
    const body = new Uint8Array(levels.length + 1 + maxRleBytes(length, bitWidth));
    body.set(levels);
    body[levels.length] = bitWidth;
    return body.subarray(0, writeRle(body, levels.length + 1, indices, length, bitWidth));
  }

  /** Body of the same page without the dictionary. */
  plainPageBody(levels: Uint8Array, indices: Indices): Uint8Array {
    let size = 0;
    for (const index of indices) size += this.#sizeOf(index);
    const body = new Uint8Array(levels.length + size);
    body.set(levels);
    let at = levels.length;
    for (const index of indices) {
      const start = this.#starts[index]!;
      const valueSize = this.#sizeOf(index);
      for (let k = 0; k < valueSize; k++) body[at++] = this.#values[start + k]!;
    }
    return body;
  }

  #bitWidth(): number {
    return Math.max(1, 32 - Math.clz32(Math.max(0, this.#count - 1)));
  }

  #sizeOf(index: number): number {
    return this.#sizeAt(this.#view, this.#starts[index]!);
  }

  #sizeAt(view: DataView, at: number): number {
    return this.#width === 0 ? 4 + view.getUint32(at, true) : this.#width;
  }

  /** The index of the value in bytes[at, at + size), added when new; -1 when the dictionary is full. */
  #find(bytes: Uint8Array, view: DataView, at: number, size: number): number {
    if (size > MAX_DICTIONARY_BYTES) return -1;
    const mask = this.#slots.length - 1;
    let slot = hash(bytes, view, at, size) & mask;
    for (;;) {
      const index = this.#slots[slot]!;
      if (index < 0) break;
      if (this.#equals(index, bytes, view, at, size)) return index;
      slot = (slot + 1) & mask;
    }
    if (this.#end + size > MAX_DICTIONARY_BYTES || this.#count >= MAX_DICTIONARY_VALUES) return -1;
    this.#slots[slot] = this.#count;
    return this.#add(bytes, at, size);
  }

  // A BYTE_ARRAY's length is part of its bytes, so equal bytes are equal values.
  #equals(index: number, bytes: Uint8Array, view: DataView, at: number, size: number): boolean {
    const start = this.#starts[index]!;
    if (start + size > this.#end) return false;
    let k = 0;
    for (; k + 4 <= size; k += 4) if (this.#view.getInt32(start + k) !== view.getInt32(at + k)) return false;
    for (; k < size; k++) if (this.#values[start + k] !== bytes[at + k]) return false;
    return true;
  }

  #add(bytes: Uint8Array, at: number, size: number): number {
    if (this.#end + size > this.#values.length) {
      const grown = viewedBytes(Math.max(this.#values.length * 2, this.#end + size));
      grown.set(this.#values.subarray(0, this.#end));
      this.#values = grown;
      this.#view = new DataView(grown.buffer);
    }
    if (this.#count === this.#starts.length) {
      const grown = new Int32Array(this.#starts.length * 2);
      grown.set(this.#starts);
      this.#starts = grown;
    }
    this.#starts[this.#count] = this.#end;
    for (let k = 0; k < size; k++) this.#values[this.#end + k] = bytes[at + k]!;
    this.#end += size;
    this.#count++;
    if (this.#count * 2 > this.#slots.length) this.#rehash();
    return this.#count - 1;
  }

  #rehash(): void {
    const slots = new Int32Array(this.#slots.length * 4).fill(-1);
    const mask = slots.length - 1;
    for (let index = 0; index < this.#count; index++) {
      let slot = hash(this.#values, this.#view, this.#starts[index]!, this.#sizeOf(index)) & mask;
      while (slots[slot]! >= 0) slot = (slot + 1) & mask;
      slots[slot] = index;
    }
    this.#slots = slots;
  }
}

/** Whether all values are one of `size` bytes (a table's name, a transaction's LSN), by a comparison that is native. */
function isOneValue({ bytes, end, valueCount }: LeafBuffer, size: number): boolean {
  if (valueCount * size !== end - LEVEL_HEADROOM_BYTES) return false;
  const butLast = bytes.subarray(LEVEL_HEADROOM_BYTES, end - size);
  return Buffer.compare(butLast, bytes.subarray(LEVEL_HEADROOM_BYTES + size, end)) === 0;
}

function narrow(indices: Int32Array, count: number): Indices {
  return count <= 0x100 ? new Uint8Array(indices) : new Uint16Array(indices);
}

function hash(bytes: Uint8Array, view: DataView, at: number, size: number): number {
  let state = size;
  let k = 0;
  for (; k + 4 <= size; k += 4) {
    state = Math.imul(state ^ view.getInt32(at + k, true), 0x9e3779b1);
    state ^= state >>> 15;
  }
  for (; k < size; k++) state = Math.imul(state ^ bytes[at + k]!, 0x01000193);
  return state ^ (state >>> 13);
}
