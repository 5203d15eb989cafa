// Texts that may be any bytes: those of SQL_ASCII databases, and of types without a decoder, in which there may be a
// "char" (output-text.ts). Readers fail on a STRING that is no UTF-8, so what is none gets U+FFFD in the file, and its
// bytes are told in hexadecimal: `\x` and two digits for each.
import { isUtf8 } from "node:buffer";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { Codec, Encode, Family } from "./family.ts";
import { bytesOfText } from "./output-text.ts";

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** The family, for text that may be any bytes. */
export function anyBytesFamily(family: Family): Family {
  const text = family.type.logical.kind === "string" || family.type.logical.kind === "json";
  return text ? { ...family, encode: checked(family.encode) } : family;
}

/** The codec of a whole column, whose texts `_pg_flo_exact` has: as UTF-8 when they are, else in hexadecimal. */
export function exactCodec({ name, parse, format }: Codec): Codec {
  return {
    name,
    parse,
    format: (bytes, view, at, length) => {
      const text = format(bytes, view, at, length);
      return text.isWellFormed() ? text : hexText(bytesOfText(text));
    },
  };
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
