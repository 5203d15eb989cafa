// Ranges and multiranges of any subtype: where their bounds are, and their text output, which is what the portable files
// have. Wire formats: range_send and multirange_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/
// adt/{rangetypes,multirangetypes}.c: uint8 flags, {int32 length, bytes} per finite bound; uint32 count, {int32 length,
// range} per range.
import { type Codec, malformed } from "./family.ts";
import { boundWriter } from "./quoted-text.ts";
import { makeTextFamily, type TextFamily, type TextForm, WireBuilder } from "./text-family.ts";

export const RANGE_EMPTY = 0x01;
export const RANGE_LOWER_INCLUSIVE = 0x02;
export const RANGE_UPPER_INCLUSIVE = 0x04;
export const RANGE_LOWER_INFINITE = 0x08;
export const RANGE_UPPER_INFINITE = 0x10;
const ALL_FLAGS = 0x1f;

const [OPEN, CLOSE, OPEN_INCLUSIVE, CLOSE_INCLUSIVE, COMMA, OPEN_BRACE, CLOSE_BRACE] = [..."()[],{}"].map((sign) =>
  sign.charCodeAt(0),
) as [number, number, number, number, number, number, number];
const EMPTY_TEXT = new TextEncoder().encode("empty");

/** What the walk over one range finds: positions of the bounds' length fields, −1 for none. Reused by the next walk. */
export interface RangeParts {
  flags: number;
  lower: number;
  upper: number;
}

/** Finds the bounds of the range in bytes [at, at + length). Throws PROTOCOL_VIOLATION when that is no range. */
export function readRange(view: DataView, at: number, length: number, parts: RangeParts): void {
  const flags = length > 0 ? view.getUint8(at) : -1;
  if (flags < 0 || flags > ALL_FLAGS || (flags & RANGE_EMPTY && flags !== RANGE_EMPTY)) {
    throw malformed("range", at - 4, `flags ${flags} in ${length} bytes`);
  }
  const end = at + length;
  let next = at + 1;
  parts.flags = flags;
  parts.lower = -1;
  parts.upper = -1;
  if (!(flags & (RANGE_EMPTY | RANGE_LOWER_INFINITE))) {
    parts.lower = next;
    next = boundEnd(view, next, end, at);
  }
  if (!(flags & (RANGE_EMPTY | RANGE_UPPER_INFINITE))) {
    parts.upper = next;
    next = boundEnd(view, next, end, at);
  }
  if (next !== end) throw malformed("range", at - 4, "there are bytes behind its bounds");
}

function boundEnd(view: DataView, at: number, end: number, range: number): number {
  const length = at + 4 <= end ? view.getInt32(at) : -1;
  if (length < 0 || at + 4 + length > end) throw malformed("range", range - 4, "a bound ends outside of it");
  return at + 4 + length;
}

/** A range as Postgres prints it. `subtype` may be any type, `bound` is its text: it is quoted as range_out does. */
export function rangeFamily(subtype: Codec, bound: TextForm): TextFamily {
  return makeTextFamily(`range of ${subtype.name}`, rangeForm(bound), (text) => {
    const { wire, end } = parseRange(subtype, text, 0);
    if (end !== text.length) throw noRange();
    return wire;
  });
}

/** A multirange as Postgres prints it. */
export function multirangeFamily(subtype: Codec, bound: TextForm): TextFamily {
  const range = rangeForm(bound);
  return makeTextFamily(`multirange of ${subtype.name}`, multirangeForm(range), (text) =>
    parseMultirange(subtype, text),
  );
}

function rangeForm(bound: TextForm): TextForm {
  const parts: RangeParts = { flags: 0, lower: -1, upper: -1 };
  const writeBound = boundWriter(bound);
  const wireBytes = bound.fixed?.wireBytes ?? -1;
  const fixedSize = 9 + 4 * (bound.fixed?.textBytes ?? 0);
  let readAt = -1;
  return {
    measure: (bytes, view, at, length) => {
      readRange(view, at, length, parts);
      readAt = at;
      const { lower, upper } = parts;
      const quick =
        (lower < 0 || view.getInt32(lower) === wireBytes) && (upper < 0 || view.getInt32(upper) === wireBytes);
      if (quick) return fixedSize;
      // Quotes, and every byte of a bound may be doubled.
      let size = 9;
      if (lower >= 0) size += 2 * bound.measure(bytes, view, lower + 4, view.getInt32(lower));
      if (upper >= 0) size += 2 * bound.measure(bytes, view, upper + 4, view.getInt32(upper));
      return size;
    },
    write: (out, to, bytes, view, at, length) => {
      // It was measured, and mostly as the last one.
      if (readAt !== at) readRange(view, at, length, parts);
      readAt = -1;
      const { flags, lower, upper } = parts;
      if (flags & RANGE_EMPTY) {
        out.set(EMPTY_TEXT, to);
        return to + EMPTY_TEXT.length;
      }
      out[to] = flags & RANGE_LOWER_INCLUSIVE ? OPEN_INCLUSIVE : OPEN;
      let end = to + 1;
      if (lower >= 0) end = writeBound(out, end, bytes, view, lower + 4, view.getInt32(lower));
      out[end++] = COMMA;
      if (upper >= 0) end = writeBound(out, end, bytes, view, upper + 4, view.getInt32(upper));
      out[end] = flags & RANGE_UPPER_INCLUSIVE ? CLOSE_INCLUSIVE : CLOSE;
      return end + 1;
    },
  };
}

