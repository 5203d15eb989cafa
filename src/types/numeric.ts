// numeric: base-10000 digits on the wire, a scaled integer in the file.
// Wire format: numeric_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/numeric.c:
// int16 digit count, int16 weight of the first digit, uint16 sign, uint16 dscale, then the digits.
import type { ValueType } from "../parquet/schema.ts";
import { type Cells, type Encode, type Family, type InexactValues, malformed } from "./family.ts";
import { digitCount, formatNumeric, parseNumeric, SIGN_NEGATIVE, SIGN_POSITIVE } from "./numeric-text.ts";

const TWO_32 = 0x100000000;

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

/** Throws for a digit above 9999: such bytes are no numeric. */
function checkDigit(digit: number, at: number): void {
  if (digit > 9999) throw malformed("numeric", at, `a digit of ${digit}`);
}

/** 10^0 to 10^22, exact as doubles. */
const powers = Float64Array.from({ length: 23 }, (_, exponent) => Number(10n ** BigInt(exponent)));

// Up to 18 digits: a double holds the scaled value while it is below 2^53, a bigint does the rest.
function encodeSmall(width: 4 | 8, precision: number, scale: number): Encode {
  const limit = powers[precision]!;
  return (leaf, cells, inexact) => {
    const { view, positions, count } = cells;
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
      const digits = digitCount(view, at + 4, view.getInt32(at));
      const sign = view.getUint16(at + 8);
      let value = 0;
      for (let k = 0, digitAt = at + 12; k < digits; k++, digitAt += 2) {
        const digit = view.getUint16(digitAt);
        if (digit > 9999) checkDigit(digit, at);
        value = value * 10000 + digit;
      }
      // value × 10^exponent is the scaled integer.
      const exponent = 4 * (view.getInt16(at + 6) - digits + 1) + scale;
      let exact = value <= Number.MAX_SAFE_INTEGER && (sign === SIGN_POSITIVE || sign === SIGN_NEGATIVE);
      if (exact && exponent !== 0) {
        if (exponent > 22 || exponent < -15) exact = value === 0;
        else if (exponent > 0) value *= powers[exponent]!;
        else {
          const whole = value;
          value = whole / powers[-exponent]!;
          exact = Number.isInteger(value) && value * powers[-exponent]! === whole;
        }
        exact &&= value <= Number.MAX_SAFE_INTEGER;
      }
      if (exact && value < limit) {
        if (sign === SIGN_NEGATIVE) value = -value;
        // A number outside of int32 would make each such store a call, here and for good.
        out.setInt32(end, value | 0, true);
        if (width === 8) out.setInt32(end + 4, Math.floor(value / TWO_32), true);
      } else {
        const scaled = scaledInteger(view, at, precision, scale);
        if (scaled === null) {
          addInexact(inexact, i, cells, at);
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

function addInexact(inexact: InexactValues, index: number, { bytes, view }: Cells, at: number): void {
  const digits = digitCount(view, at + 4, view.getInt32(at));
  for (let k = 0; k < digits; k++) checkDigit(view.getUint16(at + 12 + 2 * k), at);
  inexact.add(index, formatNumeric(bytes, view, at + 4));
}

/** The value times 10^scale; null when that is no integer of at most `precision` digits. For what is rare. */
function scaledInteger(view: DataView, at: number, precision: number, scale: number): bigint | null {
  const sign = view.getUint16(at + 8);
  if (sign !== SIGN_POSITIVE && sign !== SIGN_NEGATIVE) return null;
  let first = 0;
  let last = digitCount(view, at + 4, view.getInt32(at)) - 1;
  while (first <= last && view.getUint16(at + 12 + 2 * first) === 0) first++;
  while (last > first && view.getUint16(at + 12 + 2 * last) === 0) last--;
  if (first > last) return 0n;
  // The value is digits[first..last] × 10^exponent, and both ends are not zero.
  const exponent = 4 * (view.getInt16(at + 6) - last) + scale;
  if (last - first > 10 || exponent > precision || exponent < -3) return null;
  let value = 0n;
  for (let k = first; k <= last; k++) value = value * 10000n + BigInt(view.getUint16(at + 12 + 2 * k));
  if (exponent >= 0) value *= 10n ** BigInt(exponent);
  else {
    const divisor = 10n ** BigInt(-exponent);
    if (value % divisor !== 0n) return null;
    value /= divisor;
  }
  if (value >= 10n ** BigInt(precision)) return null;
  return sign === SIGN_NEGATIVE ? -value : value;
}

// Wide values: three digits are a chunk below 10^12, and a chunk's product with a power of ten is summed up in limbs of
// 24 bits, least first. Doubles hold such sums exactly (at most eight products of 48 bits), and nothing is allocated.
const LIMB = 0x1000000;
const LIMB_COUNT = 6;
const MAX_WIDE_DIGITS = 12;
const MAX_WIDE_EXPONENT = 38;
const powerLimbs = Float64Array.from({ length: (MAX_WIDE_EXPONENT + 1) * LIMB_COUNT }, (_, k) =>
  Number(((10n ** BigInt(Math.floor(k / LIMB_COUNT))) >> BigInt(24 * (k % LIMB_COUNT))) & 0xffffffn),
);

/** The scaled value as four 32-bit words, least first. */
const words = new Int32Array(4);

/** Puts |value| × 10^scale into `words`; false when it is no integer below `limit` (limbs), or rare. */
function loadWords(view: DataView, at: number, digits: number, scale: number, limit: Float64Array): boolean {
  if (digits > MAX_WIDE_DIGITS) return false;
  const weight = view.getInt16(at + 6);
  let l0 = 0;
  let l1 = 0;
  let l2 = 0;
  let l3 = 0;
  let l4 = 0;
  let l5 = 0;
  let l6 = 0;
  for (let k = 0; k < digits; ) {
    const chunkEnd = k + 3 < digits ? k + 3 : digits;
    let chunk = 0;
    for (; k < chunkEnd; k++) {
      const digit = view.getUint16(at + 12 + 2 * k);
      if (digit > 9999) checkDigit(digit, at);
      chunk = chunk * 10000 + digit;
    }
    let exponent = 4 * (weight - chunkEnd + 1) + scale;
    if (exponent < 0) {
      if (exponent < -12) return false;
      chunk /= powers[-exponent]!;
      if (chunk !== Math.floor(chunk)) return false;
      exponent = 0;
    } else if (exponent > MAX_WIDE_EXPONENT) return false;
    const high = Math.floor(chunk / LIMB);
    const low = chunk - high * LIMB;
    const power = exponent * LIMB_COUNT;
    const p0 = powerLimbs[power]!;
    const p1 = powerLimbs[power + 1]!;
    const p2 = powerLimbs[power + 2]!;
    const p3 = powerLimbs[power + 3]!;
    const p4 = powerLimbs[power + 4]!;
    const p5 = powerLimbs[power + 5]!;
    l0 += low * p0;
    l1 += low * p1 + high * p0;
    l2 += low * p2 + high * p1;
    l3 += low * p3 + high * p2;
    l4 += low * p4 + high * p3;
    l5 += low * p5 + high * p4;
    l6 += high * p5;
  }
  l1 += Math.floor(l0 / LIMB);
  l2 += Math.floor(l1 / LIMB);
  l3 += Math.floor(l2 / LIMB);
  l4 += Math.floor(l3 / LIMB);
  l5 += Math.floor(l4 / LIMB);
  l6 += Math.floor(l5 / LIMB);
  if (l6 !== 0) return false;
  // ToInt32 keeps the low 32 bits of a double below 2^53, of which the low 24 are the limb's.
  const b0 = l0 & 0xffffff;
  const b1 = l1 & 0xffffff;
  const b2 = l2 & 0xffffff;
  const b3 = l3 & 0xffffff;
  const b4 = l4 & 0xffffff;
  const difference =
    l5 - limit[5]! || b4 - limit[4]! || b3 - limit[3]! || b2 - limit[2]! || b1 - limit[1]! || b0 - limit[0]!;
  if (difference >= 0) return false;
  words[0] = b0 | (b1 << 24);
  words[1] = (b1 >>> 8) | (b2 << 16);
  words[2] = (b2 >>> 16) | (b3 << 8);
  words[3] = b4 | (l5 << 24);
  return true;
}

function encodeWide(width: number, precision: number, scale: number): Encode {
  const limit = Float64Array.from({ length: LIMB_COUNT }, (_, k) =>
    Number(((10n ** BigInt(precision)) >> BigInt(24 * k)) & 0xffffffn),
  );
  return (leaf, cells, inexact) => {
    const { view, positions, count } = cells;
    leaf.reserve(count * width);
    leaf.reserveEntries(count);
    const { bytes: out, view: outView, definitions, present } = leaf;
    let { end, entryCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      const digits = digitCount(view, at + 4, view.getInt32(at));
      const sign = view.getUint16(at + 8);
      const finite = sign === SIGN_POSITIVE || sign === SIGN_NEGATIVE;
      if (!finite || !loadWords(view, at, digits, scale, limit)) {
        const scaled = scaledInteger(view, at, precision, scale);
        if (scaled === null) {
          addInexact(inexact, i, cells, at);
          definitions[entryCount++] = present - 1;
          continue;
        }
        for (let k = 0; k < 4; k++) words[k] = Number(BigInt.asIntN(32, scaled >> BigInt(32 * k)));
      } else if (sign === SIGN_NEGATIVE) negateWords();
      writeWords(out, outView, end, width);
      end += width;
      definitions[entryCount++] = present;
    }
    leaf.valueCount += (end - leaf.end) / width;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

/** Two's complement. */
function negateWords(): void {
  let carry = 1;
  for (let k = 0; k < 4; k++) {
    words[k] = ~words[k]! + carry;
    if (words[k] !== 0) carry = 0;
  }
}

/** The low `width` bytes (9 to 16), big-endian. */
function writeWords(out: Uint8Array, view: DataView, at: number, width: number): void {
  view.setInt32(at + width - 4, words[0]!);
  view.setInt32(at + width - 8, words[1]!);
  if (width === 16) {
    view.setInt32(at + 4, words[2]!);
    view.setInt32(at, words[3]!);
    return;
  }
  for (let k = 8; k < width; k++) out[at + width - 1 - k] = words[k >> 2]! >>> ((k & 3) * 8);
}
