// uuid: 16 bytes on the wire, 36 characters in the file (some readers refuse a whole file with Parquet's UUID type).
import { type Encode, type Family, malformed, wrongLength } from "./family.ts";

const TEXT_BYTES = 36;
const HEX = new Uint8Array([..."0123456789abcdef"].map((digit) => digit.charCodeAt(0)));

const encodeUuid: Encode = (leaf, cells) => {
  const { bytes, view, positions, count } = cells;
  leaf.reserve(count * (4 + TEXT_BYTES));
  leaf.reserveEntries(count);
  const { bytes: out, view: outView, definitions, present } = leaf;
  let { end, entryCount } = leaf;
  for (let i = 0; i < count; i++) {
    const at = positions[i]!;
    if (at < 0) {
      definitions[entryCount++] = present + at;
      continue;
    }
    if (view.getInt32(at) !== 16) throw wrongLength("uuid", at, view.getInt32(at));
    outView.setUint32(end, TEXT_BYTES, true);
    writeText(bytes, at + 4, out, end + 4);
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
    writeText(bytes, at, text, 0);
    return Buffer.from(text.buffer).toString("latin1");
  },
};

function writeText(bytes: Uint8Array, from: number, out: Uint8Array, to: number): void {
  let at = to;
  for (let k = 0; k < 16; k++) {
    const byte = bytes[from + k]!;
    out[at++] = HEX[byte >> 4]!;
    out[at++] = HEX[byte & 15]!;
    if (k === 3 || k === 5 || k === 7 || k === 9) out[at++] = 0x2d;
  }
}
