// Families whose values are text in the file, written by byte straight into the page: what the encoder, the text output
// and the containers (ranges, composites) of such a type share. A family brings its size, its writer and its parser.
import type { ValueType } from "../parquet/schema.ts";
import { type Encode, type Family, malformed } from "./family.ts";
import { bytesOfText, textOfBytes } from "./output-text.ts";

export const stringType: ValueType = { physical: "BYTE_ARRAY", logical: { kind: "string" } };

/** At least the bytes that the text of a value takes. Throws PROTOCOL_VIOLATION when the bytes are not a value. */
export type Measure = (bytes: Uint8Array, view: DataView, at: number, length: number) => number;

/** Writes the text of a value that was measured, into `out` from `to` on, and gives its end. `view` is of `bytes`. */
export type Write = (
  out: Uint8Array,
  to: number,
  bytes: Uint8Array,
  view: DataView,
  at: number,
  length: number,
) => number;

export interface TextForm {
  readonly measure: Measure;
  readonly write: Write;
  /** The text as it stands in a range, with quotes where there must be some. Without it, `write` and a look at each byte. */
  readonly writeBound?: Write;
  /** All values are as long on the wire; `measure` gives `textBytes` for them. */
  readonly fixed?: { readonly wireBytes: number; readonly textBytes: number };
  /** Every text is of printable ASCII without quotes and backslashes. */
  readonly plain?: boolean;
}

/** A family whose values are in the file as Postgres prints them. */
export interface TextFamily extends Family, TextForm {}

export function makeTextFamily(name: string, form: TextForm, parse: Family["parse"]): TextFamily {
  return { ...form, name, type: stringType, encode: encodeText(form), parse, format: textOf(form) };
}

/** Appends the texts of all cells. */
export function encodeText({ measure, write }: TextForm): Encode {
  return (leaf, cells) => {
    const { bytes, view, positions, count } = cells;
    leaf.reserveEntries(count);
    const { definitions, present } = leaf;
    let { bytes: out, view: outView, end, entryCount, valueCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      const length = view.getInt32(at);
      const size = 4 + measure(bytes, view, at + 4, length);
      if (end + size > out.length) {
        leaf.end = end;
        leaf.reserve(size);
        out = leaf.bytes;
        outView = leaf.view;
      }
      const textEnd = write(out, end + 4, bytes, view, at + 4, length);
      outView.setUint32(end, textEnd - end - 4, true);
      end = textEnd;
      definitions[entryCount++] = present;
      valueCount++;
    }
    leaf.valueCount = valueCount;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

export function textOf({ measure, write }: TextForm): Family["format"] {
  return (bytes, view, at, length) => {
    const out = new Uint8Array(measure(bytes, view, at, length));
    return textOfBytes(out.subarray(0, write(out, 0, bytes, view, at, length)));
  };
}

/** Of values that are all as long on the wire. */
export function fixedMeasure(family: string, wireBytes: number, textBytes: number): Measure {
  return (_bytes, _view, at, length) => {
    if (length !== wireBytes) throw malformed(family, at - 4, `${length} bytes`);
    return textBytes;
  };
}

/** Copies bytes; texts are mostly too short for the native copy to be worth its call. */
export function writeBytes(out: Uint8Array, to: number, bytes: Uint8Array, from: number, end: number): number {
  const length = end - from;
  if (length > 48) out.set(bytes.subarray(from, end), to);
  else for (let k = 0; k < length; k++) out[to + k] = bytes[from + k]!;
  return to + length;
}

/** Moves what stands in [from, end) to the right, and gives the new end; short texts without the native copy's call. */
export function moveRight(out: Uint8Array, from: number, end: number, by: number): number {
  if (end - from > 64) out.copyWithin(from + by, from, end);
  else for (let k = end - 1; k >= from; k--) out[k + by] = out[k]!;
  return end + by;
}

/** Writes ASCII. */
export function writeAscii(out: Uint8Array, to: number, text: string): number {
  for (let k = 0; k < text.length; k++) out[to + k] = text.charCodeAt(k);
  return to + text.length;
}

/** Copies bytes with each `quote` and each backslash doubled. */
export function writeDoubled(
  out: Uint8Array,
  to: number,
  bytes: Uint8Array,
  from: number,
  end: number,
  quote: number,
): number {
  let next = to;
  for (let k = from; k < end; k++) {
    const byte = bytes[k]!;
    if (byte === quote || byte === 0x5c) out[next++] = byte;
    out[next++] = byte;
  }
  return next;
}

/** Appends wire bytes, big-endian; grows as needed. */
export class WireBuilder {
  #bytes = new Uint8Array(64);
  #view = new DataView(this.#bytes.buffer);
  #end = 0;

  get length(): number {
    return this.#end;
  }

  uint8(value: number): this {
    const at = this.#take(1);
    this.#view.setUint8(at, value);
    return this;
  }

  uint16(value: number): this {
    const at = this.#take(2);
    this.#view.setUint16(at, value);
    return this;
  }

  int32(value: number): this {
    const at = this.#take(4);
    this.#view.setInt32(at, value);
    return this;
  }

  int64(value: bigint): this {
    const at = this.#take(8);
    this.#view.setBigInt64(at, value);
    return this;
  }

  float16(value: number): this {
    const at = this.#take(2);
    this.#view.setFloat16(at, value);
    return this;
  }

  float32(value: number): this {
    const at = this.#take(4);
    this.#view.setFloat32(at, value);
    return this;
  }

  float64(value: number): this {
    const at = this.#take(8);
    this.#view.setFloat64(at, value);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#take(value.length); // may exchange the buffer
    this.#bytes.set(value, at);
    return this;
  }

  text(value: string): this {
    return this.bytes(bytesOfText(value));
  }

  /** Its length, then the bytes; null: length −1. */
  counted(value: Uint8Array | null): this {
    return value === null ? this.int32(-1) : this.int32(value.length).bytes(value);
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#end);
  }

  #take(size: number): number {
    const at = this.#end;
    this.#end += size;
    if (this.#end > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#end));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}
