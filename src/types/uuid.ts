// uuid: 16 bytes on the wire, 36 characters in the file (some readers refuse a whole file with Parquet's UUID type).
import { type Encode, type Family, malformed, wrongLength } from "./family.ts";

const TEXT_BYTES = 36;
const DASH = 0x2d;
/** The two digits of every byte, the first one in the high half. */
const HEX = Uint16Array.from({ length: 256 }, (_, byte) => {
  const digits = byte.toString(16).padStart(2, "0");
  return digits.charCodeAt(0) * 256 + digits.charCodeAt(1);
});

const encodeUuid: Encode = (leaf, cells) => {
  const { bytes, view, positions, count } = cells;
  leaf.reserve(count * (4 + TEXT_BYTES));
  leaf.reserveEntries(count);
  const { view: outView, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 16) throw wrongLength("uuid", at, view.getInt32(at));
    outView.setUint32(end, TEXT_BYTES, true);
    writeText(bytes, at + 4, outView, end + 4);
    end += 4 + TEXT_BYTES;
    definitions[entryCount++] = present;
  }
  leaf.valueCount += (end - leaf.end) / (4 + TEXT_BYTES);
  leaf.end = end;
  leaf.entryCount = entryCount;
};

export const uuidFamily: Family = {
  name: "uuid",
  type: { physical: "BYTE_ARRAY", logical: { kind: "string" } },
  encode: encodeUuid,
  parse: (text) => {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text))
      throw malformed("uuid", 0, "its text is not a uuid");
    return new Uint8Array(Buffer.from(text.replaceAll("-", ""), "hex"));
  },
  format: (bytes, _view, at) => {
    const text = new Uint8Array(TEXT_BYTES);
    writeText(bytes, at, new DataView(text.buffer), 0);
    return Buffer.from(text.buffer).toString("latin1");
  },
};

// 8-4-4-4-12 digits, four at a time.
function writeText(bytes: Uint8Array, from: number, out: DataView, to: number): void {
  writeFour(bytes, from, out, to);
  writeFour(bytes, from + 2, out, to + 4);
  out.setUint8(to + 8, DASH);
  writeFour(bytes, from + 4, out, to + 9);
  out.setUint8(to + 13, DASH);
  writeFour(bytes, from + 6, out, to + 14);
  out.setUint8(to + 18, DASH);
  writeFour(bytes, from + 8, out, to + 19);
  out.setUint8(to + 23, DASH);
  writeFour(bytes, from + 10, out, to + 24);
  writeFour(bytes, from + 12, out, to + 28);
  writeFour(bytes, from + 14, out, to + 32);
}

function writeFour(bytes: Uint8Array, from: number, out: DataView, to: number): void {
  out.setInt32(to, (HEX[bytes[from]!]! << 16) | HEX[bytes[from + 1]!]!);
}
