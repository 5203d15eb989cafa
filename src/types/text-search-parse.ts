// The text output of a tsquery to its wire bytes (text-search.ts). The text has a quoted lexeme, an operator or a
// parenthesis at a time, with blanks around binary operators and parentheses. No recursion: queries may be deep.
import { malformed } from "./family.ts";
import { WireBuilder } from "./text-family.ts";

interface Operator {
  /** An operator of the wire, or an open parenthesis. */
  readonly code: 0 | 1 | 2 | 3 | 4;
  readonly priority: number;
  readonly distance: number;
}
const PARENTHESIS: Operator = { code: 0, priority: 0, distance: 0 };
const NOT: Operator = { code: 1, priority: 4, distance: 0 };
const AND: Operator = { code: 2, priority: 2, distance: 0 };
const OR: Operator = { code: 3, priority: 1, distance: 0 };

export function parseQuery(text: string): Uint8Array {
  if (text === "") return new WireBuilder().int32(0).finish();
  // Left operand, right operand, operator: the wire has it the other way round.
  const items: Uint8Array[] = [];
  const waiting: Operator[] = [];
  let at = 0;
  for (;;) {
    at = readOpening(text, at, waiting);
    const lexeme = readLexeme(text, at);
    items.push(lexeme.item);
    at = lexeme.end;
    while (text.startsWith(" )", at)) {
      applyDownTo(1, waiting, items);
      if (waiting.pop() !== PARENTHESIS) throw noQuery();
      at += 2;
    }
    if (at === text.length) break;
    const { operator, end } = readBinary(text, at);
    applyDownTo(operator.priority, waiting, items); // all are left-associative
    waiting.push(operator);
    at = end;
  }
  applyDownTo(1, waiting, items);
  if (waiting.length > 0) throw noQuery();
  const wire = new WireBuilder().int32(items.length);
  for (const item of items.reverse()) wire.bytes(item);
  return wire.finish();
}

function noQuery(): Error {
  return malformed("tsquery", 0, "its text is not a query");
}

/** What stands in front of an operand: negations and open parentheses. */
function readOpening(text: string, start: number, waiting: Operator[]): number {
  let at = start;
  for (;;) {
    if (text[at] === "!") {
      waiting.push(NOT);
      at++;
    } else if (text.startsWith("( ", at)) {
      waiting.push(PARENTHESIS);
      at += 2;
    } else return at;
  }
}

function applyDownTo(priority: number, waiting: Operator[], items: Uint8Array[]): void {
  while (waiting.length > 0 && waiting.at(-1)!.priority >= priority) {
    const { code, distance } = waiting.pop()!;
    const item = new WireBuilder().uint8(2).uint8(code);
    items.push((code === 4 ? item.uint16(distance) : item).finish());
  }
}

function readBinary(text: string, at: number): { operator: Operator; end: number } {
  const pattern = / (?:([&|])|<(-|\d{1,5})>) /y;
  pattern.lastIndex = at;
  const match = pattern.exec(text);
  const distance = match?.[2] === "-" ? 1 : Number(match?.[2] ?? 0);
  if (!match || distance > 0xffff) throw noQuery();
  const operator = match[1] === "|" ? OR : match[1] === "&" ? AND : ({ code: 4, priority: 3, distance } as const);
  return { operator, end: pattern.lastIndex };
}

function readLexeme(text: string, at: number): { item: Uint8Array; end: number } {
  const pattern = /'((?:[^'\\]|''|\\\\)*)'(?::(\*?)(A?B?C?D?))?/sy;
  pattern.lastIndex = at;
  const match = pattern.exec(text);
  if (!match || match[1]!.includes("\u0000")) throw noQuery();
  const weights = [...(match[3] ?? "")].reduce((bits, letter) => bits | (1 << "DCBA".indexOf(letter)), 0);
  const lexeme = match[1]!.replace(/''|\\\\/g, (pair) => pair[0]!);
  const item = new WireBuilder()
    .uint8(1)
    .uint8(weights)
    .uint8(match[2] ? 1 : 0)
    .text(lexeme)
    .uint8(0);
  return { item: item.finish(), end: pattern.lastIndex };
}
