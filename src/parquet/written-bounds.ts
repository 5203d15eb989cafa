// Bounds as they go into the file: long byte strings are cut, and an upper bound is raised so that it stays above.
// Source: parquet.thrift, Statistics and ColumnIndex: bounds need not be values, and is_*_exact tells whether they are.
import type { ValueType } from "./schema.ts";

export const MAX_BOUND_BYTES = 64;

/** A bound as it goes into the file. Long strings are cut to 64 bytes at a character's edge; `max` is then raised. */
export function writableMin(type: ValueType, min: Uint8Array): { bytes: Uint8Array; exact: boolean } {
  if (type.physical !== "BYTE_ARRAY" || min.length <= MAX_BOUND_BYTES) return { bytes: min, exact: true };
  return { bytes: cut(type, min), exact: false };
}

/** As writableMin; `null` when no short upper bound exists. */
export function writableMax(type: ValueType, max: Uint8Array): { bytes: Uint8Array; exact: boolean } | null {
  if (type.physical !== "BYTE_ARRAY" || max.length <= MAX_BOUND_BYTES) return { bytes: max, exact: true };
  const raised = type.logical.kind === "string" ? raiseText(cut(type, max)) : raiseBytes(cut(type, max));
  return raised && { bytes: raised, exact: false };
}

function cut(type: ValueType, bytes: Uint8Array): Uint8Array {
  let length = MAX_BOUND_BYTES;
  if (type.logical.kind === "string") while (length > 0 && (bytes[length]! & 0xc0) === 0x80) length--;
  return bytes.slice(0, length);
}

function raiseBytes(bytes: Uint8Array): Uint8Array | null {
  for (let i = bytes.length - 1; i >= 0; i--) {
    if (bytes[i] === 0xff) continue;
    const raised = bytes.slice(0, i + 1);
    raised[i]!++;
    return raised;
  }
  return null;
}

// Raises the last character that can be: any text that starts as `bytes` did is then below, and UTF-8 stays valid.
function raiseText(bytes: Uint8Array): Uint8Array | null {
  for (let end = bytes.length; end > 0; ) {
    let start = end - 1;
    while (start > 0 && (bytes[start]! & 0xc0) === 0x80) start--;
    const raised = raiseCharacter(bytes.subarray(start, end));
    if (raised) return Buffer.concat([bytes.subarray(0, start), raised]);
    end = start;
  }
  return null;
}

/** The next code point, of the same or more bytes; null behind the last one. UTF-8 sorts as its code points do. */
function raiseCharacter(character: Uint8Array): Uint8Array | null {
  const codePoint = Buffer.from(character).toString("utf8").codePointAt(0)!;
  // Invalid bytes decode to U+FFFD; whatever they were, there is then no telling what is above them.
  if (codePoint === 0xfffd || codePoint === 0x10ffff) return null;
  return Buffer.from(String.fromCodePoint(codePoint === 0xd7ff ? 0xe000 : codePoint + 1), "utf8");
}
