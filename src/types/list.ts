// One-dimensional arrays: a LIST of optional elements, encoded by the element's own family.
// Wire format: array_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/arrayfuncs.c:
// int32 dimensions, int32 has-null, uint32 element type, {int32 size, int32 lower bound} per dimension, then the
// elements, each behind its length.
import { CELL_EMPTY_LIST, CELL_NULL, CELL_NULL_LIST, LeafBuffer } from "../parquet/leaf-buffer.ts";
import { type Cells, type Encode, type Family, InexactValues, malformed } from "./family.ts";

const HEADER_BYTES = 12;
const DIMENSION_BYTES = 8;

/** A list whose cells cannot be told by a flat LIST (two dimensions, a lower bound other than 1) keeps its exact text. */
export function encodeList(element: Family): Encode {
  const entries = new ListEntries();
  const elementInexact = new InexactValues();

  return (leaf, cells, inexact) => {
    const { bytes, view, positions, count } = cells;
    entries.cells.bytes = bytes;
    entries.cells.view = view;
    entries.cells.count = 0;
    for (let row = 0; row < count; row++) {
      const at = positions[row]!;
      if (at < 0) entries.add(row, CELL_NULL_LIST);
      else if (!addElements(entries, view, row, at)) {
        checkElements(element, cells, at);
        inexact.add(row, formatList(element, bytes, view, at + 4));
      }
    }
    // Only now: making room for more entries does not keep levels that are ahead of the page's count.
    leaf.reserveEntries(entries.cells.count);
    leaf.repetitions.set(entries.repetitions.subarray(0, entries.cells.count), leaf.entryCount);
    element.encode(leaf, entries.cells, elementInexact);
    if (elementInexact.indexes.length === 0) return;
    // Several elements of one array may be inexact, and the array is told once, whole.
    const told = new Set(inexact.indexes);
    for (const index of elementInexact.indexes) {
      const row = entries.rows[index]!;
      if (told.has(row)) continue;
      told.add(row);
      inexact.add(row, formatList(element, bytes, view, positions[row]! + 4));
    }
    elementInexact.clear();
  };
}

/** The elements of all rows as cells, each with its row and repetition level. */
class ListEntries {
  readonly cells: Cells = {
    bytes: new Uint8Array(0),
    view: new DataView(new ArrayBuffer(0)),
    positions: new Int32Array(1024),
    count: 0,
  };
  rows = new Int32Array(1024);
  repetitions = new Uint8Array(1024);

  /** The row's only entry. */
  add(row: number, position: number): void {
    this.reserve(1);
    const { cells } = this;
    cells.positions[cells.count] = position;
    this.rows[cells.count] = row;
    this.repetitions[cells.count++] = 0;
  }

  reserve(count: number): void {
    const needed = this.cells.count + count;
    if (needed <= this.rows.length) return;
    const length = Math.max(needed, this.rows.length * 2);
    const grown = {
      positions: new Int32Array(length),
      rows: new Int32Array(length),
      repetitions: new Uint8Array(length),
    };
    grown.positions.set(this.cells.positions);
    grown.rows.set(this.rows);
    grown.repetitions.set(this.repetitions);
    this.cells.positions = grown.positions;
    this.rows = grown.rows;
    this.repetitions = grown.repetitions;
  }
}

