// The text output of any type by byte, for the texts that are made of other types' texts: ranges and composites.
// Types without a writer of their own give a string, and its bytes are taken.

import { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { TWO_32, US_OF_DAY, writeTime } from "./date-time.ts";
import { type Codec, type Family, InexactValues, malformed } from "./family.ts";
import { FLOAT8_TEXT_BYTES, writeFloat4, writeFloat8 } from "./float8-digits.ts";
import {
  fixedMeasure,
  type Measure,
  type TextForm,
  type Write,
  writeAscii,
  writeBytes,
  writePadded,
  writeUnsigned,
} from "./text-family.ts";

const encoder = new TextEncoder();

/** Throws PROTOCOL_VIOLATION for bytes that are not a value of the type. Their length field is in front of them. */
export type Check = (bytes: Uint8Array, view: DataView, at: number, length: number) => void;

/** A type's two forms, and what it has more: a family's encoder, a writer of its text. */
export type AnyCodec = Codec & Partial<Family & TextForm>;

/** The text form of a type: its family's own, or one of the common types', else by way of `format`. */
export function textFormOf(codec: AnyCodec, check: Check = checkOf(codec)): TextForm {
  // A writer gives what is in the file, which is not the text output of every family.
  if (codec.measure && codec.write) return { measure: codec.measure, write: codec.write };
  const slow = formattedForm(codec, check);
  return writers.get(codec.name)?.(slow) ?? slow;
}

/** Values are measured before they are written, several at once: the text is made once, and kept by its place. */
export function formattedForm({ format }: Pick<Codec, "format">, check: Check): TextForm {
  const texts = new Map<number, Uint8Array>();
  return {
    measure: (bytes, view, at, length) => {
      check(bytes, view, at, length);
      const text = encoder.encode(format(bytes, view, at, length));
      texts.set(at, text);
      return text.length;
    },
    write: (out, to, _bytes, _view, at) => {
      const text = texts.get(at)!;
      texts.delete(at);
      return writeBytes(out, to, text, 0, text.length);
    },
  };
}

/** What a family's encoder takes is a value: it fills a page that is thrown away. */
export function checkOf({ encode }: Partial<Family>): Check {
  if (!encode) return () => {};
  const scratch = new LeafBuffer({ maxDefinition: 1, maxRepetition: 0 });
  const inexact = new InexactValues();
  const positions = new Int32Array(1);
  return (bytes, view, at) => {
    positions[0] = at - 4;
    encode(scratch, { bytes, view, positions, count: 1 }, inexact);
    scratch.restart();
    inexact.clear();
  };
}

const lengthMeasure: Measure = (_bytes, _view, _at, length) => length;
const writeAll: Write = (out, to, bytes, _view, at, length) => writeBytes(out, to, bytes, at, at + length);

/** By family name; the argument is the form for values that the writer leaves to it. */
const writers: ReadonlyMap<string, (slow: TextForm) => TextForm> = new Map([
  ["text", () => ({ measure: lengthMeasure, write: writeAll })],
  ["bpchar", () => ({ measure: lengthMeasure, write: writeAll })],
  ["json", () => ({ measure: lengthMeasure, write: writeAll })],
  ["bool", () => ({ measure: boolMeasure, write: writeBool })],
  ["int2", () => ({ measure: fixedMeasure("int2", 2, 6), write: writeInt2 })],
  ["int4", () => ({ measure: fixedMeasure("int4", 4, 11), write: writeInt4 })],
  ["int8", () => ({ measure: fixedMeasure("int8", 8, 20), write: writeInt8 })],
  ["oid", () => ({ measure: fixedMeasure("oid", 4, 10), write: writeOid })],
  ["float4", () => ({ measure: fixedMeasure("float4", 4, FLOAT8_TEXT_BYTES), write: writeFloat4At })],
  ["float8", () => ({ measure: fixedMeasure("float8", 8, FLOAT8_TEXT_BYTES), write: writeFloat8At })],
  ["numeric", () => ({ measure: measureNumeric, write: writeNumeric })],
  ["date", dateForm],
  ["timestamp", (slow: TextForm) => timestampForm("timestamp", slow, false)],
  ["timestamptz", (slow: TextForm) => timestampForm("timestamptz", slow, true)],
]);

function boolMeasure(bytes: Uint8Array, _view: DataView, at: number, length: number): number {
  if (length !== 1 || bytes[at]! > 1)
    throw malformed("bool", at - 4, `${length} bytes that are neither true nor false`);
  return 1;
}

function writeBool(out: Uint8Array, to: number, bytes: Uint8Array, _view: DataView, at: number): number {
  out[to] = bytes[at] === 1 ? 0x74 : 0x66;
  return to + 1;
}

function writeSigned(out: Uint8Array, to: number, value: number): number {
  if (value >= 0) return writeUnsigned(out, to, value);
  out[to] = 0x2d;
  return writeUnsigned(out, to + 1, -value);
}

const writeInt2: Write = (out, to, _bytes, view, at) => writeSigned(out, to, view.getInt16(at));
const writeInt4: Write = (out, to, _bytes, view, at) => writeSigned(out, to, view.getInt32(at));
const writeOid: Write = (out, to, _bytes, view, at) => writeUnsigned(out, to, view.getUint32(at));
const writeFloat4At: Write = (out, to, _bytes, view, at) => writeFloat4(out, to, view, at);
const writeFloat8At: Write = (out, to, _bytes, view, at) => writeFloat8(out, to, view, at);

const writeInt8: Write = (out, to, _bytes, view, at) => {
  const value = view.getInt32(at) * TWO_32 + view.getUint32(at + 4);
  if (Number.isSafeInteger(value)) return writeSigned(out, to, value);
  const text = encoder.encode(String(view.getBigInt64(at)));
  return writeBytes(out, to, text, 0, text.length);
};

const DAYS_0000_03_01_TO_2000 = 730425;
const FIRST_DAY = -730119; // 0001-01-01
const LAST_DAY = 2921939; // 9999-12-31

function dateForm(slow: TextForm): TextForm {
  return {
    measure: (bytes, view, at, length) => {
      if (length !== 4) throw malformed("date", at - 4, `${length} bytes`);
      const days = view.getInt32(at);
      return days >= FIRST_DAY && days <= LAST_DAY ? 10 : slow.measure(bytes, view, at, length);
    },
    write: (out, to, bytes, view, at, length) => {
      const days = view.getInt32(at);
      return days >= FIRST_DAY && days <= LAST_DAY
        ? writeDate(out, to, days)
        : slow.write(out, to, bytes, view, at, length);
    },
  };
}

function timestampForm(family: string, slow: TextForm, utc: boolean): TextForm {
  const microseconds = (view: DataView, at: number): number => view.getInt32(at) * TWO_32 + view.getUint32(at + 4);
  // About 285 years to both sides of 2000, which doubles hold exactly.
  const quick = (value: number): boolean => Number.isSafeInteger(value);
  return {
    measure: (bytes, view, at, length) => {
      if (length !== 8) throw malformed(family, at - 4, `${length} bytes`);
      return quick(microseconds(view, at)) ? 29 : slow.measure(bytes, view, at, length);
    },
    write: (out, to, bytes, view, at, length) => {
      const value = microseconds(view, at);
      if (!quick(value)) return slow.write(out, to, bytes, view, at, length);
      const days = Math.floor(value / US_OF_DAY);
      let end = writeDate(out, to, days);
      out[end++] = 0x20;
      end += writeTime(out, end, value - days * US_OF_DAY);
      if (!utc) return end;
      out[end] = 0x2b;
      out[end + 1] = 0x30;
      out[end + 2] = 0x30;
      return end + 3;
    },
  };
}

/** Days since 2000-01-01 as YYYY-MM-DD: https://howardhinnant.github.io/date_algorithms.html#civil_from_days */
function writeDate(out: Uint8Array, to: number, days: number): number {
  const shifted = days + DAYS_0000_03_01_TO_2000;
  const era = Math.floor(shifted / 146097);
  const dayOfEra = (shifted - era * 146097) | 0;
  const leapless = (dayOfEra - ((dayOfEra / 1460) | 0) + ((dayOfEra / 36524) | 0) - ((dayOfEra / 146096) | 0)) | 0;
  const yearOfEra = (leapless / 365) | 0;
  const dayOfYear = dayOfEra - (365 * yearOfEra + ((yearOfEra / 4) | 0) - ((yearOfEra / 100) | 0));
  const monthFromMarch = ((5 * dayOfYear + 2) / 153) | 0;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  writePadded(out, to, yearOfEra + era * 400 + (month <= 2 ? 1 : 0), 4);
  out[to + 4] = 0x2d;
  writePadded(out, to + 5, month, 2);
  out[to + 7] = 0x2d;
  writePadded(out, to + 8, dayOfYear - (((153 * monthFromMarch + 2) / 5) | 0) + 1, 2);
  return to + 10;
}

const NUMERIC_HEADER_BYTES = 8;
const NUMERIC_NAN = 0xc000;
const NUMERIC_INFINITY = 0xd000;
const NUMERIC_MINUS_INFINITY = 0xf000;
const NUMERIC_NEGATIVE = 0x4000;

const measureNumeric: Measure = (_bytes, view, at, length) => {
  const digits = length >= NUMERIC_HEADER_BYTES ? view.getUint16(at) : -1;
  if (length !== NUMERIC_HEADER_BYTES + 2 * digits)
    throw malformed("numeric", at - 4, `${digits} digits in ${length} bytes`);
  const sign = view.getUint16(at + 4);
  if (sign >= NUMERIC_NAN && (sign === NUMERIC_NAN || sign === NUMERIC_INFINITY || sign === NUMERIC_MINUS_INFINITY))
    return 9;
  if (sign !== 0 && sign !== NUMERIC_NEGATIVE) throw malformed("numeric", at - 4, `sign 0x${sign.toString(16)}`);
  for (let k = 0; k < digits; k++) {
    if (view.getUint16(at + NUMERIC_HEADER_BYTES + 2 * k) > 9999)
      throw malformed("numeric", at - 4, "a digit is above 9999");
  }
  return 8 + 4 * Math.max(0, view.getInt16(at + 2) + 1) + view.getUint16(at + 6);
};

const writeNumeric: Write = (out, to, _bytes, view, at) => {
  const sign = view.getUint16(at + 4);
  if (sign === NUMERIC_NAN) return writeAscii(out, to, "NaN");
  if (sign === NUMERIC_INFINITY) return writeAscii(out, to, "Infinity");
  if (sign === NUMERIC_MINUS_INFINITY) return writeAscii(out, to, "-Infinity");
  const digits = view.getUint16(at);
  const weight = view.getInt16(at + 2);
  const scale = view.getUint16(at + 6);
  const digitAt = (index: number): number =>
    index >= 0 && index < digits ? view.getUint16(at + NUMERIC_HEADER_BYTES + 2 * index) : 0;
  let end = to;
  if (sign === NUMERIC_NEGATIVE) out[end++] = 0x2d;
  let index = 0;
  const wholeStart = end;
  for (; index <= weight; index++) {
    if (end > wholeStart) {
      writePadded(out, end, digitAt(index), 4);
      end += 4;
    } else if (digitAt(index) > 0) end = writeUnsigned(out, end, digitAt(index));
  }
  if (end === wholeStart) out[end++] = 0x30;
  if (scale === 0) return end;
  out[end++] = 0x2e;
  const fractionEnd = end + scale;
  for (index = weight + 1; end < fractionEnd; index++, end += 4) writePadded(out, end, digitAt(index), 4);
  return fractionEnd;
};
