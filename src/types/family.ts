// What every type family offers: from wire bytes into a page, from text to wire bytes, and back to text.
import { PgFloError } from "../base/errors.ts";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { ValueType } from "../parquet/schema.ts";

/**
 * One column's values of some rows. A position is the offset of a value's int32 length field (big-endian, its bytes
 * behind it), or a negative cell code of leaf-buffer.ts.
 */
export interface Cells {
  bytes: Uint8Array;
  view: DataView;
  positions: Int32Array;
  count: number;
}

/** Values whose column type could not hold them: index into the cells, and the exact Postgres text. */
export class InexactValues {
  readonly indexes: number[] = [];
  readonly texts: string[] = [];

  add(index: number, text: string): void {
    this.indexes.push(index);
    this.texts.push(text);
  }

  clear(): void {
    this.indexes.length = 0;
    this.texts.length = 0;
  }
}

/** Appends all cells to the page. Throws PROTOCOL_VIOLATION for bytes that are not a value of the type. */
export type Encode = (leaf: LeafBuffer, cells: Cells, inexact: InexactValues) => void;

/** The same for a column of several leaves, in the order of its tree. */
export type EncodeColumn = (leaves: readonly LeafBuffer[], cells: Cells, inexact: InexactValues) => void;

/** A type's two forms. */
export interface Codec {
  readonly name: string;
  /** A value's text output to its binary wire bytes: the text decoder is this, then `encode`. */
  readonly parse: (text: string) => Uint8Array;
  /** A value's binary wire bytes to its text output (DateStyle ISO, TimeZone UTC, extra_float_digits > 0). */
  readonly format: (bytes: Uint8Array, view: DataView, at: number, length: number) => string;
}

/** A type whose values are one value each in the file. */
export interface Family extends Codec {
  readonly type: ValueType;
  /** From the type's binary wire format. */
  readonly encode: Encode;
}

export function wrongLength(family: string, offset: number, length: number): PgFloError {
  return malformed(family, offset, `${length} bytes`);
}

/** A value that is not what its type's wire format allows. Never tells the value, only its place. */
export function malformed(family: string, offset: number, what: string): PgFloError {
  return new PgFloError("PROTOCOL_VIOLATION", `a ${family} value at byte ${offset} of the received data: ${what}`, {
    facts: { family, offset },
  });
}
