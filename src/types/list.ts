// Arrays: where their elements are, and their text. In the file they are LISTs of optional elements (tree-encoder.ts).
// Wire format: array_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c:
// int32 dimensions, int32 has-null, uint32 element type, {int32 size, int32 lower bound} per dimension, then the
// elements, each behind its length.
import { CELL_NULL } from "../parquet/leaf-buffer.ts";
import { type Codec, malformed } from "./family.ts";

const HEADER_BYTES = 12;
const DIMENSION_BYTES = 8;

/** Arrays of the element type. `delimiter`: pg_type.typdelim of the element. */
export function listCodec(element: Codec, elementOid: number, delimiter = ","): Codec {
  return {
    name: `${element.name}[]`,
    parse: (text) => parseList(element, elementOid, text, delimiter),
    format: (bytes, view, at) => formatList(element, bytes, view, at, delimiter),
  };
}

/** The lower bound of the first dimension of the array whose length field is at `at`; it has one at least. */
export function lowerBound(view: DataView, at: number): number {
  return view.getInt32(at + 4 + HEADER_BYTES + 4);
}

/** Writes the positions of all elements (or CELL_NULL) to positions[next …). `count` is `elementCount`'s. */
export function locateElements(
  view: DataView,
  at: number,
  dimensions: number,
  count: number,
  positions: Int32Array,
  next: number,
): void {
  let elementAt = at + 4 + HEADER_BYTES + dimensions * DIMENSION_BYTES;
  const end = at + 4 + view.getInt32(at);
  for (let k = next; k < next + count; k++) {
    const length = elementAt + 4 <= end ? view.getInt32(elementAt) : -2;
    if (length < -1 || elementAt + 4 + length > end) throw elementOutside(at, k - next);
    positions[k] = length < 0 ? CELL_NULL : elementAt;
    elementAt += length < 0 ? 4 : 4 + length;
  }
  if (elementAt !== end) throw malformed("array", at, "there are bytes behind its last element");
}

/** How many dimensions the array has whose length field is at `at`; 0 for an empty one. */
export function dimensionCount(view: DataView, at: number): number {
  const length = view.getInt32(at);
  const dimensions = length >= HEADER_BYTES ? view.getInt32(at + 4) : -1;
  // MAXDIM is 6; a header that does not fit its dimensions is not an array.
  if (dimensions < 0 || dimensions > 6 || length < HEADER_BYTES + dimensions * DIMENSION_BYTES) {
    throw malformed("array", at, `${length} bytes and ${dimensions} dimensions`);
  }
  if (dimensions === 0 && length !== HEADER_BYTES) throw malformed("array", at, "it is empty and has elements");
  return dimensions;
}

/** The product of the dimensions. Postgres sends an array with a dimension of none without dimensions. */
export function elementCount(view: DataView, at: number, dimensions: number): number {
  let count = 1;
  for (let k = 0; k < dimensions; k++) {
    const size = view.getInt32(at + 4 + HEADER_BYTES + k * DIMENSION_BYTES);
    count = size > 0 ? count * size : Number.NaN;
  }
  // Each element takes its length field at least.
  const length = view.getInt32(at);
  if (!(count * 4 <= length)) throw malformed("array", at, `${count} elements in ${length} bytes`);
  return count;
}

function elementOutside(at: number, k: number): Error {
  return malformed("array", at, `element ${k} ends outside of it`);
}

/** array_out: braces per dimension, elements quoted where they need it, bounds in front when one is not 1. */
export function formatList(element: Codec, bytes: Uint8Array, view: DataView, at: number, delimiter = ","): string {
  const dimensions = view.getInt32(at);
  if (dimensions === 0) return "{}";
  const sizes: number[] = [];
  const lowerBounds: number[] = [];
  for (let k = 0; k < dimensions; k++) {
    sizes.push(view.getInt32(at + HEADER_BYTES + k * DIMENSION_BYTES));
    lowerBounds.push(view.getInt32(at + HEADER_BYTES + k * DIMENSION_BYTES + 4));
  }
  let elementAt = at + HEADER_BYTES + dimensions * DIMENSION_BYTES;
  const nextElement = (): string => {
    const length = view.getInt32(elementAt);
    const from = elementAt + 4;
    elementAt = from + Math.max(0, length);
    return length < 0 ? "NULL" : quoteElement(element.format(bytes, view, from, length), delimiter);
  };
  const level = (depth: number): string =>
    depth === dimensions
      ? nextElement()
      : `{${Array.from({ length: sizes[depth]! }, () => level(depth + 1)).join(delimiter)}}`;
  const bounds = lowerBounds.some((bound) => bound !== 1)
    ? `${sizes.map((size, k) => `[${lowerBounds[k]}:${lowerBounds[k]! + size - 1}]`).join("")}=`
    : "";
  return bounds + level(0);
}

