// The RLE / bit-packing hybrid, the reading half (rle.ts writes it).
// Source: https://github.com/apache/parquet-format/blob/master/Encodings.md#run-length-encoding--bit-packing-hybrid-rle--3
import { malformedFile } from "./thrift-reader.ts";

/** Fills `target` with as many values as it has room for, from bytes[at, end). Values are below 2^bitWidth (1 to 16). */
export function readRle(
  target: Uint8Array | Uint16Array,
  bytes: Uint8Array,
  at: number,
  end: number,
  bitWidth: number,
): void {
  const widthBytes = (bitWidth + 7) >> 3;
  let next = at;
  let filled = 0;
  while (filled < target.length) {
    let header = 0;
    for (let factor = 1; ; factor *= 128) {
      if (next >= end) throw malformedFile("a page's levels or indices end too early");
      const byte = bytes[next++]!;
      header += (byte & 0x7f) * factor;
      if (byte < 0x80) break;
    }
    if (header % 2 === 0) {
      let value = 0;
      for (let k = 0; k < widthBytes; k++) value |= bytes[next + k]! << (8 * k);
      next += widthBytes;
      const runEnd = Math.min(target.length, filled + header / 2);
      if (next > end || runEnd === filled) throw malformedFile("a run of a page's levels or indices is empty");
      target.fill(value, filled, runEnd);
      filled = runEnd;
    } else {
      const groups = (header - 1) / 2;
      if (groups === 0 || next + groups * bitWidth > end) throw malformedFile("packed levels or indices end too early");
      const count = Math.min(groups * 8, target.length - filled);
      unpack(target, filled, count, bytes, next, bitWidth);
      next += groups * bitWidth;
      filled += count;
    }
  }
}

function unpack(
  target: Uint8Array | Uint16Array,
  from: number,
  count: number,
  bytes: Uint8Array,
  at: number,
  bitWidth: number,
): void {
  const mask = (1 << bitWidth) - 1;
  let buffered = 0;
  let bits = 0;
  let next = at;
  for (let i = from; i < from + count; i++) {
    while (bits < bitWidth) {
      buffered |= bytes[next++]! << bits;
      bits += 8;
    }
    target[i] = buffered & mask;
    buffered >>>= bitWidth;
    bits -= bitWidth;
  }
}