function multirangeForm(range: TextForm): TextForm {
  return {
    measure: (bytes, view, at, length) => {
      const count = length >= 4 ? view.getInt32(at) : -1;
      const end = at + length;
      // A range takes its length field and its flags.
      if (!(count >= 0 && count * 5 <= length))
        throw malformed("multirange", at - 4, `${count} ranges in ${length} bytes`);
      let size = 2;
      let next = at + 4;
      for (let k = 0; k < count; k++) {
        const rangeEnd = boundEnd(view, next, end, at);
        size += 1 + range.measure(bytes, view, next + 4, rangeEnd - next - 4);
        next = rangeEnd;
      }
      if (next !== end) throw malformed("multirange", at - 4, "there are bytes behind its ranges");
      return size;
    },
    write: (out, to, bytes, view, at) => {
      const count = view.getInt32(at);
      let end = to;
      let next = at + 4;
      out[end++] = OPEN_BRACE;
      for (let k = 0; k < count; k++) {
        if (k > 0) out[end++] = COMMA;
        const length = view.getInt32(next);
        end = range.write(out, end, bytes, view, next + 4, length);
        next += 4 + length;
      }
      out[end] = CLOSE_BRACE;
      return end + 1;
    },
  };
}

function noRange(): Error {
  return malformed("range", 0, "its text is not a range");
}

function parseRange(subtype: Codec, text: string, start: number): { wire: Uint8Array; end: number } {
  if (text.startsWith("empty", start)) return { wire: Uint8Array.of(RANGE_EMPTY), end: start + 5 };
  const open = text[start];
  const lower = parseBound(text, start + 1);
  if ((open !== "[" && open !== "(") || text[lower.end] !== ",") throw noRange();
  const upper = parseBound(text, lower.end + 1);
  const close = text[upper.end];
  if (close !== "]" && close !== ")") throw noRange();
  const flags =
    (open === "[" ? RANGE_LOWER_INCLUSIVE : 0) |
    (close === "]" ? RANGE_UPPER_INCLUSIVE : 0) |
    (lower.value === null ? RANGE_LOWER_INFINITE : 0) |
    (upper.value === null ? RANGE_UPPER_INFINITE : 0);
  const wire = new WireBuilder().uint8(flags);
  for (const { value } of [lower, upper]) if (value !== null) wire.counted(subtype.parse(value));
  return { wire: wire.finish(), end: upper.end + 1 };
}

/** A bound's text without its quotes; null when there is none. */
function parseBound(text: string, start: number): { value: string | null; end: number } {
  if (/[,)\]]/.test(text[start] ?? "")) return { value: null, end: start };
  const pattern = /"((?:[^"\\]|""|\\\\)*)"|[^"\\()[\], \t\n\r\v\f]+/sy;
  pattern.lastIndex = start;
  const match = pattern.exec(text);
  if (!match) throw noRange();
  return { value: match[1]?.replace(/""|\\\\/g, (pair) => pair[0]!) ?? match[0], end: pattern.lastIndex };
}

function parseMultirange(subtype: Codec, text: string): Uint8Array {
  if (!text.startsWith("{") || !text.endsWith("}")) throw malformed("multirange", 0, "its text has no braces");
  const ranges: Uint8Array[] = [];
  let at = 1;
  while (at < text.length - 1) {
    const { wire, end } = parseRange(subtype, text, at);
    ranges.push(wire);
    at = text[end] === "," && end < text.length - 2 ? end + 1 : end;
    if (at === end && end !== text.length - 1) throw malformed("multirange", 0, "its text is not of ranges");
  }
  const wire = new WireBuilder().int32(ranges.length);
  for (const range of ranges) wire.counted(range);
  return wire.finish();
}
