// "char", the type of one byte that catalogs use: STRING; 0 is the empty text, and what is no ASCII is `\ooo`.
// Wire format: charsend in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/char.c: the byte.
// Before PostgreSQL 15 its text is the byte itself, which may be no UTF-8; but where the server has a character for it in
// the database's encoding it gives that one, and then the byte is not known: it stands as the character's bytes, and the
// column has NULL with the character as the exact text. Only a stream that must be read as text brings it.
import { isUtf8 } from "node:buffer";
import { type Encode, type Family, malformed } from "./family.ts";
import { bytesOfText, markedByte } from "./output-text.ts";
import { makeTextFamily, type TextFamily, writeBytes } from "./text-family.ts";

const BACKSLASH = 0x5c;

const textForm: TextFamily = makeTextFamily(
  '"char"',
  {
    measure: (bytes, _view, at, length) => {
      if (length !== 1 && !isCharacter(bytes, at, length)) throw malformed('"char"', at - 4, `${length} bytes`);
      return 4;
    },
    write: (out, to, bytes, _view, at, length) => {
      const byte = bytes[at]!;
      if (length > 1) return writeBytes(out, to, bytes, at, at + length);
      if (byte < 0x80) {
        out[to] = byte;
        return byte === 0 ? to : to + 1;
      }
      out[to] = BACKSLASH;
      out[to + 1] = 0x30 + (byte >> 6);
      out[to + 2] = 0x30 + ((byte >> 3) & 7);
      out[to + 3] = 0x30 + (byte & 7);
      return to + 4;
    },
  },
  (text) => {
    const octal = /^\\([23][0-7]{2})$/.exec(text);
    if (octal) return Uint8Array.of(Number.parseInt(octal[1]!, 8));
    const byte = text === "" ? 0 : markedByte(text);
    if (byte !== null) return Uint8Array.of(byte);
    const bytes = bytesOfText(text);
    if (bytes.length > 1 && !isCharacter(bytes, 0, bytes.length)) {
      throw malformed('"char"', 0, "its text is not one byte");
    }
    return bytes;
  },
);

/** Whether the bytes are one UTF-8 character that is no ASCII. */
function isCharacter(bytes: Uint8Array, at: number, length: number): boolean {
  const first = bytes[at]!;
  const size = first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  return length === size && isUtf8(bytes.subarray(at, at + length));
}

// Characters are rare: one makes the whole run slow.
const encode: Encode = (leaf, cells, inexact) => {
  const { bytes, view, positions, count } = cells;
  let known = true;
  for (let i = 0; i < count && known; i++) known = positions[i]! < 0 || view.getInt32(positions[i]!) === 1;
  if (known) {
    textForm.encode(leaf, cells, inexact);
    return;
  }
  const shown = positions.slice(0, count);
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0 || !isCharacter(bytes, at + 4, view.getInt32(at))) continue;
    inexact.add(i, textForm.format(bytes, view, at + 4, view.getInt32(at)));
    shown[i] = -1;
  }
  textForm.encode(leaf, { bytes, view, positions: shown, count }, inexact);
};

export const charFamily: Family = { ...textForm, encode };

/** By OID (pg_type.dat). */
export const charFamilies: readonly (readonly [number, Family])[] = [[18, charFamily]];
