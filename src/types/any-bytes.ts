// Text of a SQL_ASCII database, which may be any bytes. Readers fail on a STRING that is no UTF-8, so what is none gets
// U+FFFD in the file, and its bytes are told in hexadecimal: `\x` and two digits for each. Only columns of such databases
// are checked. Inside of lists and structs bytes stand for themselves as Latin-1 until the whole value's text is told.
import { isUtf8 } from "node:buffer";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { Codec, Encode, Family } from "./family.ts";

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** The family, for text that may be any bytes. `composed`: its text is made of the texts of others, which are Latin-1. */
export function anyBytesFamily(family: Family, composed: boolean): Family {
  const skip = plainTexts.get(family.name);
  const codec = skip !== undefined ? bytesCodec(family.name, skip) : composed ? family : latin1Codec(family);
  const text = family.type.logical.kind === "string" || family.type.logical.kind === "json";
  return { ...family, ...codec, encode: text ? checked(family.encode) : family.encode };
}

/** Families whose wire bytes are their text, behind so many others. */
const plainTexts: ReadonlyMap<string, number> = new Map([
  ["text", 0],
  ["bpchar", 0],
  ["json", 0],
  ["jsonb", 1],
]);

/** Between bytes and Latin-1. */
function bytesCodec(name: string, skip: number): Codec {
  return {
    name,
    parse: (text) => new Uint8Array(Buffer.from("\u0001".repeat(skip) + text, "latin1")),
    format: (bytes, _view, at, length) =>
      Buffer.from(bytes.buffer, bytes.byteOffset + at + skip, length - skip).toString("latin1"),
  };
}

function latin1Codec({ name, parse, format }: Codec): Codec {
  return {
    name,
    parse: (text) => parse(Buffer.from(text, "latin1").toString("utf8")),
    format: (bytes, view, at, length) => Buffer.from(format(bytes, view, at, length)).toString("latin1"),
  };
}

/** The codec of a whole column: of Latin-1 to what `_pg_flo_exact` has. */
export function exactCodec({ name, parse, format }: Codec): Codec {
  return { name, parse, format: (bytes, view, at, length) => exactText(format(bytes, view, at, length)) };
}

/** The text of Latin-1 as it goes into `_pg_flo_exact`: as UTF-8 when it is, else in hexadecimal. */
function exactText(latin1: string): string {
  const bytes = Buffer.from(latin1, "latin1");
  return isUtf8(bytes) ? utf8.decode(bytes) : hexText(bytes);
}

function checked(encode: Encode): Encode {
  return (leaf, cells, inexact) => {
    const { end, entryCount } = leaf;
    encode(leaf, cells, inexact);
    let entry = entryCount;
    for (let at = end; at < leaf.end; entry++) {
      if (leaf.definitions[entry] !== leaf.present) continue;
      const textEnd = at + 4 + leaf.view.getUint32(at, true);
      if (!isUtf8(leaf.bytes.subarray(at + 4, textEnd))) {
        writeAgain(leaf, at, entry, (invalid, bytes) => inexact.add(invalid - entryCount, hexText(bytes)));
        return;
      }
      at = textEnd;
    }
  };
}

/** Writes the texts from the one at `from` on, which belongs to the entry, once more, as UTF-8. */
function writeAgain(
  leaf: LeafBuffer,
  from: number,
  firstEntry: number,
  onInvalid: (entry: number, bytes: Uint8Array) => void,
): void {
  const texts = leaf.bytes.slice(from, leaf.end);
  const view = new DataView(texts.buffer);
  leaf.end = from;
  let entry = firstEntry;
  for (let at = 0; at < texts.length; entry++) {
    if (leaf.definitions[entry] !== leaf.present) continue;
    let bytes = texts.subarray(at + 4, at + 4 + view.getUint32(at, true));
    at += 4 + bytes.length;
    if (!isUtf8(bytes)) {
      onInvalid(entry, bytes);
      bytes = Buffer.from(utf8.decode(bytes));
    }
    leaf.reserve(4 + bytes.length);
    leaf.view.setUint32(leaf.end, bytes.length, true);
    leaf.bytes.set(bytes, leaf.end + 4);
    leaf.end += 4 + bytes.length;
  }
}

function hexText(bytes: Uint8Array): string {
  return `\\x${Buffer.from(bytes).toString("hex")}`;
}
