// float8out by byte, fast for the numbers that people have: up to 15 digits in fixed notation. The others take the
// engine's shortest digits or, from 2^53 on, where these may be the middle to a neighbour, the exact way of float-text.ts.
import { formatFloat4, formatFloat8 } from "./float-text.ts";
import { writeAscii, writePadded, writeUnsigned } from "./text-family.ts";

/** The longest text: `-2.2250738585072014e-308`. */
export const FLOAT8_TEXT_BYTES = 24;
const MAX_DIGITS = 1e15;
/** Of coordinates, and of whatever else still fits: asked one after the other. */
const FEW_DECIMALS = 6;
const MANY_DECIMALS = 10;

/** Writes the text of the float8 at `at`. Every NaN is NaN. */
export function writeFloat8(out: Uint8Array, to: number, view: DataView, at: number): number {
  const value = view.getFloat64(at);
  const size = Math.abs(value);
  if (size < MAX_DIGITS && size >= 1e-4) {
    const start = value < 0 ? minus(out, to) : to;
    if (size === Math.floor(size)) return writeUnsigned(out, start, size);
    // n / 10^k is the double nearest to that decimal, and no other decimal of up to 15 digits has the same double.
    const few = Math.round(size * 1e6);
    if (few < MAX_DIGITS && few / 1e6 === size) return writeFraction(out, start, few, 1e6, FEW_DECIMALS);
    const many = Math.round(size * 1e10);
    if (many < MAX_DIGITS && many / 1e10 === size) return writeFraction(out, start, many, 1e10, MANY_DECIMALS);
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

/** scaled / 10^decimals, which is no integer, without zeros at its end. */
function writeFraction(out: Uint8Array, to: number, scaled: number, power: number, decimals: number): number {
  const whole = Math.floor(scaled / power);
  let end = writeUnsigned(out, to, whole);
  out[end++] = 0x2e;
  const fraction = scaled - whole * power;
  if (decimals === FEW_DECIMALS) writePadded(out, end, fraction, FEW_DECIMALS);
  else {
    const high = Math.floor(fraction / 1e5);
    writePadded(out, end, high, 5);
    writePadded(out, end + 5, fraction - high * 1e5, 5);
  }
  end += decimals;
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
