// Thrift's compact protocol, the writing half that Parquet's metadata needs.
// Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md

const TYPE_TRUE = 1;
const TYPE_FALSE = 2;
const TYPE_BYTE = 3;
const TYPE_I32 = 5;
const TYPE_I64 = 6;
const TYPE_BINARY = 8;
const TYPE_LIST = 9;
const TYPE_STRUCT = 12;

const textEncoder = new TextEncoder();

/** Writes one root struct. Fields of a struct come in ascending id; `end()` closes the innermost struct. */
export class ThriftWriter {
  #bytes = new Uint8Array(1024);
  #length = 0;
  #lastId = 0;
  readonly #outerIds: number[] = [];

  i8(id: number, value: number): void {
    this.#field(id, TYPE_BYTE);
    this.#byte(value);
  }

  bool(id: number, value: boolean): void {
    this.#field(id, value ? TYPE_TRUE : TYPE_FALSE);
  }

  i32(id: number, value: number): void {
    this.#field(id, TYPE_I32);
    this.#zigzag32(value);
  }

  /** Numbers up to 2^53, or a bigint. */
  i64(id: number, value: number | bigint): void {
    this.#field(id, TYPE_I64);
    this.#zigzag64(value);
  }

  binary(id: number, value: Uint8Array | string): void {
    this.#field(id, TYPE_BINARY);
    this.#binaryValue(value);
  }

  struct(id: number): void {
    this.#field(id, TYPE_STRUCT);
    this.#open();
  }

  end(): void {
    this.#byte(0);
    this.#lastId = this.#outerIds.pop() ?? 0;
  }

  structList<T>(id: number, items: readonly T[], write: (item: T) => void): void {
    this.#listHeader(id, TYPE_STRUCT, items.length);
    for (const item of items) {
      this.#open();
      write(item);
      this.end();
    }
  }

  i32List(id: number, items: readonly number[]): void {
    this.#listHeader(id, TYPE_I32, items.length);
    for (const item of items) this.#zigzag32(item);
  }

  i64List(id: number, items: readonly number[]): void {
    this.#listHeader(id, TYPE_I64, items.length);
    for (const item of items) this.#zigzag64(item);
  }

  boolList(id: number, items: readonly boolean[]): void {
    this.#listHeader(id, TYPE_TRUE, items.length);
    for (const item of items) this.#byte(item ? TYPE_TRUE : TYPE_FALSE);
  }

  binaryList(id: number, items: readonly (Uint8Array | string)[]): void {
    this.#listHeader(id, TYPE_BINARY, items.length);
    for (const item of items) this.#binaryValue(item);
  }

  /** Closes the root struct and gives its bytes. */
  finish(): Uint8Array {
    this.#byte(0);
    return this.#bytes.slice(0, this.#length);
  }

  #open(): void {
    this.#outerIds.push(this.#lastId);
    this.#lastId = 0;
  }

  #field(id: number, type: number): void {
    const delta = id - this.#lastId;
    if (delta > 0 && delta <= 15) {
      this.#byte((delta << 4) | type);
    } else {
      this.#byte(type);
      this.#zigzag32(id);
    }
    this.#lastId = id;
  }

  #listHeader(id: number, type: number, size: number): void {
    this.#field(id, TYPE_LIST);
    if (size < 15) {
      this.#byte((size << 4) | type);
    } else {
      this.#byte(0xf0 | type);
      this.#varint(size);
    }
  }

  #binaryValue(value: Uint8Array | string): void {
    const bytes = typeof value === "string" ? textEncoder.encode(value) : value;
    this.#varint(bytes.length);
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #zigzag32(value: number): void {
    this.#varint(((value << 1) ^ (value >> 31)) >>> 0);
  }

  #zigzag64(value: number | bigint): void {
    let rest = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
    while (rest > 0x7fn) {
      this.#byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.#byte(Number(rest));
  }

  #varint(value: number): void {
    let rest = value;
    while (rest > 0x7f) {
      this.#byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.#byte(rest);
  }

  #byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  #reserve(size: number): void {
    if (this.#length + size <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + size));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
