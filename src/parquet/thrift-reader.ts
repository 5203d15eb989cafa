// Thrift's compact protocol, the reading half: structs as maps from field id to value, for footers and page headers that
// thrift.ts wrote. Refuses types that Parquet's metadata do not have, and everything that ends before it should.
// Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
import { PgFloError } from "../base/errors.ts";

/** Integers of every width are numbers: offsets and counts stay below 2^53. */
export type ThriftValue = number | boolean | Uint8Array | ThriftStruct | readonly ThriftValue[];
export type ThriftStruct = ReadonlyMap<number, ThriftValue>;

const TYPE_TRUE = 1;
const TYPE_FALSE = 2;
const TYPE_BYTE = 3;
const TYPE_I16 = 4;
const TYPE_I32 = 5;
const TYPE_I64 = 6;
const TYPE_BINARY = 8;
const TYPE_LIST = 9;
const TYPE_STRUCT = 12;
/** Deeper than any struct of Parquet. */
const MAX_DEPTH = 16;

/** The struct that begins at `at`, and where it ends. */
export function readThrift(bytes: Uint8Array, at: number): { readonly struct: ThriftStruct; readonly end: number } {
  const reader = new Reader(bytes, at);
  const struct = reader.struct(0);
  return { struct, end: reader.at };
}

/** A file is not what our writer makes. Its bytes are those of the manifest's checksum, so it is a defect of ours. */
export function malformedFile(what: string): PgFloError {
  return new PgFloError("INTERNAL", `Parquet file, read, ${what}`);
}

class Reader {
  at: number;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  struct(depth: number): ThriftStruct {
    if (depth > MAX_DEPTH) throw malformedFile("metadata nested too deep");
    const fields = new Map<number, ThriftValue>();
    for (let id = 0; ; ) {
      const header = this.#byte();
      if (header === 0) return fields;
      const type = header & 0x0f;
      id = header >> 4 === 0 ? this.#zigzag() : id + (header >> 4);
      fields.set(id, type === TYPE_TRUE || type === TYPE_FALSE ? type === TYPE_TRUE : this.#value(type, depth));
    }
  }

  #value(type: number, depth: number): ThriftValue {
    switch (type) {
      case TYPE_TRUE: // in a list: one byte each
      case TYPE_FALSE:
        return this.#byte() === TYPE_TRUE;
      case TYPE_BYTE:
        return (this.#byte() << 24) >> 24;
      case TYPE_I16:
      case TYPE_I32:
      case TYPE_I64:
        return this.#zigzag();
      case TYPE_BINARY:
        return this.#binary();
      case TYPE_LIST:
        return this.#list(depth);
      case TYPE_STRUCT:
        return this.struct(depth + 1);
      default:
        throw malformedFile(`metadata of thrift type ${type}`);
    }
  }

  #list(depth: number): ThriftValue[] {
    const header = this.#byte();
    const size = header >> 4 === 15 ? this.#varint() : header >> 4;
    if (size > this.#bytes.length - this.at) throw malformedFile("a list ends outside of its metadata");
    return Array.from({ length: size }, () => this.#value(header & 0x0f, depth));
  }

  #binary(): Uint8Array {
    const length = this.#varint();
    if (length > this.#bytes.length - this.at) throw malformedFile("a text ends outside of its metadata");
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  #zigzag(): number {
    const value = this.#varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  // By multiplication: shifts end at 32 bits.
  #varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (value > Number.MAX_SAFE_INTEGER) throw malformedFile("a number above 2^53 in its metadata");
      if (byte < 0x80) return value;
    }
  }

  #byte(): number {
    if (this.at >= this.#bytes.length) throw malformedFile("its metadata end too early");
    return this.#bytes[this.at++]!;
  }
}
