// The native profile: types that Parquet can say more of than a text. Each shape has the wire bytes of the type as
// Postgres sends them; what is no record or array on the wire is made one first (type-tree.ts, `rewired`).
// Wire formats: https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/{timestamp,geo_ops,rangetypes,multirangetypes}.c
import { type Codec, type Family, malformed } from "./family.ts";
import { boolFamily, float8Family, int4Family, int8Family } from "./fixed-width.ts";
import { nativeJson, nativeTime, nativeUuid } from "./native-values.ts";
import { RANGE_EMPTY, RANGE_LOWER_INCLUSIVE, RANGE_UPPER_INCLUSIVE, type RangeParts, readRange } from "./range-wire.ts";
import {
  listTree,
  type Rewire,
  type Shape,
  type StructField,
  type TypeTree,
  valueTree,
  type WireWriter,
} from "./type-tree.ts";

const BOOL = 16;
const INT8 = 20;
const INT4 = 23;
const FLOAT8 = 701;
const RECORD = 2249;

/** By OID (pg_type.dat). The family is the portable one, whose texts hold here too. */
export const nativeShapes: ReadonlyMap<number, (family: Family) => Shape> = new Map<number, (family: Family) => Shape>([
  // Not json: it may hold half a surrogate pair ("\\ud83d"), and DuckDB refuses a whole file for it. jsonb may not.
  [3802, (family) => ({ kind: "value", family: nativeJson(family) })],
  [1083, (family) => ({ kind: "value", family: nativeTime(family) })],
  [2950, (family) => ({ kind: "value", family: nativeUuid(family) })],
  [1186, intervalShape],
  [600, (family) => numbersShape(family, ["x", "y"])], // point
  [601, (family) => numbersShape(family, ["x1", "y1", "x2", "y2"])], // lseg
  [603, (family) => numbersShape(family, ["high_x", "high_y", "low_x", "low_y"])], // box
  [628, (family) => numbersShape(family, ["a", "b", "c"])], // line
  [718, (family) => numbersShape(family, ["x", "y", "radius"])], // circle
  [602, pathShape],
  [604, polygonShape],
]);

/** STRUCT(lower, upper, lower_inc, upper_inc, empty). An infinite bound is NULL. */
export function rangeShape(codec: Codec, subtype: TypeTree, subtypeOid: number): Shape {
  const bool = valueTree(boolFamily);
  const fields = [
    field("lower", 1, subtypeOid, subtype),
    field("upper", 2, subtypeOid, subtype),
    field("lower_inc", 3, BOOL, bool),
    field("upper_inc", 4, BOOL, bool),
    field("empty", 5, BOOL, bool),
  ];
  return rewired(codec, { kind: "struct", fields }, (bytes, view, at, length, out) => {
    rewireRange(bytes, view, at, length, out, subtypeOid);
    return true;
  });
}

/** A LIST of the range's STRUCT. */
export function multirangeShape(range: TypeTree, rangeOid: number): Shape {
  const rewire: Rewire = (bytes, view, at, length, out) => {
    const count = length >= 4 ? view.getInt32(at) : -1;
    if (count < 0 || count * 4 > length) throw malformed("multirange", at - 4, `${count} ranges in ${length} bytes`);
    arrayHeader(out, count, rangeOid);
    // The ranges lie as an array's elements do: each behind its length.
    out.copy(bytes, at + 4, length - 4);
    return true;
  };
  return { kind: "rewired", rewire, inner: listTree(range, rangeOid) };
}

const parts: RangeParts = { flags: 0, lower: -1, upper: -1 };

function rewireRange(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  length: number,
  out: WireWriter,
  subtypeOid: number,
): void {
  readRange(view, at, length, parts);
  const { flags, lower, upper } = parts;
  out.int32(5);
  for (const bound of [lower, upper]) {
    if (bound >= 0) out.field(subtypeOid, bytes, bound + 4, view.getInt32(bound));
    else {
      out.int32(subtypeOid);
      out.int32(-1);
    }
  }
  for (const flag of [RANGE_LOWER_INCLUSIVE, RANGE_UPPER_INCLUSIVE, RANGE_EMPTY]) {
    out.int32(BOOL);
    out.int32(1);
    out.byte((flags & flag) === 0 ? 0 : 1);
  }
}

