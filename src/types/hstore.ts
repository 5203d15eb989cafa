// hstore: in portable files a JSON object of strings and nulls, as hstore_to_json prints it, keys in the server's order.
// Wire format: hstore_send in https://github.com/postgres/postgres/blob/master/contrib/hstore/hstore_io.c: int32 pair count,
// {int32 length, key, int32 length or −1, value} per pair.
import { type Family, malformed } from "./family.ts";
import { measureJsonString, writeJsonString } from "./json-form.ts";
import { bytesOfText, textOfBytes } from "./output-text.ts";
import { encodeText, stringType, type TextForm, WireBuilder, writeAscii } from "./text-family.ts";

const COMMA = 0x2c;
const COLON = 0x3a;
const SPACE = 0x20;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const PAIR_BYTES = 8;

export const hstoreJsonForm: TextForm = {
  measure: (bytes, view, at, length) => {
    const count = length >= 4 ? view.getInt32(at) : -1;
    const end = at + length;
    if (!(count >= 0 && count * PAIR_BYTES <= length))
      throw malformed("hstore", at - 4, `${count} pairs in ${length} bytes`);
    let size = 2;
    let next = at + 4;
    for (let k = 0; k < 2 * count; k++) {
      const isValue = k % 2 === 1;
      const partLength = next + 4 <= end ? view.getInt32(next) : -2;
      if (partLength < (isValue ? -1 : 0) || next + 4 + partLength > end) {
        throw malformed("hstore", at - 4, `${isValue ? "value" : "key"} ${k >> 1} ends outside of it`);
      }
      size += partLength < 0 ? 6 : 2 + measureJsonString(bytes, next + 4, next + 4 + partLength);
      next += 4 + Math.max(0, partLength);
    }
    if (next !== end) throw malformed("hstore", at - 4, "there are bytes behind its last pair");
    return size;
  },
  write: (out, to, bytes, view, at) => {
    const count = view.getInt32(at);
    let end = to;
    let next = at + 4;
    out[end++] = OPEN_BRACE;
    for (let k = 0; k < 2 * count; k++) {
      if (k > 0) {
        out[end++] = k % 2 === 1 ? COLON : COMMA;
        out[end++] = SPACE;
      }
      const length = view.getInt32(next);
      next += 4;
      end = length < 0 ? writeAscii(out, end, "null") : writeJsonString(out, end, bytes, next, next + length);
      next += Math.max(0, length);
    }
    out[end++] = CLOSE_BRACE;
    return end;
  },
};

export const hstoreFamily: Family = {
  name: "hstore",
  type: stringType,
  encode: encodeText(hstoreJsonForm),
  parse: parseHstore,
  format: formatHstore,
};

/** hstore_out: `"key"=>"value", "key"=>NULL`. */
function formatHstore(bytes: Uint8Array, view: DataView, at: number): string {
  const count = view.getInt32(at);
  const pairs: string[] = [];
  let next = at + 4;
  const part = (): string => {
    const length = view.getInt32(next);
    const from = next + 4;
    next = from + Math.max(0, length);
    if (length < 0) return "NULL";
    return `"${textOfBytes(bytes.subarray(from, from + length)).replace(/["\\]/g, "\\$&")}"`;
  };
  for (let k = 0; k < count; k++) pairs.push(`${part()}=>${part()}`);
  return pairs.join(", ");
}

function parseHstore(text: string): Uint8Array {
  const pairs = new WireBuilder();
  const pattern = /"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|NULL)(?:, (?=")|$)/sy;
  let count = 0;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    if (!match) throw malformed("hstore", 0, "its text is not of pairs");
    for (const part of [match[1], match[2]]) {
      pairs.counted(part === undefined ? null : bytesOfText(part.replace(/\\(.)/gs, "$1")));
    }
    count++;
  }
  return new WireBuilder().int32(count).bytes(pairs.finish()).finish();
}
