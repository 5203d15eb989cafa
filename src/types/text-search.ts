// tsvector and tsquery: STRING as Postgres prints them.
// Wire formats: tsvectorsend and tsquerysend in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/
// {tsvector,tsquery}.c. tsvector: int32 count, {lexeme, 0, uint16 positions, {uint16 weight and position}*}*. tsquery:
// int32 count, then the items in prefix order, right operand first: uint8 1 (lexeme), uint8 weights, uint8 prefix, lexeme,
// 0; or uint8 2 (operator), uint8 which, for a phrase uint16 distance.
import { writeSmall } from "./digits.ts";
import { malformed } from "./family.ts";
import { makeTextFamily, type TextFamily, WireBuilder, writeAscii, writeDoubled } from "./text-family.ts";
import { parseQuery } from "./text-search-parse.ts";

const QUOTE = 0x27;
const COLON = 0x3a;
const COMMA = 0x2c;
const SPACE = 0x20;
const OPEN = 0x28;
const CLOSE = 0x29;
const ITEM_LEXEME = 1;
const ITEM_OPERATOR = 2;
const NOT = 1;
const AND = 2;
const PHRASE = 4;
/** tsearch_op_priority, by operator: !, &, |, <->. */
const priorities = [0, 4, 2, 1, 3];

export const tsvectorFamily: TextFamily = makeTextFamily(
  "tsvector",
  {
    measure: (bytes, view, at, length) => {
      const count = length >= 4 ? view.getInt32(at) : -1;
      const end = at + length;
      let next = at + 4;
      let size = 0;
      // A lexeme takes three bytes at least.
      if (!(count >= 0 && count * 3 <= length))
        throw malformed("tsvector", at - 4, `${count} lexemes in ${length} bytes`);
      for (let k = 0; k < count; k++) {
        const zero = endOfText("tsvector", bytes, at, next, end - 2);
        const positions = view.getUint16(zero + 1);
        size += 2 * (zero - next) + 3 + positions * 7;
        next = zero + 3 + 2 * positions;
        if (next > end) throw malformed("tsvector", at - 4, `lexeme ${k} ends outside of it`);
      }
      if (next !== end) throw malformed("tsvector", at - 4, "there are bytes behind its last lexeme");
      return size;
    },
    write: (out, to, bytes, view, at) => {
      const count = view.getInt32(at);
      let end = to;
      let next = at + 4;
      for (let k = 0; k < count; k++) {
        if (k > 0) out[end++] = SPACE;
        const zero = zeroAt(bytes, next);
        end = writeQuoted(out, end, bytes, next, zero);
        const positions = view.getUint16(zero + 1);
        next = zero + 3;
        for (let p = 0; p < positions; p++, next += 2) {
          const entry = view.getUint16(next);
          out[end++] = p === 0 ? COLON : COMMA;
          end = writeSmall(out, end, entry & 0x3fff);
          if (entry > 0x3fff) out[end++] = 0x44 - (entry >> 14); // C, B, A
        }
      }
      return end;
    },
  },
  (text) => {
    const wire = new WireBuilder();
    const pattern = /'((?:[^'\\]|''|\\\\)*)'(?::(\d+[A-C]?(?:,\d+[A-C]?)*))?(?: |$)/sy;
    let count = 0;
    while (pattern.lastIndex < text.length) {
      const match = pattern.exec(text);
      if (!match) throw malformed("tsvector", 0, "its text is not of quoted lexemes");
      if (match[1]!.includes("\u0000")) throw malformed("tsvector", 0, "a lexeme has a zero byte");
      const positions = match[2]?.split(",") ?? [];
      wire
        .text(match[1]!.replace(/''|\\\\/g, (pair) => pair[0]!))
        .uint8(0)
        .uint16(positions.length);
      for (const position of positions) wire.uint16(positionEntry(position));
      count++;
    }
    return new WireBuilder().int32(count).bytes(wire.finish()).finish();
  },
);

