// The text output of any type by byte, for the texts that are made of other types' texts: ranges and composites.
// Types without a writer of their own give a string, and its bytes are taken.

import { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { TWO_32 } from "./date-time.ts";
import { writeDate, writeFour, writeSmall, writeTime, writeUnsigned } from "./digits.ts";
import { type Codec, type Family, InexactValues, malformed } from "./family.ts";
import { FLOAT8_TEXT_BYTES, writeFloat4, writeFloat8 } from "./float8-digits.ts";
import { digitCount, formatNumeric, HEADER_BYTES as NUMERIC_HEADER_BYTES } from "./numeric-text.ts";
import { bytesOfText } from "./output-text.ts";
import { quoteBound } from "./quoted-text.ts";
import { fixedMeasure, type Measure, type TextForm, type Write, writeAscii, writeBytes } from "./text-family.ts";

/** Throws PROTOCOL_VIOLATION for bytes that are not a value of the type. Their length field is in front of them. */
export type Check = (bytes: Uint8Array, view: DataView, at: number, length: number) => void;

/** A type's two forms, and what it has more: a family's encoder, a writer of its text. */
export type AnyCodec = Codec & Partial<Family & TextForm>;

/** The text form of a type: its family's own, or one of the common types', else by way of `format`. */
export function textFormOf(codec: AnyCodec, check: Check = checkOf(codec)): TextForm {
  // A writer gives what is in the file, which is not the text output of every family.
  if (codec.measure && codec.write) return { measure: codec.measure, write: codec.write };
  return writers.get(codec.name)?.(codec) ?? formattedForm(codec, check);
}

/** Values are measured before they are written, several at once: the text is made once, and kept by its place. */
export function formattedForm({ format }: Pick<Codec, "format">, check: Check): TextForm {
  const texts = new Map<number, Uint8Array>();
  return {
    measure: (bytes, view, at, length) => {
      check(bytes, view, at, length);
      const text = bytesOfText(format(bytes, view, at, length));
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

/** By family name; numbers, and the words for those that have no digits, never need quotes in a range. The argument is the codec, for values that a writer leaves to it. */
const writers: ReadonlyMap<string, (codec: AnyCodec) => TextForm> = new Map<string, (codec: AnyCodec) => TextForm>([
  ["text", () => ({ measure: lengthMeasure, write: writeAll })],
  ["bpchar", () => ({ measure: lengthMeasure, write: writeAll })],
  ["json", () => ({ measure: lengthMeasure, write: writeAll })],
  ["bool", () => ({ measure: boolMeasure, write: writeBool })],
  ["int2", () => fixedForm("int2", 2, 6, writeInt2)],
  ["int4", () => fixedForm("int4", 4, 11, writeInt4)],
  ["int8", () => fixedForm("int8", 8, 20, writeInt8)],
  ["oid", () => fixedForm("oid", 4, 10, writeOid)],
  ["float4", () => fixedForm("float4", 4, FLOAT8_TEXT_BYTES, writeFloat4At)],
  ["float8", () => fixedForm("float8", 8, FLOAT8_TEXT_BYTES, writeFloat8At)],
  ["numeric", () => ({ measure: measureNumeric, write: writeNumeric, writeBound: writeNumeric })],
  ["date", dateForm],
  ["timestamp", (codec: AnyCodec) => timestampForm(codec, false)],
  ["timestamptz", (codec: AnyCodec) => timestampForm(codec, true)],
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
  const high = view.getInt32(at);
  const low = view.getInt32(at + 4);
  if (high === 0 && low >= 0) return writeUnsigned(out, to, low);
  const value = high * TWO_32 + (low >>> 0);
  if (Number.isSafeInteger(value)) return writeSigned(out, to, value);
  return writeAscii(out, to, String(view.getBigInt64(at)));
};

/** Of values that are all as long on the wire. */
function fixedForm(name: string, wireBytes: number, textBytes: number, write: Write, writeBound = write): TextForm {
  const measure = fixedMeasure(name, wireBytes, textBytes);
  return { measure, write, writeBound, fixed: { wireBytes, textBytes } };
}

const FIRST_DAY = -730119; // 0001-01-01
const LAST_DAY = 2921939; // 9999-12-31

function dateForm({ format }: AnyCodec): TextForm {
  const write: Write = (out, to, bytes, view, at, length) => {
    const days = view.getInt32(at);
    if (days >= FIRST_DAY && days <= LAST_DAY) return writeDate(out, to, days);
    return writeAscii(out, to, format(bytes, view, at, length));
  };
  // With BC behind it, it has a blank.
  const writeBound: Write = (out, to, bytes, view, at, length) =>
    quoteBound(out, to, write(out, to, bytes, view, at, length));
  return fixedForm("date", 4, 16, write, writeBound);
}

const SECONDS_OF_DAY = 86_400;
/** `294276-12-31 23:59:59.999999+00`, `4714-11-24 00:00:00+00 BC`. */
const TIMESTAMP_BYTES = 32;

/** Of doubles' exact integers: about 285 years to both sides of 2000. */
const SAFE_HIGH = 0x200000;

/** Whether `writeTimestamp` can write it. */
export function isNearTimestamp(view: DataView, at: number): boolean {
  const high = view.getInt32(at);
  return high < SAFE_HIGH && high >= -SAFE_HIGH;
}

/** Date and time without an offset. `between`: the sign that stands between them. */
export function writeTimestamp(out: Uint8Array, to: number, view: DataView, at: number, between: number): number {
  const value = view.getInt32(at) * TWO_32 + view.getUint32(at + 4);
  const seconds = Math.floor(value / 1_000_000);
  const days = Math.floor(seconds / SECONDS_OF_DAY) | 0;
  out[writeDate(out, to, days)] = between;
  return writeTime(out, to + 11, (seconds - days * SECONDS_OF_DAY) | 0, (value - seconds * 1_000_000) | 0);
}

function timestampForm({ name, format }: AnyCodec, utc: boolean): TextForm {
  const write: Write = (out, to, bytes, view, at, length) => {
    if (!isNearTimestamp(view, at)) return writeAscii(out, to, format(bytes, view, at, length));
    const end = writeTimestamp(out, to, view, at, 0x20);
    if (!utc) return end;
    out[end] = 0x2b;
    out[end + 1] = 0x30;
    out[end + 2] = 0x30;
    return end + 3;
  };
  // Always with a blank, but for infinity, which is shorter than any other.
  const writeBound: Write = (out, to, bytes, view, at, length) => {
    const end = write(out, to + 1, bytes, view, at, length);
    if (end - to - 1 <= "-infinity".length) {
      out.copyWithin(to, to + 1, end);
      return end - 1;
    }
    out[to] = 0x22;
    out[end] = 0x22;
    return end + 1;
  };
  return fixedForm(name, 8, TIMESTAMP_BYTES, write, writeBound);
}

const NUMERIC_NAN = 0xc000;
const NUMERIC_INFINITY = 0xd000;
const NUMERIC_MINUS_INFINITY = 0xf000;
const NUMERIC_NEGATIVE = 0x4000;

const measureNumeric: Measure = (_bytes, view, at, length) => {
  const digits = digitCount(view, at, length);
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

const writeNumeric: Write = (out, to, bytes, view, at) => {
  const sign = view.getUint16(at + 4);
  if (sign >= NUMERIC_NAN) {
    return writeAscii(out, to, sign === NUMERIC_NAN ? "NaN" : sign === NUMERIC_INFINITY ? "Infinity" : "-Infinity");
  }
  const digits = view.getUint16(at);
  const weight = view.getInt16(at + 2);
  const scale = view.getUint16(at + 6);
  const first = at + NUMERIC_HEADER_BYTES;
  // The server takes zeros in front away.
  if (digits > 0 && view.getUint16(first) === 0) return writeAscii(out, to, formatNumeric(bytes, view, at));
  let end = to;
  if (sign === NUMERIC_NEGATIVE) out[end++] = 0x2d;
  // What is in front of the point; digits that are not on the wire are zeros.
  if (weight < 0 || digits === 0) out[end++] = 0x30;
  else {
    end = writeSmall(out, end, view.getUint16(first));
    for (let index = 1; index <= weight; index++) {
      end = writeFour(out, end, index < digits ? view.getUint16(first + 2 * index) : 0);
    }
  }
  if (scale === 0) return end;
  out[end++] = 0x2e;
  const fractionEnd = end + scale;
  for (let index = weight + 1; end < fractionEnd; index++) {
    end = writeFour(out, end, index >= 0 && index < digits ? view.getUint16(first + 2 * index) : 0);
  }
  return fractionEnd;
};
