// The TupleData part of a change: int16 column count, then per column a kind byte and for values int32 length and bytes.
// Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html#PROTOCOL-LOGICALREP-MESSAGE-FORMATS-TUPLEDATA
import { violation } from "./wire.ts";

/** Kind bytes of a tuple's columns. */
export const tupleKind = {
  null: 0x6e, // n
  /** A TOASTed value that the update did not touch: the log does not have it. */
  unchanged: 0x75, // u
  text: 0x74, // t: int32 length, bytes
  binary: 0x62, // b: int32 length, bytes
} as const;

/**
 * Checks the tuple at `position` and returns where it ends. Afterwards its lengths can be trusted.
 * Throws PROTOCOL_VIOLATION with the offset when it is malformed or does not end before `end`.
 */
export function skipTuple(view: DataView, position: number, end: number): number {
  if (end - position < 2) throw violation("a tuple is too short", position);
  const columnCount = view.getUint16(position);
  let next = position + 2;
  for (let i = 0; i < columnCount; i++) {
    if (next >= end) throw violation(`a tuple ends before column ${i + 1} of ${columnCount}`, next);
    const kind = view.getUint8(next++);
    if (kind === tupleKind.null || kind === tupleKind.unchanged) continue;
    if (kind !== tupleKind.binary && kind !== tupleKind.text) {
      throw violation(`a tuple's column has the unknown kind ${kind}`, next - 1);
    }
    if (end - next < 4) throw violation("a tuple ends inside of a length", next);
    const length = view.getInt32(next);
    next += 4;
    if (length < 0 || length > end - next) throw violation(`a tuple's value has the impossible length ${length}`, next);
    next += length;
  }
  return next;
}
