// float8out by byte, fast for the numbers that people have: up to 15 digits in fixed notation. The others take the
// engine's shortest digits or, from 2^53 on, where these may be the middle to a neighbour, the exact way of float-text.ts.
import { formatFloat4, formatFloat8 } from "./float-text.ts";
import { writeAscii, writePadded, writeUnsigned } from "./text-family.ts";

/** The longest text: `-2.2250738585072014e-308`. */
export const FLOAT8_TEXT_BYTES = 24;
const MAX_DIGITS = 1e15;
const MAX_DECIMALS = 10;
const powers = Float64Array.from({ length: MAX_DECIMALS + 1 }, (_, exponent) => 10 ** exponent);

/** Writes the text of the float8 at `at`. Every NaN is NaN. */
export function writeFloat8(out: Uint8Array, to: number, view: DataView, at: number): number {
  const value = view.getFloat64(at);
  const size = Math.abs(value);
  if (size < 1e15 && size >= 1e-4) {
    // n / 10^k is the double nearest to that decimal, and no other decimal of up to 15 digits has the same double.
    for (let decimals = 0; decimals <= MAX_DECIMALS; decimals++) {
      const scaled = Math.round(size * powers[decimals]!);
      if (scaled >= MAX_DIGITS) break;
      if (scaled / powers[decimals]! !== size) continue;
      return writeFixed(out, value < 0 ? minus(out, to) : to, scaled, decimals);
    }
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

/** scaled / 10^decimals, where the last digit is not zero unless there are no decimals. */
function writeFixed(out: Uint8Array, to: number, scaled: number, decimals: number): number {
  if (decimals === 0) return writeUnsigned(out, to, scaled);
  const whole = Math.floor(scaled / powers[decimals]!);
  const end = writeUnsigned(out, to, whole);
  out[end] = 0x2e;
  const fraction = scaled - whole * powers[decimals]!;
  if (decimals <= 9) writePadded(out, end + 1, fraction, decimals);
  else {
    const high = Math.floor(fraction / 10);
    writePadded(out, end + 1, high, 9);
    out[end + 10] = 0x30 + fraction - high * 10;
  }
  return end + 1 + decimals;
}

function float8Text(value: number, view: DataView, at: number): string {
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e15) return String(value);
  if (size === 0 || !(size < Number.MAX_SAFE_INTEGER)) return formatFloat8(view, at);
  // Postgres shows two digits of an exponent at least.
  return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
}
