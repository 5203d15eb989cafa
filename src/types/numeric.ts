// numeric: base-10000 digits on the wire, a scaled integer in the file.
// Wire format: numeric_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/numeric.c:
// int16 digit count, int16 weight of the first digit, uint16 sign, uint16 dscale, then the digits.
import type { ValueType } from "../parquet/schema.ts";
import { type Encode, type Family, malformed } from "./family.ts";

const SIGN_POSITIVE = 0x0000;
const SIGN_NEGATIVE = 0x4000;
const SIGN_NAN = 0xc000;
const SIGN_INFINITY = 0xd000;
const SIGN_MINUS_INFINITY = 0xf000;

const TWO_32 = 0x100000000;
const HEADER_BYTES = 8;

/** Precision and scale of a column without a typmod, and of one too wide for DECIMAL's 38 digits. */
export const BARE_PRECISION = 38;
export const BARE_SCALE = 18;

/** Parquet DECIMAL of a column: INT32, INT64 or the least big-endian bytes, by its precision (1 to 38). */
export function numericFamily(precision: number, scale: number): Family {
  const logical = { kind: "decimal", precision, scale } as const;
  if (precision <= 9) return family({ physical: "INT32", logical }, encodeSmall(4, precision, scale));
  if (precision <= 18) return family({ physical: "INT64", logical }, encodeSmall(8, precision, scale));
  const lengthBytes = Math.ceil((precision * Math.log2(10) + 1) / 8);
  const type: ValueType = { physical: "FIXED_LEN_BYTE_ARRAY", lengthBytes, logical };
  return family(type, encodeWide(lengthBytes, precision, scale));
}

/** typmod to precision and scale, as Postgres declares them: scale may be negative or above the precision (PG 15+). */
export function numericTypmod(typmod: number): { precision: number; scale: number } | null {
  if (typmod < 4) return null;
  const packed = typmod - 4;
  return { precision: (packed >> 16) & 0xffff, scale: ((packed & 0x7ff) ^ 1024) - 1024 };
}

/** The DECIMAL that holds every value of numeric(p,s). */
export function decimalFor(typmod: number): { precision: number; scale: number } {
  const declared = numericTypmod(typmod);
  if (!declared) return { precision: BARE_PRECISION, scale: BARE_SCALE };
  const { precision, scale } = declared;
  const fitted =
    scale < 0 ? { precision: precision - scale, scale: 0 } : { precision: Math.max(precision, scale), scale };
  return fitted.precision <= 38 ? fitted : { precision: BARE_PRECISION, scale: BARE_SCALE };
}

function family(type: ValueType, encode: Encode): Family {
  return { name: "numeric", type, encode, parse: parseNumeric, format: formatNumeric };
}

/** Throws when the bytes at `at` (the length field) are not a numeric; gives the number of digits. */
function digitCount(view: DataView, at: number): number {
  const length = view.getInt32(at);
  if (length < HEADER_BYTES) throw malformed("numeric", at, `${length} bytes`);
  const digits = view.getUint16(at + 4);
  if (length !== HEADER_BYTES + digits * 2) throw malformed("numeric", at, `${digits} digits in ${length} bytes`);
  return digits;
}

