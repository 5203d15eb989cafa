// float8out by byte, fast for the numbers that people have: up to 15 digits in fixed notation. The others take the
// engine's shortest digits or, from 2^53 on, where these may be the middle to a neighbour, the exact way of float-text.ts.
import { writeMillionths, writePadded, writeSmall, writeUnsigned } from "./digits.ts";
import { formatFloat4, formatFloat8 } from "./float-text.ts";
import { writeAscii } from "./text-family.ts";

/** The longest text: `-2.2250738585072014e-308`. */
export const FLOAT8_TEXT_BYTES = 24;
const MAX_DIGITS = 1e15;

/** Writes the text of the float8 at `at`. Every NaN is NaN. */
export function writeFloat8(out: Uint8Array, to: number, view: DataView, at: number): number {
  const value = view.getFloat64(at);
  const size = Math.abs(value);
  if (size < MAX_DIGITS && size >= 1e-4) {
    // A double that is handed to another function may have to be put on the heap first: integers are not.
    const start = value < 0 ? minus(out, to) : to;
    const whole = Math.floor(size);
    if (size === whole) return size < 1e9 ? writeSmall(out, start, whole | 0) : writeUnsigned(out, start, whole);
    // n / 10^k is the double nearest to that decimal, and no other decimal of up to 15 digits has the same double.
    // Six decimals are those of coordinates; ten, whatever else still fits.
    const few = Math.floor(size * 1e6 + 0.5);
    if (few < MAX_DIGITS && few / 1e6 === size) {
      const end = writeSmall(out, start, whole | 0);
      out[end] = 0x2e;
      return writeMillionths(out, end + 1, (few - whole * 1e6) | 0);
    }
    const many = Math.floor(size * 1e10 + 0.5);
    if (many < MAX_DIGITS && many / 1e10 === size) return writeTenDecimals(out, start, many);
  }
  return writeAscii(out, to, float8Text(value, view, at));
}

/** Writes the text of the float4 at `at`. */
export function writeFloat4(out: Uint8Array, to: number, view: DataView, at: number): number {
  const value = view.getFloat32(at);
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6 && size > 0)
    return writeUnsigned(out, value < 0 ? minus(out, to) : to, size);
  return writeAscii(out, to, formatFloat4(view, at));
}

function minus(out: Uint8Array, to: number): number {
  out[to] = 0x2d;
  return to + 1;
}

/** scaled / 10^10, which has more than six decimals, without zeros at its end. */
function writeTenDecimals(out: Uint8Array, to: number, scaled: number): number {
  const whole = Math.floor(scaled / 1e10);
  let end = writeUnsigned(out, to, whole);
  out[end] = 0x2e;
  const fraction = scaled - whole * 1e10;
  const high = Math.floor(fraction / 1e5);
  writePadded(out, end + 1, high, 5);
  writePadded(out, end + 6, fraction - high * 1e5, 5);
  end += 11;
  while (out[end - 1] === 0x30) end--;
  return end;
}

function float8Text(value: number, view: DataView, at: number): string {
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e15) return String(value);
  if (size === 0 || !(size < Number.MAX_SAFE_INTEGER)) return formatFloat8(view, at);
  // Postgres shows two digits of an exponent at least.
  return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
}
