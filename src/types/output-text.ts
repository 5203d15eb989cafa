// Between the bytes of a text and a string that says all of them, whether they are UTF-8 or not: parsers and text outputs
// of types work on strings. Text of a SQL_ASCII database may be any bytes, and so may a "char" before PostgreSQL 15.
// A byte that belongs to no UTF-8 character stands as U+DC00 and the byte: half a surrogate pair, which no text has.
import { isUtf8 } from "node:buffer";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const BYTE_MARK = 0xdc00;

/** The string of bytes. */
export function textOfBytes(bytes: Uint8Array): string {
  const text = decoder.decode(bytes);
  if (!text.includes("\ufffd") || isUtf8(bytes)) return text;
  let marked = "";
  let from = 0;
  for (let at = 0; at < bytes.length; ) {
    const size = characterSize(bytes, at);
    if (size === 0) {
      marked += decoder.decode(bytes.subarray(from, at)) + String.fromCharCode(BYTE_MARK + bytes[at]!);
      from = at + 1;
    }
    at += size || 1;
  }
  return marked + decoder.decode(bytes.subarray(from));
}

/** The bytes of a string; the way back. */
export function bytesOfText(text: string): Uint8Array<ArrayBuffer> {
  if (text.isWellFormed()) return encoder.encode(text);
  const pieces: Uint8Array[] = [];
  for (const character of text) {
    const byte = markedByte(character);
    pieces.push(byte === null ? encoder.encode(character) : Uint8Array.of(byte));
  }
  return new Uint8Array(Buffer.concat(pieces));
}

/** The byte that stands for itself in a string of one character; null for any other. */
export function markedByte(character: string): number | null {
  const byte = character.charCodeAt(0) - BYTE_MARK;
  return character.length === 1 && byte >= 0x80 && byte <= 0xff ? byte : null;
}

/** Bytes of the UTF-8 character that starts at `at`; 0 when none does. */
function characterSize(bytes: Uint8Array, at: number): number {
  for (let size = 1; size <= 4 && at + size <= bytes.length; size++) {
    if (isUtf8(bytes.subarray(at, at + size))) return size;
  }
  return 0;
}