function quoteElement(text: string, delimiter: string): string {
  const plain = !/[{}"\\ \t\n\r\v\f]/.test(text) && !text.includes(delimiter) && text.toUpperCase() !== "NULL";
  if (text !== "" && plain) return text;
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** An array's text output to its wire bytes. */
export function parseList(element: Codec, elementOid: number, text: string, delimiter = ","): Uint8Array {
  const { sizes, lowerBounds, items } = splitList(text, delimiter);
  const parsed = items.map((item) => (item === null ? null : element.parse(item)));
  const dimensions = items.length === 0 ? 0 : sizes.length;
  const size = parsed.reduce((total, item) => total + 4 + (item?.length ?? 0), HEADER_BYTES + dimensions * 8);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, dimensions);
  view.setInt32(4, items.includes(null) ? 1 : 0);
  view.setUint32(8, elementOid);
  for (let k = 0; k < dimensions; k++) {
    view.setInt32(HEADER_BYTES + k * DIMENSION_BYTES, sizes[k]!);
    view.setInt32(HEADER_BYTES + k * DIMENSION_BYTES + 4, lowerBounds[k] ?? 1);
  }
  let at = HEADER_BYTES + dimensions * DIMENSION_BYTES;
  for (const item of parsed) {
    view.setInt32(at, item === null ? -1 : item.length);
    if (item) bytes.set(item, at + 4);
    at += 4 + (item?.length ?? 0);
  }
  return bytes;
}

interface SplitList {
  readonly sizes: readonly number[];
  readonly lowerBounds: readonly number[];
  readonly items: readonly (string | null)[];
}

// Postgres never prints blanks around elements, and all sub-arrays of a level have one size.
function splitList(text: string, delimiter: string): SplitList {
  const equals = text.startsWith("[") ? text.indexOf("=") : -1;
  const lowerBounds = [...text.slice(0, Math.max(0, equals)).matchAll(/\[(-?\d+):/g)].map((match) => Number(match[1]));
  const items: (string | null)[] = [];
  const sizes: number[] = [];
  const counts: number[] = [];
  let depth = 0;
  let at = equals + 1;
  if (text[at] !== "{" || !text.endsWith("}")) throw malformed("array", 0, "its text has no braces");
  while (at < text.length) {
    const character = text[at]!;
    if (character === "{") {
      counts[depth++] = 0;
      at++;
    } else if (character === "}") {
      depth--;
      sizes[depth] = counts[depth]!;
      if (depth > 0) counts[depth - 1]!++;
      at++;
      if (depth === 0 && at < text.length) throw malformed("array", 0, "there is text behind its braces");
    } else if (character === delimiter) {
      at++;
    } else {
      const item = readItem(text, at, delimiter);
      items.push(item.value);
      counts[depth - 1]!++;
      at = item.end;
    }
  }
  if (depth !== 0) throw malformed("array", 0, "its braces do not match");
  if (sizes.reduce((product, size) => product * size, 1) !== items.length) {
    throw malformed("array", 0, "its parts have different sizes");
  }
  return { sizes, lowerBounds, items };
}

function readItem(text: string, start: number, delimiter: string): { value: string | null; end: number } {
  if (text[start] !== '"') {
    // A plain element has no backslash, quote or brace, nor its type's delimiter (pg_type.typdelim), which may be any sign.
    let end = start;
    while (end < text.length && text[end] !== delimiter && text[end] !== "}" && text[end] !== "{") end++;
    const raw = text.slice(start, end);
    return { value: raw === "NULL" ? null : raw.replace(/\\(.)/gs, "$1"), end };
  }
  const quoted = /"((?:[^"\\]|\\.)*)"/sy;
  quoted.lastIndex = start;
  const match = quoted.exec(text);
  if (!match) throw malformed("array", 0, "a quoted element has no end");
  return { value: match[1]!.replace(/\\(.)/gs, "$1"), end: start + match[0].length };
}
