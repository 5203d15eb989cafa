// Families whose wire bytes have one width: booleans, integers, object identifiers, floats.
// Wire formats: the types' send functions, e.g. https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/int8.c
import type { ValueType } from "../parquet/schema.ts";
import { type Encode, type Family, malformed, wrongLength } from "./family.ts";
import { formatFloat4, formatFloat8, parseFloat4, parseFloat8 } from "./float-text.ts";

const none = { kind: "none" } as const;
const int32: ValueType = { physical: "INT32", logical: none };
const int64: ValueType = { physical: "INT64", logical: none };

const encodeBool: Encode = (leaf, cells) => {
  const { view, positions, count } = cells;
  leaf.reserve(count);
  leaf.reserveEntries(count);
  const { bytes: out, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 1) throw wrongLength("bool", at, view.getInt32(at));
    const value = view.getUint8(at + 4);
    if (value > 1) throw malformed("bool", at, `a byte of ${value}`);
    out[end++] = value;
    definitions[entryCount++] = present;
  }
  leaf.valueCount += end - leaf.end;
  leaf.end = end;
  leaf.entryCount = entryCount;
};

// Postgres prints every NaN alike, whatever its sign and payload: the file has this one.
const NAN_FLOAT4 = 0x7fc00000;
const NAN_FLOAT8_HIGH = 0x7ff80000;
const INFINITY_FLOAT4 = 0x7f800000;
const INFINITY_FLOAT8_HIGH = 0x7ff00000;

/** Values of four bytes in the file; int2 is widened. */
function encodeFourBytes(family: string, width: 2 | 4, float: boolean): Encode {
  return (leaf, cells) => {
    const { view, positions, count } = cells;
    leaf.reserve(count * 4);
    leaf.reserveEntries(count);
    const { view: out, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      if (view.getInt32(at) !== width) throw wrongLength(family, at, view.getInt32(at));
      let bits = width === 4 ? view.getInt32(at + 4) : view.getInt16(at + 4);
      if (float && (bits & 0x7fffffff) > INFINITY_FLOAT4) bits = NAN_FLOAT4;
      out.setInt32(end, bits, true);
      end += 4;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / 4;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

// Halves instead of getBigInt64 or getFloat64: no allocation, and no NaN that the engine is free to change.
function encodeEightBytes(family: string, float: boolean): Encode {
  return (leaf, cells) => {
    const { view, positions, count } = cells;
    leaf.reserve(count * 8);
    leaf.reserveEntries(count);
    const { view: out, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      if (view.getInt32(at) !== 8) throw wrongLength(family, at, view.getInt32(at));
      let high = view.getInt32(at + 4);
      let low = view.getInt32(at + 8);
      if (float && (high & 0x7fffffff) >= INFINITY_FLOAT8_HIGH && ((high & 0xfffff) !== 0 || low !== 0)) {
        high = NAN_FLOAT8_HIGH;
        low = 0;
      }
      out.setInt32(end, low, true);
      out.setInt32(end + 4, high, true);
      end += 8;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / 8;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

const encodeOid: Encode = (leaf, cells) => {
  const { view, positions, count } = cells;
  leaf.reserve(count * 8);
  leaf.reserveEntries(count);
  const { view: out, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 4) throw wrongLength("oid", at, view.getInt32(at));
    out.setInt32(end, view.getInt32(at + 4), true);
    out.setInt32(end + 4, 0, true);
    end += 8;
    definitions[entryCount++] = present;
  }
  leaf.valueCount += (end - leaf.end) / 8;
  leaf.end = end;
  leaf.entryCount = entryCount;
};

export const boolFamily: Family = {
  name: "bool",
  type: { physical: "BOOLEAN", logical: none },
  encode: encodeBool,
  parse: (text) => {
    if (text !== "t" && text !== "f") throw malformed("bool", 0, "its text is neither t nor f");
    return Uint8Array.of(text === "t" ? 1 : 0);
  },
  format: (bytes, _view, at) => (bytes[at] ? "t" : "f"),
};

export const int2Family: Family = {
  name: "int2",
  type: int32,
  encode: encodeFourBytes("int2", 2, false),
  parse: (text) => fixed(2, (view) => view.setInt16(0, integer("int2", text, -0x8000, 0x7fff))),
  format: (_bytes, view, at) => String(view.getInt16(at)),
};

export const int4Family: Family = {
  name: "int4",
  type: int32,
  encode: encodeFourBytes("int4", 4, false),
  parse: (text) => fixed(4, (view) => view.setInt32(0, integer("int4", text, -0x80000000, 0x7fffffff))),
  format: (_bytes, view, at) => String(view.getInt32(at)),
};

export const int8Family: Family = {
  name: "int8",
  type: int64,
  encode: encodeEightBytes("int8", false),
  parse: (text) => {
    const value = /^-?\d{1,19}$/.test(text) ? BigInt(text) : null;
    if (value === null || BigInt.asIntN(64, value) !== value) {
      throw malformed("int8", 0, "its text is not an integer of the type");
    }
    return fixed(8, (view) => view.setBigInt64(0, value));
  },
  format: (_bytes, view, at) => String(view.getBigInt64(at)),
};

/** oid, xid, cid: unsigned 32 bits. */
export const oidFamily: Family = {
  name: "oid",
  type: int64,
  encode: encodeOid,
  parse: (text) => fixed(4, (view) => view.setUint32(0, integer("oid", text, 0, 0xffffffff))),
  format: (_bytes, view, at) => String(view.getUint32(at)),
};

export const float4Family: Family = {
  name: "float4",
  type: { physical: "FLOAT", logical: none },
  encode: encodeFourBytes("float4", 4, true),
  parse: (text) => fixed(4, (view) => view.setFloat32(0, parseFloat4(text))),
  format: (_bytes, view, at) => formatFloat4(view, at),
};

export const float8Family: Family = {
  name: "float8",
  type: { physical: "DOUBLE", logical: none },
  encode: encodeEightBytes("float8", true),
  parse: (text) => fixed(8, (view) => view.setFloat64(0, parseFloat8(text))),
  format: (_bytes, view, at) => formatFloat8(view, at),
};

function fixed(width: number, write: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(width);
  write(new DataView(bytes.buffer));
  return bytes;
}

function integer(family: string, text: string, min: number, max: number): number {
  const value = /^-?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw malformed(family, 0, "its text is not an integer of the type");
  return value;
}
