// Minimum and maximum of a page's PLAIN values, and how they merge into those of a column chunk.
// Source: parquet.thrift, ColumnOrder TYPE_ORDER, and Statistics.
import { viewedBytes } from "../base/viewed-bytes.ts";
import type { ValueType } from "./schema.ts";
import { MAX_BOUND_BYTES } from "./written-bounds.ts";

/** Bounds as PLAIN bytes; of a BYTE_ARRAY without its length, and only its first KEPT_BOUND_BYTES. */
export interface Bounds {
  readonly min: Uint8Array;
  readonly max: Uint8Array;
}

/** Bounds of one page. `unordered` (a NaN is present): nothing may be said, not even by the chunk that holds the page. */
export type PageBounds = Bounds | "none" | "unordered";

/** Of a long value the bounds keep one byte more than is written: it tells that there is more, and where characters end. */
const KEPT_BOUND_BYTES = MAX_BOUND_BYTES + 1;

/** Bounds of the `count` PLAIN values in bytes[start, end). Booleans are given as one byte per value. */
export function pageBounds(type: ValueType, bytes: Uint8Array, start: number, end: number, count: number): PageBounds {
  if (count === 0) return "none";
  const view = new DataView(bytes.buffer, bytes.byteOffset); // with the room of viewedBytes
  switch (type.physical) {
    case "BOOLEAN":
      return booleanBounds(bytes, start, end);
    case "INT32":
      return int32Bounds(view, start, count);
    case "INT64":
      return int64Bounds(view, start, count);
    case "FLOAT":
    case "DOUBLE":
      return floatBounds(bytes, start, count, type.physical === "FLOAT");
    case "FIXED_LEN_BYTE_ARRAY":
      return fixedBounds(bytes, view, start, count, type.lengthBytes!, type.logical.kind === "decimal");
    case "BYTE_ARRAY":
      return byteArrayBounds(bytes, view, start, count);
  }
}

/** The bounds of both. */
export function mergeBounds(type: ValueType, a: PageBounds, b: PageBounds): PageBounds {
  if (a === "unordered" || b === "unordered") return "unordered";
  if (a === "none") return b;
  if (b === "none") return a;
  return {
    min: compareBounds(type, a.min, b.min) <= 0 ? a.min : b.min,
    max: compareBounds(type, a.max, b.max) >= 0 ? a.max : b.max,
  };
}

/** The order of TYPE_ORDER for PLAIN bytes of this type. */
export function compareBounds(type: ValueType, a: Uint8Array, b: Uint8Array): number {
  if (type.physical === "BYTE_ARRAY") return Buffer.compare(a, b);
  if (type.physical === "FIXED_LEN_BYTE_ARRAY") {
    if (type.logical.kind !== "decimal") return Buffer.compare(a, b);
    const first = ((a[0]! << 24) >> 24) - ((b[0]! << 24) >> 24);
    return first !== 0 ? first : Buffer.compare(a, b);
  }
  const x = boundNumber(type, a);
  const y = boundNumber(type, b);
  return x < y ? -1 : x > y ? 1 : 0;
}

function booleanBounds(bytes: Uint8Array, start: number, end: number): Bounds {
  let all = 1;
  let any = 0;
  for (let i = start; i < end; i++) {
    all &= bytes[i]!;
    any |= bytes[i]!;
  }
  return { min: Uint8Array.of(all), max: Uint8Array.of(any) };
}

function int32Bounds(view: DataView, start: number, count: number): Bounds {
  let min = view.getInt32(start, true);
  let max = min;
  for (let i = 1, at = start + 4; i < count; i++, at += 4) {
    const value = view.getInt32(at, true);
    if (value < min) min = value;
    else if (value > max) max = value;
  }
  const result = { min: viewedBytes(4), max: viewedBytes(4) };
  new DataView(result.min.buffer).setInt32(0, min, true);
  new DataView(result.max.buffer).setInt32(0, max, true);
  return result;
}

// Compared as two halves: a bigint per value would be an allocation per value.
function int64Bounds(view: DataView, start: number, count: number): Bounds {
  let minHigh = view.getInt32(start + 4, true);
  let minLow = view.getUint32(start, true);
  let maxHigh = minHigh;
  let maxLow = minLow;
  for (let i = 1, at = start + 8; i < count; i++, at += 8) {
    const high = view.getInt32(at + 4, true);
    const low = view.getUint32(at, true);
    if (high < minHigh || (high === minHigh && low < minLow)) {
      minHigh = high;
      minLow = low;
    } else if (high > maxHigh || (high === maxHigh && low > maxLow)) {
      maxHigh = high;
      maxLow = low;
    }
  }
  return { min: int64Bytes(minHigh, minLow), max: int64Bytes(maxHigh, maxLow) };
}

function int64Bytes(high: number, low: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, low, true);
  view.setInt32(4, high, true);
  return bytes;
}

// A NaN has no place in the order and readers disagree on it, so bounds would lose its row. Zero has two signs that
// compare as equal but are told apart by some readers: the lower bound is always -0.0 and the upper +0.0.
function floatBounds(bytes: Uint8Array, start: number, count: number, single: boolean): PageBounds {
  const size = count * (single ? 4 : 8);
  // Pages are aligned; other bytes are copied to where they are. All platforms that Node runs on are little-endian.
  const values = bytes.subarray(start, start + size);
  const aligned = values.byteOffset % 8 === 0 ? values : new Uint8Array(values);
  const { buffer, byteOffset } = aligned;
  const range = single
    ? numberRange(new Float32Array(buffer, byteOffset, count))
    : numberRange(new Float64Array(buffer, byteOffset, count));
  if (!range) return "unordered";
  const { min, max } = range;
  return { min: floatBytes(min === 0 ? -0 : min, single), max: floatBytes(max === 0 ? 0 : max, single) };
}