/** Adds a row's elements, or the code of an empty or NULL list. False when the list cannot tell the whole array. */
function addElements(entries: ListEntries, view: DataView, row: number, at: number): boolean {
  const dimensions = dimensionCount(view, at);
  if (dimensions === 0) {
    entries.add(row, CELL_EMPTY_LIST);
    return true;
  }
  const count = elementCount(view, at, dimensions);
  if (dimensions > 1) {
    entries.add(row, CELL_NULL_LIST);
    return false;
  }
  entries.reserve(count);
  const { cells, rows, repetitions } = entries;
  const { positions } = cells;
  let next = cells.count;
  let elementAt = at + 4 + HEADER_BYTES + DIMENSION_BYTES;
  const end = at + 4 + view.getInt32(at);
  for (let k = 0; k < count; k++) {
    const length = elementAt + 4 <= end ? view.getInt32(elementAt) : -2;
    if (length < -1 || elementAt + 4 + length > end) throw elementOutside(at, k);
    positions[next] = length < 0 ? CELL_NULL : elementAt;
    rows[next] = row;
    repetitions[next++] = k === 0 ? 0 : 1;
    elementAt += length < 0 ? 4 : 4 + length;
  }
  if (elementAt !== end) throw malformed("array", at, "there are bytes behind its last element");
  cells.count = next;
  return view.getInt32(at + 4 + HEADER_BYTES + 4) === 1;
}

function dimensionCount(view: DataView, at: number): number {
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
function elementCount(view: DataView, at: number, dimensions: number): number {
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

/** Checks the elements of an array that is only told as text, by encoding them into a page that is thrown away. */
function checkElements(element: Family, cells: Cells, at: number): void {
  const { bytes, view } = cells;
  const dimensions = dimensionCount(view, at);
  const count = elementCount(view, at, dimensions);
  const positions = new Int32Array(count);
  let elementAt = at + 4 + HEADER_BYTES + dimensions * DIMENSION_BYTES;
  const end = at + 4 + view.getInt32(at);
  for (let k = 0; k < count; k++) {
    const length = elementAt + 4 <= end ? view.getInt32(elementAt) : -2;
    if (length < -1 || elementAt + 4 + length > end) throw elementOutside(at, k);
    positions[k] = length < 0 ? CELL_NULL : elementAt;
    elementAt += length < 0 ? 4 : 4 + length;
  }
  if (elementAt !== end) throw malformed("array", at, "there are bytes behind its last element");
  const scratch = new LeafBuffer({ name: "", fieldId: 0, type: element.type, list: false });
  element.encode(scratch, { bytes, view, positions, count }, new InexactValues());
}

function elementOutside(at: number, k: number): Error {
  return malformed("array", at, `element ${k} ends outside of it`);
}

/** array_out: braces per dimension, elements quoted where they need it, bounds in front when one is not 1. */
export function formatList(element: Family, bytes: Uint8Array, view: DataView, at: number): string {
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
    return length < 0 ? "NULL" : quoteElement(element.format(bytes, view, from, length));
  };
  const level = (depth: number): string =>
    depth === dimensions
      ? nextElement()
      : `{${Array.from({ length: sizes[depth]! }, () => level(depth + 1)).join(",")}}`;
  const bounds = lowerBounds.some((bound) => bound !== 1)
    ? `${sizes.map((size, k) => `[${lowerBounds[k]}:${lowerBounds[k]! + size - 1}]`).join("")}=`
    : "";
  return bounds + level(0);
}

function quoteElement(text: string): string {
  if (text !== "" && !/[{},"\\ \t\n\r\v\f]/.test(text) && text.toUpperCase() !== "NULL") return text;
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** An array's text output to its wire bytes. */
export function parseList(element: Family, elementOid: number, text: string): Uint8Array {
  const { sizes, lowerBounds, items } = splitList(text);
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
function splitList(text: string): SplitList {
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
    } else if (character === ",") {
      at++;
    } else {
      const item = readItem(text, at);
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

function readItem(text: string, start: number): { value: string | null; end: number } {
  if (text[start] !== '"') {
    const rest = /[^,{}]*/y;
    rest.lastIndex = start;
    const [raw] = rest.exec(text)!;
    return { value: raw === "NULL" ? null : raw.replace(/\\(.)/gs, "$1"), end: start + raw.length };
  }
  const quoted = /"((?:[^"\\]|\\.)*)"/sy;
  quoted.lastIndex = start;
  const match = quoted.exec(text);
  if (!match) throw malformed("array", 0, "a quoted element has no end");
  return { value: match[1]!.replace(/\\(.)/gs, "$1"), end: start + match[0].length };
}
