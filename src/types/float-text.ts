// The text of float4 and float8: the shortest digits that read back as the same value, as Postgres prints them, and back.
// Only arrays whose text is kept need the digits (no single float is inexact), so exact integers do the work, not speed.
// Source: https://github.com/postgres/postgres/blob/master/src/common/d2s.c and f2s.c
import { malformed } from "./family.ts";

/** Widths of the formats: stored mantissa bits, exponent bias with the mantissa as an integer, digits of fixed notation. */
interface Format {
  readonly mantissaBits: number;
  readonly bias: number;
  readonly fixedDigits: number;
}
const FLOAT4: Format = { mantissaBits: 23, bias: 150, fixedDigits: 6 };
const FLOAT8: Format = { mantissaBits: 52, bias: 1075, fixedDigits: 15 };

/** float4out. */
export function formatFloat4(view: DataView, at: number): string {
  return format(view.getFloat32(at), BigInt(view.getUint32(at)), FLOAT4);
}

/** float8out. */
export function formatFloat8(view: DataView, at: number): string {
  return format(view.getFloat64(at), view.getBigUint64(at), FLOAT8);
}

export function parseFloat8(text: string): number {
  return parse("float8", text);
}

/** Rounds the text itself: rounding it to a double first can end up at the wrong neighbour. */
export function parseFloat4(text: string): number {
  const double = parse("float4", text);
  const nearest = Math.fround(double);
  if (nearest === double || Number.isNaN(double)) return nearest;
  if (!Number.isFinite(nearest)) throw malformed("float4", 0, "its text is out of range");
  const neighbor = nextFloat4(nearest, double > nearest);
  if (double - nearest !== neighbor - double) return nearest;
  // The double is the middle of two float4, and the text may be on either side of it.
  const side = compareDecimal(text, double);
  if (side === 0) return nearest;
  return side > 0 ? Math.max(nearest, neighbor) : Math.min(nearest, neighbor);
}

function parse(family: string, text: string): number {
  if (text === "NaN") return Number.NaN;
  if (text === "Infinity" || text === "-Infinity") return Number(text);
  if (!/^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text)) throw malformed(family, 0, "its text is not a number");
  const value = Number(text);
  if (!Number.isFinite(value)) throw malformed(family, 0, "its text is out of range");
  return value;
}

function nextFloat4(value: number, up: boolean): number {
  const view = new DataView(new ArrayBuffer(4));
  if (value === 0) {
    view.setUint32(0, 1);
    return up ? view.getFloat32(0) : -view.getFloat32(0);
  }
  view.setFloat32(0, value);
  view.setUint32(0, view.getUint32(0) + (up === value > 0 ? 1 : -1));
  return view.getFloat32(0);
}

/** The sign of the decimal number minus the double, exactly. */
function compareDecimal(text: string, double: number): number {
  const [, sign, whole, fraction = "", exponentText = "0"] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/.exec(text)!;
  const digits = BigInt(`${whole}${fraction}`) * (sign ? -1n : 1n);
  const exponent = Number(exponentText) - fraction.length;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, double);
  const { mantissa, power } = split(view.getBigUint64(0), FLOAT8);
  const signed = double < 0 ? -mantissa : mantissa;
  // digits × 10^exponent against signed × 2^power, both times what makes them whole.
  const left = digits * 10n ** BigInt(Math.max(0, exponent)) * 2n ** BigInt(Math.max(0, -power));
  const right = signed * 2n ** BigInt(Math.max(0, power)) * 10n ** BigInt(Math.max(0, -exponent));
  return left > right ? 1 : left < right ? -1 : 0;
}

/** The value without its sign is mantissa × 2^power. */
function split(bits: bigint, { mantissaBits, bias }: Format): { mantissa: bigint; power: number; lowest: boolean } {
  const fraction = bits & ((1n << BigInt(mantissaBits)) - 1n);
  const exponent = Number((bits >> BigInt(mantissaBits)) & (mantissaBits === 23 ? 0xffn : 0x7ffn));
  return {
    mantissa: exponent === 0 ? fraction : fraction | (1n << BigInt(mantissaBits)),
    power: Math.max(1, exponent) - bias,
    lowest: fraction === 0n && exponent > 1,
  };
}

function format(value: number, bits: bigint, kind: Format): string {
  if (!Number.isFinite(value)) return String(value);
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  if (value === 0) return `${sign}0`;
  const { digits, exponent } = shortest(bits, kind);
  return sign + notation(digits, exponent, kind.fixedDigits);
}

/**
 * The fewest digits d (d × 10^k) strictly between the middles to the neighbours, the nearest of them; Postgres leaves
 * the middles out, so that the text reads back whatever the rounding. `exponent` is of the first digit.
 */
function shortest(bits: bigint, kind: Format): { digits: string; exponent: number } {
  const { mantissa, power, lowest } = split(bits, kind);
  // In quarters of the last place; below a power of two the neighbour is half as far.
  const shift = power - 2;
  const scale = 1n << BigInt(Math.max(0, shift));
  const unit = 1n << BigInt(Math.max(0, -shift));
  const value = mantissa * 4n * scale;
  const high = value + 2n * scale;
  const low = value - (lowest ? 1n : 2n) * scale;
  for (let k = Math.ceil((power + kind.mantissaBits + 2) * Math.log10(2)); ; k--) {
    const step = k > 0 ? unit * 10n ** BigInt(k) : unit;
    const factor = k > 0 ? 1n : 10n ** BigInt(-k);
    const below = (value * factor) / step;
    const inside = (digits: bigint): boolean => digits * step > low * factor && digits * step < high * factor;
    const distance = (digits: bigint): bigint => {
      const difference = digits * step - value * factor;
      return difference < 0n ? -difference : difference;
    };
    const candidates = [below, below + 1n].filter((digits) => digits > 0n && inside(digits));
    if (candidates.length === 0) continue;
    const [first, second] = candidates;
    const nearer = second === undefined ? 0n : distance(first!) - distance(second);
    const chosen = nearer > 0n || (nearer === 0n && second !== undefined && first! % 2n === 1n) ? second! : first!;
    const digits = String(chosen);
    return { digits: digits.replace(/0+$/, ""), exponent: k + digits.length - 1 };
  }
}

/** Fixed notation from 10^-4 up to the digits that are always exact, else d.dde+XX with at least two exponent digits. */
function notation(digits: string, exponent: number, fixedDigits: number): string {
  if (exponent < -4 || exponent >= fixedDigits) {
    const shown = Math.abs(exponent).toString().padStart(2, "0");
    return `${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ""}e${exponent < 0 ? "-" : "+"}${shown}`;
  }
  if (exponent < 0) return `0.${"0".repeat(-exponent - 1)}${digits}`;
  if (digits.length <= exponent + 1) return digits.padEnd(exponent + 1, "0");
  return `${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`;
}
