// numeric's text: numeric_out and back, between decimal text and the wire format that numeric.ts describes.
import { malformed } from "./family.ts";

export const HEADER_BYTES = 8;

export const SIGN_POSITIVE = 0x0000;
export const SIGN_NEGATIVE = 0x4000;
const SIGN_NAN = 0xc000;
const SIGN_INFINITY = 0xd000;
const SIGN_MINUS_INFINITY = 0xf000;

/** Gives the number of digits; throws when the bytes, behind their length field, are not as many as they ask for. */
export function digitCount(view: DataView, at: number, length: number): number {
  if (length < HEADER_BYTES) throw malformed("numeric", at - 4, `${length} bytes`);
  const digits = view.getUint16(at);
  if (length !== HEADER_BYTES + digits * 2) throw malformed("numeric", at - 4, `${digits} digits in ${length} bytes`);
  return digits;
}

/** numeric_out: `dscale` digits behind the point. */
export function formatNumeric(_bytes: Uint8Array, view: DataView, at: number): string {
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
export function parseNumeric(text: string): Uint8Array {
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
