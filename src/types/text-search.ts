// tsvector and tsquery: STRING as Postgres prints them.
// Wire formats: tsvectorsend and tsquerysend in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/
// {tsvector,tsquery}.c. tsvector: int32 count, {lexeme, 0, uint16 positions, {uint16 weight and position}*}*. tsquery:
// int32 count, then the items in prefix order, right operand first: uint8 1 (lexeme), uint8 weights, uint8 prefix, lexeme,
// 0; or uint8 2 (operator), uint8 which, for a phrase uint16 distance.
import { malformed } from "./family.ts";
import {
  makeTextFamily,
  type TextFamily,
  WireBuilder,
  writeAscii,
  writeDoubled,
  writeUnsigned,
} from "./text-family.ts";
import { parseQuery } from "./text-search-parse.ts";

const QUOTE = 0x27;
const COLON = 0x3a;
const COMMA = 0x2c;
const SPACE = 0x20;
const ITEM_LEXEME = 1;
const ITEM_OPERATOR = 2;
const NOT = 1;
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
        const zero = bytes.indexOf(0, next);
        end = writeQuoted(out, end, bytes, next, zero);
        const positions = view.getUint16(zero + 1);
        next = zero + 3;
        for (let p = 0; p < positions; p++, next += 2) {
          const entry = view.getUint16(next);
          out[end++] = p === 0 ? COLON : COMMA;
          end = writeUnsigned(out, end, entry & 0x3fff);
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
      const end = checkItems(bytes, at, at + length, count);
      if (end !== at + length) throw malformed("tsquery", at - 4, "there are bytes behind its last item");
      // Quotes, blanks and parentheses around every item, its flags and distance; every byte may be doubled.
      return 2 * length + 24 * count;
    },
    write: (out, to, bytes, view, at) => (view.getInt32(at) === 0 ? to : writeItems(out, to, bytes, view, at + 4)),
  },
  parseQuery,
);

/** Checks `count` items that are one tree, and gives the end of their bytes. */
function checkItems(bytes: Uint8Array, value: number, end: number, count: number): number {
  let at = value + 4;
  let missing = count > 0 ? 1 : 0;
  for (let k = 0; k < count; k++) {
    if (missing === 0) throw malformed("tsquery", value - 4, `it ends at item ${k} of ${count}`);
    if (at + 4 <= end && bytes[at] === ITEM_LEXEME && bytes[at + 1]! <= 15 && bytes[at + 2]! <= 1) {
      at = endOfText("tsquery", bytes, value, at + 3, end) + 1;
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
  return at;
}

/** What is still to be written: an item of some place in the tree, or a text. */
type Waiting = string | { readonly at: number; readonly parentPriority: number; readonly rightOfPhrase: boolean };

/** infix() of tsquery.c, without its recursion. */
function writeItems(out: Uint8Array, to: number, bytes: Uint8Array, view: DataView, first: number): number {
  const waiting: Waiting[] = [{ at: first, parentPriority: -1, rightOfPhrase: false }];
  let end = to;
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (typeof next === "string") {
      end = writeAscii(out, end, next);
      continue;
    }
    const { at, parentPriority, rightOfPhrase } = next;
    if (bytes[at] === ITEM_LEXEME) {
      end = writeQuoted(out, end, bytes, at + 3, bytes.indexOf(0, at + 3));
      end = writeFlags(out, end, bytes[at + 1]!, bytes[at + 2] === 1);
      continue;
    }
    const operator = bytes[at + 1]!;
    const priority = priorities[operator]!;
    const parentheses = priority < parentPriority || (operator === PHRASE && rightOfPhrase);
    if (parentheses) {
      end = writeAscii(out, end, "( ");
      waiting.push(" )");
    }
    if (operator === NOT) {
      out[end++] = 0x21;
      waiting.push({ at: at + 2, parentPriority: priority, rightOfPhrase: false });
      continue;
    }
    const right = at + (operator === PHRASE ? 4 : 2);
    waiting.push(
      { at: right, parentPriority: priority, rightOfPhrase: operator === PHRASE },
      operatorText(operator, operator === PHRASE ? view.getUint16(at + 2) : 0),
      { at: skipItem(bytes, right), parentPriority: priority, rightOfPhrase: false },
    );
  }
  return end;
}

function skipItem(bytes: Uint8Array, start: number): number {
  let at = start;
  for (let missing = 1; missing > 0; ) {
    if (bytes[at] === ITEM_LEXEME) {
      at = bytes.indexOf(0, at + 3) + 1;
      missing--;
    } else {
      missing += bytes[at + 1] === NOT ? 0 : 1;
      at += bytes[at + 1] === PHRASE ? 4 : 2;
    }
  }
  return at;
}

function operatorText(operator: number, distance: number): string {
  if (operator === PHRASE) return distance === 1 ? " <-> " : ` <${distance}> `;
  return operator === 2 ? " & " : " | ";
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