function positionEntry(text: string): number {
  const position = Number.parseInt(text, 10);
  const weight = "DCBA".indexOf(/[A-C]$/.exec(text)?.[0] ?? "D");
  if (position > 0x3fff) throw malformed("tsvector", 0, "a position is out of range");
  return (weight << 14) | position;
}

export const tsqueryFamily: TextFamily = makeTextFamily(
  "tsquery",
  {
    measure: (bytes, view, at, length) => {
      const count = length >= 4 ? view.getInt32(at) : -1;
      // An item takes two bytes at least.
      if (!(count >= 0 && count * 2 <= length)) throw malformed("tsquery", at - 4, `${count} items in ${length} bytes`);
      const end = readItems(bytes, at, at + length, count);
      if (end !== at + length) throw malformed("tsquery", at - 4, "there are bytes behind its last item");
      // Quotes, blanks and parentheses around every item, its flags and distance; every byte may be doubled.
      return 2 * length + 24 * count;
    },
    write: (out, to, bytes, view, at, length) => {
      const count = view.getInt32(at);
      if (count === 0) return to;
      // It was measured, and mostly as the last one.
      if (items.value !== at) readItems(bytes, at, at + length, count);
      items.value = -1;
      return writeItems(out, to, bytes, view);
    },
  },
  parseQuery,
);

/** The items of the value that was read last, in the order of the wire. Reused by the next one. */
const items = {
  value: -1,
  starts: new Int32Array(64),
  /** Where a lexeme's zero byte is. */
  zeros: new Int32Array(64),
  /** Items of the tree that starts with this one. */
  sizes: new Int32Array(64),
};

/** Reads `count` items, which must be one tree, and gives the end of their bytes. */
function readItems(bytes: Uint8Array, value: number, end: number, count: number): number {
  if (items.starts.length < count) {
    for (const each of ["starts", "zeros", "sizes"] as const) items[each] = new Int32Array(2 * count);
  }
  items.value = value;
  const { starts, zeros, sizes } = items;
  let at = value + 4;
  let missing = count > 0 ? 1 : 0;
  for (let k = 0; k < count; k++) {
    if (missing === 0) throw malformed("tsquery", value - 4, `it ends at item ${k} of ${count}`);
    starts[k] = at;
    if (at + 4 <= end && bytes[at] === ITEM_LEXEME && bytes[at + 1]! <= 15 && bytes[at + 2]! <= 1) {
      const zero = endOfText("tsquery", bytes, value, at + 3, end);
      zeros[k] = zero;
      at = zero + 1;
      missing--;
      continue;
    }
    const operator = at + 2 <= end && bytes[at] === ITEM_OPERATOR ? bytes[at + 1]! : 0;
    if (operator < NOT || operator > PHRASE) {
      throw malformed("tsquery", value - 4, `item ${k} is neither a lexeme nor an operator`);
    }
    at += operator === PHRASE ? 4 : 2;
    if (operator !== NOT) missing++;
  }
  if (missing > 0) throw malformed("tsquery", value - 4, "an operand is missing");
  for (let k = count - 1; k >= 0; k--) {
    const start = starts[k]!;
    if (bytes[start] === ITEM_LEXEME) sizes[k] = 1;
    else {
      const first = sizes[k + 1]!;
      sizes[k] = 1 + first + (bytes[start + 1] === NOT ? 0 : sizes[k + 1 + first]!);
    }
  }
  return at;
}

/** What is still to be written, three numbers each: an item's index, its parent's priority, and what of it. */
let waiting = new Int32Array(3 * 64);
const OPERAND = 0;
/** Its parent is a phrase operator, which it is the right operand of. */
const PHRASE_OPERAND = 1;
/** The text of the operator, between its operands. */
const BETWEEN = 2;
const CLOSING = 3;

