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
  /** In the arena that the record is written from or was read into; an end that equals its start: no tuple. */
  oldStart: number;
  oldEnd: number;
  newStart: number;
  newEnd: number;
}

export function emptyRecord(): SpillRecord {
  return {
    ...{ sequence: 0, xid: 0, route: 0, relation: 0, operation: 0 },
    ...{ oldStart: 0, oldEnd: 0, newStart: 0, newEnd: 0 },
  };
}

export function recordSize({ oldStart, oldEnd, newStart, newEnd }: SpillRecord): number {
  return HEADER_BYTES + (oldEnd - oldStart) + (newEnd - newStart);
}

/** Writes a record whose tuples lie in `source`. */
export function writeRecord(target: Arena, at: number, record: SpillRecord, source: Uint8Array): void {
  const { view } = target;
  const { oldStart, oldEnd, newStart, newEnd } = record;
  view.setUint32(at, recordSize(record), true);
  view.setUint32(at + 4, record.sequence, true);
  view.setInt32(at + 8, record.xid, true);
  view.setInt32(at + 12, record.route, true);
  view.setUint32(at + 16, record.relation, true);
  view.setUint32(at + 20, oldEnd - oldStart, true);
  view.setUint8(at + 24, record.operation);
  const body = at + HEADER_BYTES;
  if (oldEnd === newStart || newEnd === newStart) {
    // They lie one after the other, or there is one of them.
    const end = newEnd > newStart ? newEnd : oldEnd;
    target.write(body, source, oldEnd > oldStart ? oldStart : newStart, end);
    return;
  }
  target.write(body, source, oldStart, oldEnd);
  target.write(body + oldEnd - oldStart, source, newStart, newEnd);
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
  record.oldEnd = record.oldStart + view.getUint32(at + 20, true);
  record.newStart = record.oldEnd;
  record.newEnd = end;
  return end;
}
