// COPY's binary format to cell positions: no value is touched, only where each one starts is written down.
// Source: https://www.postgresql.org/docs/current/sql-copy.html (Binary Format)
import { PgFloError } from "../base/errors.ts";
import { CELL_NULL } from "../parquet/leaf-buffer.ts";

const SIGNATURE = Uint8Array.from("PGCOPY\n\u00ff\r\n\0", (character) => character.charCodeAt(0));
const HEADER_BYTES = SIGNATURE.length + 8; // flags, length of the header extension
const TRAILER = -1;

/** Rows that are collected before they must be taken: bounds the positions' memory and keeps them in cache. */
export const MAX_COLLECTED_ROWS = 4096;

/** Collects rows of one COPY; positions belong to the bytes of the current chunk. */
export class CopyDecoder {
  /** One array per column, `rowCount` of it filled. */
  readonly positions: readonly Int32Array[];
  rowCount = 0;
  #headerSeen = false;
  #trailerSeen = false;

  constructor(columnCount: number) {
    this.positions = Array.from({ length: columnCount }, () => new Int32Array(MAX_COLLECTED_ROWS));
  }

  /** True once the end marker was there: without it a COPY is not complete, whatever the protocol says. */
  get complete(): boolean {
    return this.#trailerSeen;
  }

  get full(): boolean {
    return this.rowCount === MAX_COLLECTED_ROWS;
  }

  /** One CopyData payload: a row, the header in front of the first one, or the end marker. */
  row(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    let at = start;
    if (!this.#headerSeen) {
      at += this.#readHeader(bytes, view, at, end);
      if (at === end) return;
    }
    const { positions } = this;
    const fieldCount = at + 2 <= end ? view.getInt16(at) : -2;
    at += 2;
    if (fieldCount !== positions.length || this.#trailerSeen) {
      if (fieldCount === TRAILER && at === end) {
        this.#trailerSeen = true;
        return;
      }
      throw malformed(start, `a row of ${fieldCount} fields where ${positions.length} were asked for`);
    }
    const row = this.rowCount;
    for (let column = 0; column < fieldCount; column++) {
      if (at + 4 > end) throw malformed(start, `field ${column} starts outside of the row`);
      const length = view.getInt32(at);
      if (length < 0) {
        positions[column]![row] = CELL_NULL;
        at += 4;
      } else {
        positions[column]![row] = at;
        at += 4 + length;
      }
    }
    if (at !== end) throw malformed(start, `its fields end at ${at - start} of ${end - start} bytes`);
    this.rowCount = row + 1;
  }

  #readHeader(bytes: Uint8Array, view: DataView, start: number, end: number): number {
    if (end - start < HEADER_BYTES || SIGNATURE.some((byte, k) => bytes[start + k] !== byte)) {
      throw malformed(start, "no binary header");
    }
    this.#headerSeen = true;
    return HEADER_BYTES + view.getInt32(start + SIGNATURE.length + 4);
  }
}

function malformed(offset: number, what: string): PgFloError {
  return new PgFloError("PROTOCOL_VIOLATION", `COPY data at byte ${offset} of the received data: ${what}`, {
    facts: { offset },
  });
}
