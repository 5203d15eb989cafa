// Integers, dates and times of day as ASCII, by byte: what the texts of most types are made of. Straight-line code over
// int32 and a table of digit pairs, for it runs several times per value; a double would be put on the heap at each call.

/** The two digits of 0 to 99. */
const pairs = Uint8Array.from({ length: 200 }, (_, k) => 0x30 + (k % 2 === 0 ? Math.floor(k / 20) : (k >> 1) % 10));

/** Of 0 to 255: up to three digits from the lowest byte up, and their number in the highest one. */
const octets = Uint32Array.from({ length: 256 }, (_, octet) => {
  const digits = String(octet);
  return [...digits].reduce((packed, digit, k) => packed + digit.charCodeAt(0) * 256 ** k, digits.length * 2 ** 24);
});

/** Writes 0 to 255. Needs room for three digits, whatever the value. */
export function writeOctet(out: Uint8Array, to: number, octet: number): number {
  const packed = octets[octet]!;
  out[to] = packed;
  out[to + 1] = packed >> 8;
  out[to + 2] = packed >> 16;
  return to + (packed >>> 24);
}

/** Writes an integer from 0 to 2^53 in decimal. */
export function writeUnsigned(out: Uint8Array, to: number, value: number): number {
  if (value < 1e9) return writeSmall(out, to, value | 0);
  const high = Math.floor(value / 1e9);
  const end = writeUnsigned(out, to, high);
  writePadded(out, end, value - high * 1e9, 9);
  return end + 9;
}

/** Writes an integer from 0 to 10^9 - 1 in decimal. */
export function writeSmall(out: Uint8Array, to: number, value: number): number {
  if (value < 100) {
    if (value < 10) {
      out[to] = 0x30 + value;
      return to + 1;
    }
    return writeTwo(out, to, value);
  }
  if (value < 10_000) {
    const high = (value / 100) | 0;
    if (high < 10) {
      out[to] = 0x30 + high;
      return writeTwo(out, to + 1, value - high * 100);
    }
    writeTwo(out, to, high);
    return writeTwo(out, to + 2, value - high * 100);
  }
  const high = (value / 10_000) | 0;
  return writeFour(out, writeSmall(out, to, high), value - high * 10_000);
}

/** Writes 0 to 99 as two digits. */
export function writeTwo(out: Uint8Array, to: number, value: number): number {
  const pair = value << 1;
  out[to] = pairs[pair]!;
  out[to + 1] = pairs[pair + 1]!;
  return to + 2;
}

/** Writes 0 to 9999 as four digits. */
export function writeFour(out: Uint8Array, to: number, value: number): number {
  const high = (value / 100) | 0;
  writeTwo(out, to, high);
  return writeTwo(out, to + 2, value - high * 100);
}

/** Writes an integer below 10^9 with zeros in front. */
export function writePadded(out: Uint8Array, to: number, value: number, digits: number): void {
  let rest = value | 0;
  let k = to + digits - 2;
  for (; k >= to; k -= 2) {
    const next = (rest / 100) | 0;
    const pair = (rest - next * 100) << 1;
    out[k] = pairs[pair]!;
    out[k + 1] = pairs[pair + 1]!;
    rest = next;
  }
  if (k === to - 1) out[to] = 0x30 + rest;
}

/** Writes 1 to 999,999 millionths: six digits without the zeros at their end. */
export function writeMillionths(out: Uint8Array, to: number, millionths: number): number {
  const high = (millionths / 10_000) | 0;
  writeTwo(out, to, high);
  writeFour(out, to + 2, millionths - high * 10_000);
  let end = to + 6;
  while (out[end - 1] === 0x30) end--;
  return end;
}

/** HH:MM:SS, with a fraction when there is one, of seconds since midnight and millionths; 24:00:00 is a legal time. */
export function writeTime(out: Uint8Array, to: number, seconds: number, millionths: number): number {
  const minutes = (seconds / 60) | 0;
  const hours = (minutes / 60) | 0;
  writeTwo(out, to, hours);
  out[to + 2] = 0x3a;
  writeTwo(out, to + 3, minutes - hours * 60);
  out[to + 5] = 0x3a;
  writeTwo(out, to + 6, seconds - minutes * 60);
  if (millionths === 0) return to + 8;
  out[to + 8] = 0x2e;
  return writeMillionths(out, to + 9, millionths);
}

const DAYS_0000_03_01_TO_2000 = 730425;

/** YYYY-MM-DD of days since 2000-01-01, for the years 1 to 9999. */
export function writeDate(out: Uint8Array, to: number, days: number): number {
  // https://howardhinnant.github.io/date_algorithms.html#civil_from_days
  const shifted = (days + DAYS_0000_03_01_TO_2000) | 0;
  const era = (shifted / 146097) | 0;
  const dayOfEra = (shifted - era * 146097) | 0;
  const leapless = (dayOfEra - ((dayOfEra / 1460) | 0) + ((dayOfEra / 36524) | 0) - ((dayOfEra / 146096) | 0)) | 0;
  const yearOfEra = (leapless / 365) | 0;
  const dayOfYear = (dayOfEra - (365 * yearOfEra + ((yearOfEra / 4) | 0) - ((yearOfEra / 100) | 0))) | 0;
  const monthFromMarch = ((5 * dayOfYear + 2) / 153) | 0;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  writeFour(out, to, (yearOfEra + era * 400 + (month <= 2 ? 1 : 0)) | 0);
  out[to + 4] = 0x2d;
  writeTwo(out, to + 5, month);
  out[to + 7] = 0x2d;
  return writeTwo(out, to + 8, (dayOfYear - (((153 * monthFromMarch + 2) / 5) | 0) + 1) | 0);
}