/** STRUCT(months, days, micros). Infinity is the greatest of each, told as text too. */
function intervalShape(codec: Codec): Shape {
  const fields = [
    field("months", 1, INT4, valueTree(int4Family)),
    field("days", 2, INT4, valueTree(int4Family)),
    field("micros", 3, INT8, valueTree(int8Family)),
  ];
  return rewired(codec, { kind: "struct", fields }, (bytes, view, at, length, out) => {
    if (length !== 16) throw malformed("interval", at - 4, `${length} bytes`);
    out.int32(3);
    out.field(INT4, bytes, at + 12, 4);
    out.field(INT4, bytes, at + 8, 4);
    out.field(INT8, bytes, at, 8);
    const days = view.getInt32(at + 8);
    const infinite = days === view.getInt32(at + 12) && (days === 0x7fffffff || days === -0x80000000);
    return !infinite || view.getInt32(at) !== days || view.getInt32(at + 4) !== (days < 0 ? 0 : -1);
  });
}

/** A STRUCT of float8 that lie behind each other. */
function numbersShape(codec: Codec, names: readonly string[]): Shape {
  return rewired(codec, { kind: "struct", fields: numberFields(names) }, (bytes, _view, at, length, out) => {
    if (length !== names.length * 8) throw malformed(codec.name, at - 4, `${length} bytes`);
    numbersRecord(out, bytes, at, names.length);
    return true;
  });
}

/** STRUCT(closed, points) */
function pathShape(codec: Codec): Shape {
  const fields = [field("closed", 1, BOOL, valueTree(boolFamily)), field("points", 2, RECORD, pointsTree(codec))];
  return rewired(codec, { kind: "struct", fields }, (bytes, view, at, length, out) => {
    if (length < 5) throw malformed("path", at - 4, `${length} bytes`);
    out.int32(2);
    out.field(BOOL, bytes, at, 1);
    out.int32(RECORD);
    const from = out.end;
    out.int32(0);
    writePoints("path", out, bytes, view, at + 1, length - 1);
    out.view.setInt32(from, out.end - from - 4);
    return true;
  });
}

/** A LIST of points. */
function polygonShape(codec: Codec): Shape {
  const rewire: Rewire = (bytes, view, at, length, out) => {
    writePoints("polygon", out, bytes, view, at, length);
    return true;
  };
  return { kind: "rewired", rewire, inner: pointsTree(codec) };
}

function pointsTree(codec: Codec): TypeTree {
  return listTree({ codec, shape: { kind: "struct", fields: numberFields(["x", "y"]) } }, RECORD);
}

/** int32 count, then the points, to an array of records. */
function writePoints(
  name: string,
  out: WireWriter,
  bytes: Uint8Array,
  view: DataView,
  at: number,
  length: number,
): void {
  const count = length >= 4 ? view.getInt32(at) : -1;
  if (count < 0 || length !== 4 + count * 16) throw malformed(name, at, `${count} points in ${length} bytes`);
  arrayHeader(out, count, RECORD);
  for (let k = 0; k < count; k++) {
    out.int32(4 + 2 * 16);
    numbersRecord(out, bytes, at + 4 + k * 16, 2);
  }
}

function numberFields(names: readonly string[]): StructField[] {
  return names.map((name, k) => field(name, k + 1, FLOAT8, valueTree(float8Family)));
}

function numbersRecord(out: WireWriter, bytes: Uint8Array, at: number, count: number): void {
  out.int32(count);
  for (let k = 0; k < count; k++) out.field(FLOAT8, bytes, at + k * 8, 8);
}

function arrayHeader(out: WireWriter, count: number, elementOid: number): void {
  out.int32(count === 0 ? 0 : 1);
  out.int32(0);
  out.int32(elementOid);
  if (count === 0) return;
  out.int32(count);
  out.int32(1);
}

function field(name: string, number: number, typeOid: number, tree: TypeTree): StructField {
  return { name, number, typeOid, tree };
}

function rewired(codec: Codec, shape: Shape, rewire: Rewire): Shape {
  return { kind: "rewired", rewire, inner: { codec, shape } };
}
