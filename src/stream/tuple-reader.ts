// Reads tuples that lie in the arena: identities to compare, and unchanged values to fill in.
// Lengths were checked by the parser (skipTuple) before a tuple came here.
import { tupleKind } from "../postgres/tuple.ts";
import type { Arena } from "./arena.ts";

const HEADER_BYTES = 2; // int16 column count

/**
 * A kind of our own: int32, the position in the arena of a value of an earlier image of the row. Filling a large value
 * into each of many updates of a row would else be a copy of it for each.
 */
const REFERENCE = 0x72; // r

/** Where the column after the one at `at` (its kind byte) starts. */
export function nextColumn(view: DataView, at: number): number {
  const kind = view.getUint8(at);
  if (kind === tupleKind.binary || kind === tupleKind.text) return at + 5 + view.getInt32(at + 1);
  return kind === REFERENCE ? at + 5 : at + 1;
}

/** Where the value of the column at `at` is: its kind byte, which is never a reference. */
export function columnValue(view: DataView, at: number): number {
  return view.getUint8(at) === REFERENCE ? view.getInt32(at + 1) : at;
}

/** Where the first column starts. */
export function firstColumn(tuple: number): number {
  return tuple + HEADER_BYTES;
}

/** Where the tuple ends. */
export function tupleEnd(view: DataView, tuple: number): number {
  let at = firstColumn(tuple);
  for (let column = view.getUint16(tuple); column > 0; column--) at = nextColumn(view, at);
  return at;
}

/** A hash of the tuple's identity columns (ascending). */
export function hashKey(arena: Arena, tuple: number, keyColumns: Int32Array): number {
  const { bytes, view } = arena;
  let at = firstColumn(tuple);
  let column = 0;
  let hash = 0x811c9dc5;
  for (let k = 0; k < keyColumns.length; k++) {
    for (; column < keyColumns[k]!; column++) at = nextColumn(view, at);
    let from = columnValue(view, at);
    const end = nextColumn(view, from);
    for (; from + 4 <= end; from += 4) {
      hash = Math.imul(hash ^ view.getInt32(from, true), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    for (; from < end; from++) hash = Math.imul(hash ^ bytes[from]!, 0x01000193);
  }
  return hash ^ (hash >>> 13);
}

/** Whether both tuples have the same identity, byte by byte. */
export function sameKey(arena: Arena, left: number, right: number, keyColumns: Int32Array): boolean {
  const { bytes, view } = arena;
  let leftAt = firstColumn(left);
  let rightAt = firstColumn(right);
  let column = 0;
  for (let k = 0; k < keyColumns.length; k++) {
    for (; column < keyColumns[k]!; column++) {
      leftAt = nextColumn(view, leftAt);
      rightAt = nextColumn(view, rightAt);
    }
    const leftValue = columnValue(view, leftAt);
    const rightValue = columnValue(view, rightAt);
    const size = nextColumn(view, leftValue) - leftValue;
    if (nextColumn(view, rightValue) - rightValue !== size) return false;
    for (let i = 0; i < size; i++) if (bytes[leftValue + i] !== bytes[rightValue + i]) return false;
  }
  return true;
}

/** Whether some column of the tuple is an unchanged TOASTed value. */
export function hasUnchanged(view: DataView, tuple: number): boolean {
  const columnCount = view.getUint16(tuple);
  let at = firstColumn(tuple);
  for (let column = 0; column < columnCount; column++) {
    if (view.getUint8(at) === tupleKind.unchanged) return true;
    at = nextColumn(view, at);
  }
  return false;
}

/**
 * The tuple with its unchanged columns taken from `from` where that has a value: a new tuple in the arena, which refers
 * to the value. `from` is the row's image before the change (an earlier one of the transaction, or the old tuple that
 * came with it).
 */
export function fillUnchanged(arena: Arena, tuple: number, from: number): number {
  const columnCount = arena.view.getUint16(tuple);
  const filled = arena.append(arena.bytes, tuple, firstColumn(tuple));
  let at = firstColumn(tuple);
  let fromAt = firstColumn(from);
  for (let column = 0; column < columnCount; column++) {
    const end = nextColumn(arena.view, at);
    const value = columnValue(arena.view, fromAt);
    fromAt = nextColumn(arena.view, fromAt);
    if (arena.view.getUint8(at) === tupleKind.unchanged && hasValue(arena.view, value)) {
      const reference = arena.reserve(5);
      arena.view.setUint8(reference, REFERENCE);
      arena.view.setInt32(reference + 1, value);
    } else {
      arena.append(arena.bytes, at, end);
    }
    at = end;
  }
  return filled;
}

function hasValue(view: DataView, at: number): boolean {
  const kind = view.getUint8(at);
  return kind !== tupleKind.null && kind !== tupleKind.unchanged;
}

/**
 * Appends the tuple in bytes[start, end) with other columns: `projection` has the column to take for each, or -1 for
 * one that is not there: that is NULL, or what `fills` has for it.
 */
export function appendProjected(
  arena: Arena,
  bytes: Uint8Array,
  start: number,
  end: number,
  projection: Int32Array,
  fills: readonly (Uint8Array | null)[] | null = null,
): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const columnCount = view.getUint16(start);
  const columns = new Int32Array(columnCount + 1);
  columns[0] = firstColumn(start);
  for (let column = 0; column < columnCount; column++) columns[column + 1] = nextColumn(view, columns[column]!);
  if (columns[columnCount] !== end) throw new RangeError(`a tuple ends at ${columns[columnCount]}, not at ${end}`);
  const tuple = arena.reserve(2);
  arena.view.setUint16(tuple, projection.length);
  for (const [index, column] of projection.entries()) {
    const fill = fills?.[index];
    if (column >= 0) arena.append(bytes, columns[column]!, columns[column + 1]!);
    else if (fill) arena.append(fill, 0, fill.length);
    else arena.bytes[arena.reserve(1)] = tupleKind.null;
  }
  return tuple;
}