/** Null when a NaN is among them. */
function numberRange(values: Float32Array | Float64Array): { min: number; max: number } | null {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value < min) min = value;
    if (value > max) max = value;
    if (!(value >= min)) return null;
  }
  return { min, max };
}

function floatBytes(value: number, single: boolean): Uint8Array {
  const bytes = new Uint8Array(single ? 4 : 8);
  const view = new DataView(bytes.buffer);
  if (single) view.setFloat32(0, value, true);
  else view.setFloat64(0, value, true);
  return bytes;
}

function fixedBounds(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  count: number,
  length: number,
  signed: boolean,
): Bounds {
  let min = start;
  let max = start;
  for (let i = 1, at = start + length; i < count; i++, at += length) {
    if (compareFixed(view, at, min, length, signed) < 0) min = at;
    else if (compareFixed(view, at, max, length, signed) > 0) max = at;
  }
  return { min: bytes.slice(min, min + length), max: bytes.slice(max, max + length) };
}

// Big-endian, four bytes a step; of a two's complement only the first byte is signed.
function compareFixed(view: DataView, i: number, j: number, length: number, signed: boolean): number {
  if (signed) {
    const first = view.getInt8(i) - view.getInt8(j);
    if (first !== 0) return first;
  }
  let k = 0;
  for (; k + 4 <= length; k += 4) {
    const difference = view.getUint32(i + k) - view.getUint32(j + k);
    if (difference !== 0) return difference;
  }
  for (; k < length; k++) {
    const difference = view.getUint8(i + k) - view.getUint8(j + k);
    if (difference !== 0) return difference;
  }
  return 0;
}

// Behind what both bounds begin with, four bytes decide for most values, and those of the bounds stay in registers. What
// they leave open is compared with the lower bound; what both have in common is not looked at again for the upper one.
function byteArrayBounds(bytes: Uint8Array, view: DataView, start: number, count: number): Bounds {
  let length = view.getUint32(start, true);
  let at = start + 4;
  let min = at;
  let minLength = length;
  let max = at;
  let maxLength = length;
  let shared = length & ~3; // both bounds begin with the same `shared` bytes
  let minHead = head(bytes, view, min + shared, minLength - shared);
  let maxHead = minHead;
  for (let i = 1; i < count; i++) {
    at += length + 4;
    length = view.getUint32(at - 4, true);
    const words = (length < minLength ? length : minLength) & ~3;
    let k = 0;
    while (k < words && k < shared && view.getInt32(at + k) === view.getInt32(min + k)) k += 4;
    if (k === shared && length >= shared + 4) {
      const valueHead = view.getUint32(at + shared);
      if (valueHead > minHead && valueHead < maxHead) continue;
    }
    while (k < words && view.getInt32(at + k) === view.getInt32(min + k)) k += 4;
    const toMin =
      k < words
        ? view.getUint32(at + k) - view.getUint32(min + k)
        : compareRuns(bytes, view, at + k, length - k, min + k, minLength - k);
    if (toMin < 0) {
      min = at;
      minLength = length;
    } else if (
      // A value that leaves the bounds' common beginning is on the same side of both.
      k < shared
        ? toMin > 0
        : compareRuns(bytes, view, at + shared, length - shared, max + shared, maxLength - shared) > 0
    ) {
      max = at;
      maxLength = length;
    } else continue;
    shared = 0;
    const common = (minLength < maxLength ? minLength : maxLength) & ~3;
    while (shared < common && view.getInt32(min + shared) === view.getInt32(max + shared)) shared += 4;
    minHead = head(bytes, view, min + shared, minLength - shared);
    maxHead = head(bytes, view, max + shared, maxLength - shared);
  }
  return {
    min: bytes.slice(min, min + Math.min(minLength, KEPT_BOUND_BYTES)),
    max: bytes.slice(max, max + Math.min(maxLength, KEPT_BOUND_BYTES)),
  };
}

/** The first of `length` bytes, up to four, as a big-endian number, whose order is theirs; what is missing counts as zero. */
function head(bytes: Uint8Array, view: DataView, at: number, length: number): number {
  if (length >= 4) return view.getUint32(at);
  let value = 0;
  for (let k = 0; k < 4; k++) value = value * 256 + (k < length ? bytes[at + k]! : 0);
  return value;
}

// Four bytes a step, as big-endian numbers, whose order is that of the bytes.
function compareRuns(
  bytes: Uint8Array,
  view: DataView,
  i: number,
  iLength: number,
  j: number,
  jLength: number,
): number {
  const shared = Math.min(iLength, jLength);
  let k = 0;
  for (; k + 4 <= shared; k += 4) {
    const difference = view.getUint32(i + k) - view.getUint32(j + k);
    if (difference !== 0) return difference;
  }
  for (; k < shared; k++) {
    const difference = bytes[i + k]! - bytes[j + k]!;
    if (difference !== 0) return difference;
  }
  return iLength - jLength;
}

function boundNumber(type: ValueType, bytes: Uint8Array): number | bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (type.physical) {
    case "BOOLEAN":
      return bytes[0]!;
    case "INT32":
      return view.getInt32(0, true);
    case "INT64":
      return view.getBigInt64(0, true);
    case "FLOAT":
      return view.getFloat32(0, true);
    default:
      return view.getFloat64(0, true);
  }
}