function put(depth: number, index: number, parentPriority: number, what: number): number {
  if (3 * depth === waiting.length) {
    const grown = new Int32Array(waiting.length * 2);
    grown.set(waiting);
    waiting = grown;
  }
  waiting[3 * depth] = index;
  waiting[3 * depth + 1] = parentPriority;
  waiting[3 * depth + 2] = what;
  return depth + 1;
}

/** infix() of tsquery.c on the items that were read, without its recursion. */
function writeItems(out: Uint8Array, to: number, bytes: Uint8Array, view: DataView): number {
  const { starts, zeros, sizes } = items;
  let depth = put(0, 0, -1, OPERAND);
  let end = to;
  while (depth > 0) {
    depth--;
    const index = waiting[3 * depth]!;
    const parentPriority = waiting[3 * depth + 1]!;
    const what = waiting[3 * depth + 2]!;
    const at = starts[index]!;
    if (what === CLOSING) {
      out[end] = SPACE;
      out[end + 1] = CLOSE;
      end += 2;
      continue;
    }
    const operator = bytes[at + 1]!;
    if (what === BETWEEN) {
      end = writeOperator(out, end, operator, view, at);
      continue;
    }
    if (bytes[at] === ITEM_LEXEME) {
      end = writeQuoted(out, end, bytes, at + 3, zeros[index]!);
      end = writeFlags(out, end, bytes[at + 1]!, bytes[at + 2] === 1);
      continue;
    }
    const priority = priorities[operator]!;
    if (priority < parentPriority || (operator === PHRASE && what === PHRASE_OPERAND)) {
      out[end] = OPEN;
      out[end + 1] = SPACE;
      end += 2;
      depth = put(depth, index, 0, CLOSING);
    }
    if (operator === NOT) {
      out[end++] = 0x21;
      depth = put(depth, index + 1, priority, OPERAND);
      continue;
    }
    depth = put(depth, index + 1, priority, operator === PHRASE ? PHRASE_OPERAND : OPERAND);
    depth = put(depth, index, 0, BETWEEN);
    depth = put(depth, index + 1 + sizes[index + 1]!, priority, OPERAND);
  }
  return end;
}

function writeOperator(out: Uint8Array, to: number, operator: number, view: DataView, at: number): number {
  if (operator === PHRASE) {
    const distance = view.getUint16(at + 2);
    return writeAscii(out, to, distance === 1 ? " <-> " : ` <${distance}> `);
  }
  out[to] = SPACE;
  out[to + 1] = operator === AND ? 0x26 : 0x7c;
  out[to + 2] = SPACE;
  return to + 3;
}

function writeFlags(out: Uint8Array, to: number, weights: number, prefix: boolean): number {
  if (weights === 0 && !prefix) return to;
  let end = to;
  out[end++] = COLON;
  if (prefix) out[end++] = 0x2a;
  for (let bit = 3; bit >= 0; bit--) if (weights & (1 << bit)) out[end++] = 0x44 - bit; // A to D
  return end;
}

function writeQuoted(out: Uint8Array, to: number, bytes: Uint8Array, from: number, zero: number): number {
  out[to] = QUOTE;
  const end = writeDoubled(out, to + 1, bytes, from, zero, QUOTE);
  out[end] = QUOTE;
  return end + 1;
}

/** The place of the zero byte that ends a text that was checked; lexemes are too short for the native search. */
function zeroAt(bytes: Uint8Array, from: number): number {
  let at = from;
  while (bytes[at] !== 0) at++;
  return at;
}

/** The place of the zero byte that ends a text, before `end`. */
function endOfText(name: string, bytes: Uint8Array, value: number, from: number, end: number): number {
  for (let k = from; k < end; k++) if (bytes[k] === 0) return k;
  throw malformed(name, value - 4, "a lexeme has no end");
}

/** By OID (pg_type.dat). */
export const textSearchFamilies: readonly (readonly [number, TextFamily])[] = [
  [3614, tsvectorFamily],
  [3615, tsqueryFamily],
];
