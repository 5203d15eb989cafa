// Bloom filters of column chunks: whether a value may be in the chunk. Split-block, by XXH64 of the PLAIN value.
// Source: https://github.com/apache/parquet-format/blob/master/BloomFilter.md
// Refuses types whose equal values may have different bytes (floats: 0 and -0, NaN), that a filter is no use for, or by
// whose filters a reader loses rows: DuckDB 1.5 asks for the hash of a blob's printed form, also in its own files.
import { LEVEL_HEADROOM_BYTES, type LeafBuffer } from "./leaf-buffer.ts";
import type { ValueType } from "./schema.ts";
import { ThriftWriter } from "./thrift.ts";
import { hash, xxhash64 } from "./xxhash64.ts";

const BLOCK_BYTES = 32;
const BLOCK_WORDS = 8;
const MAX_BYTES = 4 * 1024 * 1024;
/** Of a filter with as many values as it was made for, about one answer in a hundred is a wrong "maybe". */
const BITS_PER_VALUE = 10.5;

const SALT = Int32Array.of(
  ...[0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31],
);

/** Whether a column of the type may have a filter. */
export function bloomFilterPossible({ physical, logical }: ValueType): boolean {
  if (physical === "BYTE_ARRAY") return logical.kind !== "none";
  return physical !== "BOOLEAN" && physical !== "FLOAT" && physical !== "DOUBLE";
}

/** The hashes of a chunk's values, from which its filter is made when all are there: its size depends on their number. */
export class BloomHashes {
  /** Bytes of one value; 0 for BYTE_ARRAY, whose values carry a length. */
  readonly #width: number;
  #high = new Int32Array(1024);
  #low = new Int32Array(1024);
  #count = 0;

  constructor(type: ValueType) {
    this.#width = type.physical === "BYTE_ARRAY" ? 0 : (type.lengthBytes ?? (type.physical === "INT32" ? 4 : 8));
  }

  addPage(page: LeafBuffer): void {
    this.#add(page.bytes, LEVEL_HEADROOM_BYTES, page.end);
  }

  /** PLAIN values, as a dictionary has them. */
  addValues(values: Uint8Array): void {
    this.#add(values, 0, values.length);
  }

  /** BloomFilterHeader and the bits; null without any value. Begins anew for the next chunk. */
  finish(): Uint8Array | null {
    const count = this.#count;
    this.#count = 0;
    if (count === 0) return null;
    const bits = makeFilter(this.#high, this.#low, count);
    const header = filterHeader(bits.length);
    const filter = new Uint8Array(header.length + bits.length);
    filter.set(header);
    filter.set(bits, header.length);
    return filter;
  }

  #add(bytes: Uint8Array, from: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset); // with the room of viewedBytes
    for (let at = from; at < end; ) {
      const start = this.#width === 0 ? at + 4 : at;
      const length = this.#width === 0 ? view.getUint32(at, true) : this.#width;
      xxhash64(bytes, view, start, length);
      if (this.#count === this.#high.length) this.#grow();
      this.#high[this.#count] = hash.high;
      this.#low[this.#count++] = hash.low;
      at = start + length;
    }
  }

  #grow(): void {
    const grown = [new Int32Array(this.#count * 2), new Int32Array(this.#count * 2)] as const;
    grown[0].set(this.#high);
    grown[1].set(this.#low);
    [this.#high, this.#low] = grown;
  }
}

/** For so many values, of which equal ones count again: a filter that is too large is not wrong. */
function filterBytes(count: number): number {
  const needed = (count * BITS_PER_VALUE) / 8;
  return Math.min(MAX_BYTES, Math.max(BLOCK_BYTES, 2 ** Math.ceil(Math.log2(needed))));
}

function makeFilter(high: Int32Array, low: Int32Array, count: number): Uint8Array {
  const words = new Int32Array(filterBytes(count) / 4);
  const blocks = words.length / BLOCK_WORDS;
  for (let i = 0; i < count; i++) {
    // The upper half picks the block, the lower one a bit in each of its words.
    const block = Math.floor(((high[i]! >>> 0) * blocks) / 0x100000000) * BLOCK_WORDS;
    for (let word = 0; word < BLOCK_WORDS; word++) {
      words[block + word]! |= 1 << (Math.imul(low[i]!, SALT[word]!) >>> 27);
    }
  }
  return new Uint8Array(words.buffer); // little-endian, as all platforms that Node runs on are
}

function filterHeader(sizeBytes: number): Uint8Array {
  const thrift = new ThriftWriter();
  thrift.i32(1, sizeBytes);
  for (const field of [2, 3, 4]) {
    // Each a union with one member, which is empty: split-block, XXH64, uncompressed.
    thrift.struct(field);
    thrift.struct(1);
    thrift.end();
    thrift.end();
  }
  return thrift.finish();
}
