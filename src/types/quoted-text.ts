// Quotes as range_out and record_out put them: around a text that has blanks or signs of the container, with its quotes
// and backslashes doubled. In place, in the page where the text already stands.
// Source: range_bound_escape of https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/rangetypes.c
import { moveRight, type TextForm, type Write, writeDoubled } from "./text-family.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN = 0x28;
const CLOSE = 0x29;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** Writes a value as it stands in a range. */
export function boundWriter({ write, writeBound }: TextForm): Write {
  if (writeBound) return writeBound;
  return (out, to, bytes, view, at, length) => quoteBound(out, to, write(out, to, bytes, view, at, length));
}

/** The text that stands in [from, end) as range_bound_escape makes it. Gives its end. */
export function quoteBound(out: Uint8Array, from: number, end: number): number {
  let quoted = from === end;
  let doubled = false;
  for (let k = from; k < end; k++) {
    const byte = out[k]!;
    if (byte === QUOTE || byte === BACKSLASH) doubled = true;
    else if (byte <= COMMA || byte === OPEN_BRACKET || byte === CLOSE_BRACKET) quoted ||= mustQuote(byte);
  }
  if (!quoted && !doubled) return end;
  let quoteEnd = end + 1;
  if (doubled) quoteEnd = writeDoubled(out, from + 1, out.slice(from, end), 0, end - from, QUOTE);
  else moveRight(out, from, end, 1);
  out[from] = QUOTE;
  out[quoteEnd] = QUOTE;
  return quoteEnd + 1;
}

function mustQuote(byte: number): boolean {
  const blank = byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
  return blank || byte === OPEN || byte === CLOSE || byte === COMMA || byte >= OPEN_BRACKET;
}
