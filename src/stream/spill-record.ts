// The form of one spilled change: a header of fixed size, the old tuple, the new tuple, as they came. Little-endian:
//   0 uint32 size of all · 4 uint32 sequence · 8 int32 (sub)transaction id · 12 int32 route · 16 uint32 relation
//   20 uint32 size of the old tuple, 0 for none · 24 uint8 operation
import type { Arena } from "./arena.ts";

export const HEADER_BYTES = 25;

export interface SpillRecord {
  sequence: number;
  xid: number;
  /** Changes with the same route stay together, however often a part is split. */
  route: number;
  relation: number;
  operation: number;
  /** In the arena that the record is written from or was read into: the old tuple, and behind it the new one; either may be missing. */
  oldStart: number;
  newStart: number;
  newEnd: number;
}

export function emptyRecord(): SpillRecord {
  return {
    ...{ sequence: 0, xid: 0, route: 0, relation: 0, operation: 0 },
    ...{ oldStart: 0, newStart: 0, newEnd: 0 },
  };
}

/** Writes a record whose tuples lie in `source`. */
export function writeRecord(target: Arena, at: number, record: SpillRecord, source: Uint8Array): void {
  const { view } = target;
  const { oldStart, newStart, newEnd } = record;
  view.setUint32(at, HEADER_BYTES + newEnd - oldStart, true);
  view.setUint32(at + 4, record.sequence, true);
  view.setInt32(at + 8, record.xid, true);
  view.setInt32(at + 12, record.route, true);
  view.setUint32(at + 16, record.relation, true);
  view.setUint32(at + 20, newStart - oldStart, true);
  view.setUint8(at + 24, record.operation);
  target.write(at + HEADER_BYTES, source, oldStart, newEnd);
}

/** Reads the record at `at` and gives where the next one is. */
export function readRecord(view: DataView, at: number, record: SpillRecord): number {
  const end = at + view.getUint32(at, true);
  record.sequence = view.getUint32(at + 4, true);
  record.xid = view.getInt32(at + 8, true);
  record.route = view.getInt32(at + 12, true);
  record.relation = view.getUint32(at + 16, true);
  record.operation = view.getUint8(at + 24);
  record.oldStart = at + HEADER_BYTES;
  record.newStart = record.oldStart + view.getUint32(at + 20, true);
  record.newEnd = end;
  return end;
}
