// Closes a filled LeafBuffer into the body of a data page (V1): levels, then values, as one piece of bytes.
// Source: https://github.com/apache/parquet-format#data-pages and PageHeader in parquet.thrift.
import { crc32 } from "../base/crc32.ts";
import type { Frame } from "./compressor.ts";
import { LEVEL_HEADROOM_BYTES, type LeafBuffer } from "./leaf-buffer.ts";
import { maxRleBytes, writeRle, writeRun } from "./rle.ts";
import type { ValueType } from "./schema.ts";
import { type PageBounds, pageBounds } from "./statistics.ts";
import { ThriftWriter } from "./thrift.ts";

const ENCODING_PLAIN = 0;
const ENCODING_RLE = 3;
export const ENCODING_RLE_DICTIONARY = 8;

export interface PageFigures {
  readonly rowCount: number;
  readonly entryCount: number;
  readonly nullCount: number;
  readonly bounds: PageBounds;
}

/** What the page index and the footer say of the page's values. */
export function pageFigures(leaf: LeafBuffer, bounds: PageBounds): PageFigures {
  return {
    rowCount: leaf.rowCount,
    entryCount: leaf.entryCount,
    nullCount: leaf.entryCount - leaf.valueCount,
    bounds,
  };
}

/** Bounds of the page's PLAIN values, before they are packed. */
export function plainBounds(type: ValueType, leaf: LeafBuffer): PageBounds {
  return pageBounds(type, leaf.bytes, LEVEL_HEADROOM_BYTES, leaf.end, leaf.valueCount);
}

/** The page's levels and PLAIN values. The result lies in the leaf's own buffer when the levels fit into its headroom. */
export function plainPageBody(type: ValueType, leaf: LeafBuffer): Uint8Array<ArrayBuffer> {
  const end = type.physical === "BOOLEAN" ? packBooleans(leaf) : leaf.end;
  const levels = levelBytes(leaf);
  if (levels.length > LEVEL_HEADROOM_BYTES) {
    const body = new Uint8Array(levels.length + end - LEVEL_HEADROOM_BYTES);
    body.set(levels);
    body.set(leaf.bytes.subarray(LEVEL_HEADROOM_BYTES, end), levels.length);
    return body;
  }
  const start = LEVEL_HEADROOM_BYTES - levels.length;
  leaf.bytes.set(levels, start);
  return leaf.bytes.subarray(start, end);
}

/** Repetition levels (inside of lists only) and definition levels, each behind its length (data page V1). */
export function levelBytes(leaf: LeafBuffer): Uint8Array<ArrayBuffer> {
  const { entryCount, present, maxRepetition } = leaf;
  const definitionBits = bitsOf(present);
  if (maxRepetition === 0 && leaf.valueCount === entryCount) {
    const run = new Uint8Array(16);
    const end = writeRun(run, 4, present, entryCount, definitionBits);
    new DataView(run.buffer).setUint32(0, end - 4, true);
    return run.subarray(0, end);
  }
  const repetitionBits = bitsOf(maxRepetition);
  const bytes = new Uint8Array(
    8 + maxRleBytes(entryCount, definitionBits) + (maxRepetition > 0 ? maxRleBytes(entryCount, repetitionBits) : 0),
  );
  const view = new DataView(bytes.buffer);
  let at = 0;
  if (maxRepetition > 0) {
    const end = writeRle(bytes, at + 4, leaf.repetitions, entryCount, repetitionBits);
    view.setUint32(at, end - at - 4, true);
    at = end;
  }
  const end = writeRle(bytes, at + 4, leaf.definitions, entryCount, definitionBits);
  view.setUint32(at, end - at - 4, true);
  return bytes.subarray(0, end);
}

/** The bit width of levels up to this one. */
function bitsOf(maxLevel: number): number {
  return 32 - Math.clz32(maxLevel);
}

/** PageHeader of a data page; `encoding` is of its values. */
export function dataPageHeader(
  figures: PageFigures,
  encoding: "plain" | "dictionary",
  uncompressedSize: number,
  compressed: Frame,
): Uint8Array {
  const thrift = pageHeader(0, uncompressedSize, compressed);
  thrift.struct(5);
  thrift.i32(1, figures.entryCount);
  thrift.i32(2, encoding === "plain" ? ENCODING_PLAIN : ENCODING_RLE_DICTIONARY);
  thrift.i32(3, ENCODING_RLE);
  thrift.i32(4, ENCODING_RLE);
  thrift.end();
  return thrift.finish();
}

/** PageHeader of a dictionary page of `valueCount` PLAIN values. */
export function dictionaryPageHeader(valueCount: number, uncompressedSize: number, compressed: Frame): Uint8Array {
  const thrift = pageHeader(2, uncompressedSize, compressed);
  thrift.struct(7);
  thrift.i32(1, valueCount);
  thrift.i32(2, ENCODING_PLAIN);
  thrift.end();
  return thrift.finish();
}

function pageHeader(pageType: number, uncompressedSize: number, compressed: Frame): ThriftWriter {
  const thrift = new ThriftWriter();
  thrift.i32(1, pageType);
  thrift.i32(2, uncompressedSize);
  thrift.i32(3, compressed.sizeBytes);
  let checksum = 0;
  for (const piece of compressed.pieces) checksum = crc32(piece, checksum);
  thrift.i32(4, checksum | 0);
  return thrift;
}

// Eight values a byte, the lowest bit first; in place, because the packed form is never ahead of the unpacked one.
function packBooleans(leaf: LeafBuffer): number {
  const { bytes } = leaf;
  let at = LEVEL_HEADROOM_BYTES;
  for (let i = LEVEL_HEADROOM_BYTES; i < leaf.end; i += 8) {
    let packed = 0;
    const count = Math.min(8, leaf.end - i);
    for (let bit = 0; bit < count; bit++) packed |= bytes[i + bit]! << bit;
    bytes[at++] = packed;
  }
  return at;
}