// Up to 18 digits: a double holds the scaled value while it is below 2^53, a bigint does the rest.
function encodeSmall(width: 4 | 8, precision: number, scale: number): Encode {
  const limit = 10 ** precision;
  return (leaf, cells, inexact) => {
    const { bytes, view, positions, count } = cells;
    leaf.reserve(count * width);
    leaf.reserveEntries(count);
    const { view: out, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      const digits = digitCount(view, at);
      const sign = view.getUint16(at + 8);
      let value = 0;
      for (let k = 0, digitAt = at + 12; k < digits; k++, digitAt += 2) value = value * 10000 + view.getUint16(digitAt);
      // value × 10^exponent is the scaled integer.
      const exponent = 4 * (view.getInt16(at + 6) - digits + 1) + scale;
      let exact = value <= Number.MAX_SAFE_INTEGER && sign <= SIGN_NEGATIVE;
      if (exact && exponent !== 0) {
        const whole = value;
        value = exponent > 0 ? whole * 10 ** exponent : whole / 10 ** -exponent;
        exact =
          value <= Number.MAX_SAFE_INTEGER &&
          exponent > -16 &&
          (exponent > 0 || (Number.isInteger(value) && value * 10 ** -exponent === whole));
      }
      if (exact && value < limit) {
        if (sign === SIGN_NEGATIVE) value = -value;
        out.setInt32(end, value, true);
        if (width === 8) out.setInt32(end + 4, Math.floor(value / TWO_32), true);
      } else {
        const scaled = scaledInteger(view, at, scale);
        if (scaled === null || scaled >= BigInt(limit) || -scaled >= BigInt(limit)) {
          inexact.add(i, formatNumeric(bytes, view, at + 4));
          definitions[entryCount++] = present - 1;
          continue;
        }
        if (width === 8) out.setBigInt64(end, scaled, true);
        else out.setInt32(end, Number(scaled), true);
      }
      end += width;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / width;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

/** The value times 10^scale, or null for NaN, infinities and values with more fraction digits than `scale`. */
function scaledInteger(view: DataView, at: number, scale: number): bigint | null {
  const digits = digitCount(view, at);
  const sign = view.getUint16(at + 8);
  if (sign !== SIGN_POSITIVE && sign !== SIGN_NEGATIVE) return null;
  let value = 0n;
  for (let k = 0; k < digits; k++) value = value * 10000n + BigInt(view.getUint16(at + 12 + 2 * k));
  if (value === 0n) return 0n;
  const exponent = 4 * (view.getInt16(at + 6) - digits + 1) + scale;
  if (exponent >= 0) {
    if (exponent > 80) return null; // far above 38 digits; 10^65535 is not worth making
    value *= 10n ** BigInt(exponent);
  } else {
    if (-exponent > 4 * digits) return null;
    const divisor = 10n ** BigInt(-exponent);
    if (value % divisor !== 0n) return null;
    value /= divisor;
  }
  return sign === SIGN_NEGATIVE ? -value : value;
}

// Four 32-bit limbs, least first: wide enough for 38 digits, whatever the scale.
const limbs = new Float64Array(4);

/** limbs = limbs × factor + addend. False when it no longer fits 128 bits. `factor` up to 10000. */
function multiplyAdd(factor: number, addend: number): boolean {
  let carry = addend;
  for (let k = 0; k < 4; k++) {
    const product = limbs[k]! * factor + carry;
    carry = Math.floor(product / TWO_32);
    limbs[k] = product - carry * TWO_32;
  }
  return carry === 0;
}

/** Loads |value| × 10^scale into the limbs; false when it is not an exact integer of at most 127 bits. */
function loadLimbs(view: DataView, at: number, scale: number): boolean {
  const digits = digitCount(view, at);
  limbs.fill(0);
  if (digits === 0) return true;
  // Digits that lie below the scale must be zero; a digit may straddle it.
  let exponent = 4 * (view.getInt16(at + 6) - digits + 1) + scale;
  let last = digits;
  while (exponent <= -4 && last > 0) {
    last--;
    if (view.getUint16(at + 12 + 2 * last) !== 0) return false;
    exponent += 4;
  }
  if (last === 0) return true;
  const straddling = exponent < 0;
  for (let k = 0; k < last - 1; k++) if (!multiplyAdd(10000, view.getUint16(at + 12 + 2 * k))) return false;
  const digit = view.getUint16(at + 12 + 2 * (last - 1));
  if (straddling) {
    const divisor = 10 ** -exponent;
    return digit % divisor === 0 && multiplyAdd(10000 / divisor, digit / divisor) && limbs[3]! < 0x80000000;
  }
  if (!multiplyAdd(10000, digit)) return false;
  if (exponent > 40) return false;
  for (; exponent >= 4; exponent -= 4) if (!multiplyAdd(10000, 0)) return false;
  return multiplyAdd(10 ** exponent, 0) && limbs[3]! < 0x80000000;
}

function encodeWide(width: number, precision: number, scale: number): Encode {
  const limit = limitLimbs(precision);
  return (leaf, cells, inexact) => {
    const { bytes, view, positions, count } = cells;
    leaf.reserve(count * width + 16);
    leaf.reserveEntries(count);
    const { bytes: out, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      const sign = view.getUint16(at + 8);
      if (sign > SIGN_NEGATIVE || !loadLimbs(view, at, scale) || !limbsBelow(limit)) {
        digitCount(view, at);
        inexact.add(i, formatNumeric(bytes, view, at + 4));
        definitions[entryCount++] = present - 1;
        continue;
      }
      if (sign === SIGN_NEGATIVE) negateLimbs();
      for (let k = 0; k < width; k++) out[end + width - 1 - k] = limbs[k >> 2]! / 2 ** ((k & 3) * 8);
      end += width;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / width;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

function limitLimbs(precision: number): Float64Array {
  const limit = 10n ** BigInt(precision);
  return Float64Array.from([0n, 32n, 64n, 96n], (shift) => Number((limit >> shift) & 0xffffffffn));
}

function limbsBelow(limit: Float64Array): boolean {
  for (let k = 3; k >= 0; k--) if (limbs[k] !== limit[k]) return limbs[k]! < limit[k]!;
  return false;
}

function negateLimbs(): void {
  let carry = 1;
  for (let k = 0; k < 4; k++) {
    const value = 0xffffffff - limbs[k]! + carry;
    carry = value >= TWO_32 ? 1 : 0;
    limbs[k] = value >= TWO_32 ? 0 : value;
  }
}

/** numeric_out: `dscale` digits behind the point. */
function formatNumeric(_bytes: Uint8Array, view: DataView, at: number): string {
  const digits = view.getUint16(at);
  const weight = view.getInt16(at + 2);
  const sign = view.getUint16(at + 4);
  const scale = view.getUint16(at + 6);
  if (sign === SIGN_NAN) return "NaN";
  if (sign === SIGN_INFINITY) return "Infinity";
  if (sign === SIGN_MINUS_INFINITY) return "-Infinity";
  if (sign !== SIGN_POSITIVE && sign !== SIGN_NEGATIVE) throw malformed("numeric", at, `sign 0x${sign.toString(16)}`);
  const digit = (index: number): string =>
    (index >= 0 && index < digits ? view.getUint16(at + HEADER_BYTES + 2 * index) : 0).toString().padStart(4, "0");
  let whole = "";
  for (let index = 0; index <= weight; index++) whole += digit(index);
  let fraction = "";
  for (let index = weight + 1; fraction.length < scale; index++) fraction += digit(index);
  const text = `${whole.replace(/^0+/, "") || "0"}${scale > 0 ? `.${fraction.slice(0, scale)}` : ""}`;
  return sign === SIGN_NEGATIVE ? `-${text}` : text;
}

/** The wire bytes of a number's text. */
function parseNumeric(text: string): Uint8Array {
  if (text === "NaN") return header(0, 0, SIGN_NAN, 0);
  if (text === "Infinity") return header(0, 0, SIGN_INFINITY, 0x20);
  if (text === "-Infinity") return header(0, 0, SIGN_MINUS_INFINITY, 0x20);
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (!match) throw malformed("numeric", 0, "its text is not a number");
  const [, sign, whole, fraction = ""] = match as unknown as [string, string, string, string | undefined];
  const wholeDigits = whole.padStart(Math.ceil(whole.length / 4) * 4, "0");
  const allDigits = wholeDigits + fraction.padEnd(Math.ceil(fraction.length / 4) * 4, "0");
  const groups = (allDigits.match(/.{4}/g) ?? []).map(Number);
  let weight = wholeDigits.length / 4 - 1;
  while (groups.length > 0 && groups[0] === 0) {
    groups.shift();
    weight--;
  }
  while (groups.at(-1) === 0) groups.pop();
  if (groups.length === 0) weight = 0;
  const negative = sign === "-" && groups.length > 0;
  const bytes = header(groups.length, weight, negative ? SIGN_NEGATIVE : SIGN_POSITIVE, fraction.length);
  const view = new DataView(bytes.buffer);
  for (const [index, group] of groups.entries()) view.setUint16(HEADER_BYTES + 2 * index, group);
  return bytes;
}

function header(digits: number, weight: number, sign: number, scale: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER_BYTES + 2 * digits);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, digits);
  view.setInt16(2, weight);
  view.setUint16(4, sign);
  view.setUint16(6, scale);
  return bytes;
}
