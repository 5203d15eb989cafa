// int2vector and oidvector of the catalogs: arrays on the wire, but with a text of their own, which their STRING has.
// Wire format: array_send; one dimension that counts from 0, also when it is empty, and no NULLs.
import { writeUnsigned } from "./digits.ts";
import { malformed } from "./family.ts";
import { makeTextFamily, type TextFamily, WireBuilder, writeAscii } from "./text-family.ts";

const HEADER_BYTES = 20;
const SPACE = 0x20;
/** Longest number with its blank. */
const NUMBER_BYTES = 11;

function vectorFamily(name: string, elementOid: number, width: 2 | 4): TextFamily {
  return makeTextFamily(
    name,
    {
      measure: (_bytes, view, at, length) => {
        const count = length >= HEADER_BYTES && view.getInt32(at) === 1 ? view.getInt32(at + 12) : -1;
        if (count < 0 || length !== HEADER_BYTES + count * (4 + width)) {
          throw malformed(name, at - 4, `${count} elements in ${length} bytes`);
        }
        // Other headers would have the same text.
        const plain =
          view.getInt32(at + 4) === 0 && view.getInt32(at + 8) === elementOid && view.getInt32(at + 16) === 0;
        if (!plain) throw malformed(name, at - 4, "its header is not of a vector");
        for (let k = 0; k < count; k++) {
          if (view.getInt32(at + HEADER_BYTES + k * (4 + width)) !== width)
            throw malformed(name, at - 4, `element ${k}`);
        }
        return count * NUMBER_BYTES;
      },
      write: (out, to, _bytes, view, at) => {
        const count = view.getInt32(at + 12);
        let end = to;
        for (let k = 0; k < count; k++) {
          if (k > 0) out[end++] = SPACE;
          const element = at + HEADER_BYTES + k * (4 + width) + 4;
          if (width === 4) end = writeUnsigned(out, end, view.getUint32(element));
          else end = writeAscii(out, end, String(view.getInt16(element)));
        }
        return end;
      },
    },
    (text) => {
      const values =
        text === "" ? [] : text.split(" ").map((value) => (/^-?\d{1,10}$/.test(value) ? Number(value) : Number.NaN));
      const [min, max] = width === 2 ? [-0x8000, 0x7fff] : [0, 0xffffffff];
      if (!values.every((value) => value >= min && value <= max))
        throw malformed(name, 0, "its text is not of numbers");
      const wire = new WireBuilder().int32(1).int32(0).int32(elementOid).int32(values.length).int32(0);
      for (const value of values) {
        wire.int32(width);
        if (width === 4) wire.int32(value);
        else wire.uint16(value);
      }
      return wire.finish();
    },
  );
}

/** By OID (pg_type.dat). */
export const oidVectorFamilies: readonly (readonly [number, TextFamily])[] = [
  [22, vectorFamily("int2vector", 21, 2)],
  [30, vectorFamily("oidvector", 26, 4)],
];
