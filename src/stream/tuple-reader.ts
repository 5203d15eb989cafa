// Reads tuples that lie in the arena: identities to compare, and unchanged values to fill in.
// Lengths were checked by the parser (skipTuple) before a tuple came here.
import { tupleKind } from "../postgres/tuple.ts";
import type { Arena } from "./arena.ts";

const HEADER_BYTES = 2; // int16 column count

/** Where the column after the one at `at` (its kind byte) starts. */
export function nextColumn(view: DataView, at: number): number {
  const kind = view.getUint8(at);
  return kind === tupleKind.null || kind === tupleKind.unchanged ? at + 1 : at + 5 + view.getInt32(at + 1);
}

/** Where the first column starts. */
export function firstColumn(tuple: number): number {
  return tuple + HEADER_BYTES;
}

/** A hash of the tuple's identity columns (ascending relation columns). */
export function hashKey(arena: Arena, tuple: number, keyColumns: Int32Array): number {
  const { bytes, view } = arena;
  let at = firstColumn(tuple);
  let column = 0;
  let hash = 0x811c9dc5;
  for (let k = 0; k < keyColumns.length; k++) {
    for (; column < keyColumns[k]!; column++) at = nextColumn(view, at);
    const end = nextColumn(view, at);
    let from = at;
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
    const size = nextColumn(view, leftAt) - leftAt;
    if (nextColumn(view, rightAt) - rightAt !== size) return false;
    for (let i = 0; i < size; i++) if (bytes[leftAt + i] !== bytes[rightAt + i]) return false;
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
 * The tuple with its unchanged columns taken from `from` where that has a value: a new tuple in the arena. `from` is
 * the row's image before the change (an earlier one of the transaction, or the old tuple that came with it).
 */
export function fillUnchanged(arena: Arena, tuple: number, from: number): number {
  const columnCount = arena.view.getUint16(tuple);
  const filled = arena.append(arena.bytes, tuple, firstColumn(tuple));
  let at = firstColumn(tuple);
  let fromAt = firstColumn(from);
  for (let column = 0; column < columnCount; column++) {
    const end = nextColumn(arena.view, at);
    const fromEnd = nextColumn(arena.view, fromAt);
    const known = arena.view.getUint8(at) === tupleKind.unchanged && arena.view.getUint8(fromAt) !== tupleKind.null;
    if (known) arena.append(arena.bytes, fromAt, fromEnd);
    else arena.append(arena.bytes, at, end);
    at = end;
    fromAt = fromEnd;
  }
  return filled;
}
