// Families that are byte strings: text and its kin, JSON, bytea, enum labels, and anything that arrives as text.
import type { ValueType } from "../parquet/schema.ts";
import { type Encode, type Family, malformed } from "./family.ts";
import { bytesOfText, textOfBytes } from "./output-text.ts";

const string: ValueType = { physical: "BYTE_ARRAY", logical: { kind: "string" } };

/** Below this a loop of words beats the native copy, whose call costs more than the bytes. */
const SHORT_BYTES = 192;
const JSONB_VERSION = 1;

/** `skip`: bytes in front of the value that are not part of it. `trim`: leave trailing blanks out. */
function encodeBytes(skip: number, trim: boolean): Encode {
  return (leaf, cells) => {
    const { bytes, view, positions, count } = cells;
    leaf.reserveEntries(count);
    const { definitions, present } = leaf;
    let { bytes: out, view: outView, end, entryCount, valueCount } = leaf;
    for (let i = 0; i < count; i++) {
      const at = positions[i]!;
      if (at < 0) {
        definitions[entryCount++] = present + at;
        continue;
      }
      let length = view.getInt32(at) - skip;
      const from = at + 4 + skip;
      // The only header is jsonb's.
      if (skip > 0 && (length < 0 || bytes[at + 4] !== JSONB_VERSION))
        throw malformed("jsonb", at, "its version is not 1");
      if (trim) while (length > 0 && bytes[from + length - 1] === 0x20) length--;
      if (end + 4 + length > out.length) {
        leaf.end = end;
        leaf.reserve(4 + length);
        out = leaf.bytes;
        outView = leaf.view;
      }
      outView.setUint32(end, length, true);
      end += 4;
      if (length > SHORT_BYTES) {
        out.set(bytes.subarray(from, from + length), end);
      } else if (length >= 8) {
        // Compiled to moves of 64 bits: no bigint is ever made.
        const last = length - 8;
        for (let k = 0; k < last; k += 8) outView.setBigInt64(end + k, view.getBigInt64(from + k, true), true);
        outView.setBigInt64(end + last, view.getBigInt64(from + last, true), true); // may overlap the word before
      } else if (length >= 4) {
        const last = length - 4;
        outView.setInt32(end, view.getInt32(from, true), true);
        outView.setInt32(end + last, view.getInt32(from + last, true), true);
      } else {
        for (let k = 0; k < length; k++) out[end + k] = bytes[from + k]!;
      }
      end += length;
      definitions[entryCount++] = present;
      valueCount++;
    }
    leaf.valueCount = valueCount;
    leaf.end = end;
    leaf.entryCount = entryCount;
  };
}

const formatUtf8: Family["format"] = (bytes, _view, at, length) => textOfBytes(bytes.subarray(at, at + length));

/** text, varchar, name, xml, enum labels; also the text output of every type without a family of its own. */
export const textFamily: Family = {
  name: "text",
  type: string,
  encode: encodeBytes(0, false),
  parse: bytesOfText,
  format: formatUtf8,
};

/** char(n): the padding is not part of the value. */
export const bpcharFamily: Family = { ...textFamily, name: "bpchar", encode: encodeBytes(0, true) };

/** json: the bytes as they are, never parsed. */
export const jsonFamily: Family = { ...textFamily, name: "json" };

/** jsonb: a version byte (1), then its text. */
export const jsonbFamily: Family = {
  name: "jsonb",
  type: string,
  encode: encodeBytes(1, false),
  parse: (text) => bytesOfText(`\u0001${text}`),
  format: (bytes, view, at, length) => formatUtf8(bytes, view, at + 1, length - 1),
};

export const byteaFamily: Family = {
  name: "bytea",
  type: { physical: "BYTE_ARRAY", logical: { kind: "none" } },
  encode: encodeBytes(0, false),
  parse: (text) => {
    if (!/^\\x([0-9a-f]{2})*$/i.test(text)) throw malformed("bytea", 0, "its text is not hexadecimal");
    return new Uint8Array(Buffer.from(text.slice(2), "hex"));
  },
  format: (bytes, _view, at, length) =>
    `\\x${Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString("hex")}`,
};
