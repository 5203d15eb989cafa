// bit and varbit: a STRING of 0 and 1.
// Wire format: varbit_send in https://github.com/postgres/postgres/blob/master/src/backend/utils/adt/varbit.c: int32 bit
// count, then the bits, most significant first.
import { malformed } from "./family.ts";
import { makeTextFamily, type TextFamily } from "./text-family.ts";

export const bitFamily: TextFamily = makeTextFamily(
  "bit",
  {
    plain: true,
    measure: (bytes, view, at, length) => {
      const count = length >= 4 ? view.getInt32(at) : -1;
      if (count < 0 || length !== 4 + Math.ceil(count / 8))
        throw malformed("bit", at - 4, `${count} bits in ${length} bytes`);
      // The server sends zeros there.
      if (count % 8 !== 0 && (bytes[at + length - 1]! & (0xff >> (count % 8))) !== 0) {
        throw malformed("bit", at - 4, "there are bits behind its last one");
      }
      return count;
    },
    write: (out, to, bytes, view, at) => {
      const count = view.getInt32(at);
      for (let k = 0; k < count; k++) out[to + k] = 0x30 + ((bytes[at + 4 + (k >> 3)]! >> (7 - (k & 7))) & 1);
      return to + count;
    },
  },
  (text) => {
    if (!/^[01]*$/.test(text)) throw malformed("bit", 0, "its text is not of 0 and 1");
    const bytes = new Uint8Array(4 + Math.ceil(text.length / 8));
    new DataView(bytes.buffer).setInt32(0, text.length);
    for (let k = 0; k < text.length; k++) if (text[k] === "1") bytes[4 + (k >> 3)]! |= 0x80 >> (k & 7);
    return bytes;
  },
);

/** By OID (pg_type.dat): bit, varbit. */
export const bitFamilies: readonly (readonly [number, TextFamily])[] = [
  [1560, bitFamily],
  [1562, bitFamily],
];
