// Values that rows of a base take from other rows, because the log did not carry them: read once in the order of the files,
// kept in a file, and found again by where they were. In memory is only where each one lies.
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { malformedFile } from "../parquet/thrift-reader.ts";

const PIECE_BYTES = 1024 * 1024;
/** Entries, values, bytes. */
const LEAF_HEADER_BYTES = 12;

export class MovedValues implements Disposable {
  readonly #file: number;
  #places = new Float64Array(1024);
  #columns = new Int32Array(1024);
  #ends = new Float64Array(1024);
  #count = 0;
  #piece = Buffer.alloc(PIECE_BYTES);
  #pieceEnd = 0;
  #written = 0;

  /** Makes the file. */
  constructor(path: string) {
    this.#file = openSync(path, "wx+");
  }

  get count(): number {
    return this.#count;
  }

  /** Keeps the one row that the leaves hold, and its exact text. In the order of places, then columns. */
  put(place: number, column: number, leaves: readonly LeafBuffer[], exact: string | null): void {
    if (this.#count === this.#places.length) this.#grow();
    for (const { entryCount, valueCount, valueBytes, definitions, repetitions, maxRepetition, bytes, end } of leaves) {
      const header = Buffer.alloc(LEAF_HEADER_BYTES);
      header.writeUInt32LE(entryCount, 0);
      header.writeUInt32LE(valueCount, 4);
      header.writeUInt32LE(valueBytes, 8);
      this.#write(header);
      this.#write(definitions.subarray(0, entryCount));
      if (maxRepetition > 0) this.#write(repetitions.subarray(0, entryCount));
      this.#write(bytes.subarray(end - valueBytes, end));
    }
    const text = Buffer.from(exact ?? "");
    const length = Buffer.alloc(4);
    length.writeInt32LE(exact === null ? -1 : text.length);
    this.#write(length);
    this.#write(text);
    this.#places[this.#count] = place;
    this.#columns[this.#count] = column;
    this.#ends[this.#count++] = this.#written + this.#pieceEnd;
  }

  /** After the last one was put. */
  seal(): void {
    this.#flush();
    this.#piece = Buffer.alloc(0);
  }

  /** Appends a value as one row of the leaves, and gives its exact text. */
  append(place: number, column: number, leaves: readonly LeafBuffer[]): string | null {
    const index = this.#find(place, column);
    const start = index === 0 ? 0 : this.#ends[index - 1]!;
    const record = Buffer.alloc(this.#ends[index]! - start);
    for (let read = 0; read < record.length; ) {
      const got = readSync(this.#file, record, read, record.length - read, start + read);
      if (got === 0) throw new Error("the file of moved values was cut off");
      read += got;
    }
    let at = 0;
    for (const leaf of leaves) at = appendLeaf(leaf, record, at);
    const length = record.readInt32LE(at);
    return length < 0 ? null : record.toString("utf8", at + 4, at + 4 + length);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }

  #find(place: number, column: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const before =
        this.#places[middle]! < place || (this.#places[middle] === place && this.#columns[middle]! < column);
      if (before) low = middle + 1;
      else high = middle;
    }
    if (this.#places[low] !== place || this.#columns[low] !== column || low >= this.#count) {
      throw new Error(`the value of column ${column} at ${place} was not kept`);
    }
    return low;
  }

  #write(bytes: Uint8Array): void {
    if (this.#pieceEnd + bytes.length > PIECE_BYTES) this.#flush();
    if (bytes.length > PIECE_BYTES) {
      this.#writeAll(bytes);
      return;
    }
    this.#piece.set(bytes, this.#pieceEnd);
    this.#pieceEnd += bytes.length;
  }

  #flush(): void {
    this.#writeAll(this.#piece.subarray(0, this.#pieceEnd));
    this.#pieceEnd = 0;
  }

  #writeAll(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#file, bytes, done);
    this.#written += bytes.length;
  }

  #grow(): void {
    const length = this.#count * 2;
    const grown = { places: new Float64Array(length), columns: new Int32Array(length), ends: new Float64Array(length) };
    grown.places.set(this.#places);
    grown.columns.set(this.#columns);
    grown.ends.set(this.#ends);
    this.#places = grown.places;
    this.#columns = grown.columns;
    this.#ends = grown.ends;
  }
}

function appendLeaf(leaf: LeafBuffer, record: Buffer, from: number): number {
  const entries = record.readUInt32LE(from);
  const valueCount = record.readUInt32LE(from + 4);
  const valueBytes = record.readUInt32LE(from + 8);
  let at = from + LEAF_HEADER_BYTES;
  leaf.reserveEntries(entries);
  leaf.definitions.set(record.subarray(at, at + entries), leaf.entryCount);
  at += entries;
  if (leaf.maxRepetition > 0) {
    leaf.repetitions.set(record.subarray(at, at + entries), leaf.entryCount);
    at += entries;
  }
  if (at + valueBytes > record.length) throw malformedFile("a moved value has other leaves than its column");
  leaf.reserve(valueBytes);
  leaf.bytes.set(record.subarray(at, at + valueBytes), leaf.end);
  leaf.end += valueBytes;
  leaf.entryCount += entries;
  leaf.valueCount += valueCount;
  return at + valueBytes;
}
