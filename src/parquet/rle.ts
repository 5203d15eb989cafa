// The RLE / bit-packing hybrid, for levels and dictionary indices.
// Source: https://github.com/apache/parquet-format/blob/master/Encodings.md#run-length-encoding--bit-packing-hybrid-rle--3

/** The most bytes that `count` values of `bitWidth` bits can take. */
export function maxRleBytes(count: number, bitWidth: number): number {
  // Worst case: bit-packed groups of eight, a header of up to five bytes for each stretch between runs.
  // A run is only made of at least MIN_RUN values, so that its header never costs more than it saves.
  return Math.ceil(count / 8) * bitWidth + Math.ceil(count / MIN_RUN) * 12 + 16;
}

const MIN_RUN = 32;

/**
 * Encodes `values[0..count)`, each below 2^bitWidth (0 to 24), into `target` at `offset`; gives the offset behind it.
 * Long equal stretches become runs, the rest is bit-packed in groups of eight.
 */
export function writeRle(
  target: Uint8Array,
  offset: number,
  values: Uint8Array | Uint16Array,
  count: number,
  bitWidth: number,
): number {
  let at = offset;
  let packedFrom = 0; // values from here on are not written yet
  let i = 0;
  while (i < count) {
    const value = values[i]!;
    let runEnd = i + 1;
    while (runEnd < count && values[runEnd] === value) runEnd++;
    // A bit-packed stretch before a run must be a multiple of eight values: the run gives up its first few.
    const runStart = packedFrom + Math.ceil((i - packedFrom) / 8) * 8;
    if (runEnd - runStart >= MIN_RUN) {
      if (runStart > packedFrom) at = writePacked(target, at, values, packedFrom, runStart, bitWidth);
      at = writeRun(target, at, value, runEnd - runStart, bitWidth);
      packedFrom = runEnd;
    }
    i = runEnd;
  }
  if (packedFrom < count) at = writePacked(target, at, values, packedFrom, count, bitWidth);
  return at;
}

/** One run of `count` equal values. */
export function writeRun(target: Uint8Array, offset: number, value: number, count: number, bitWidth: number): number {
  let at = writeVarint(target, offset, count * 2);
  for (let bits = 0; bits < bitWidth; bits += 8) target[at++] = (value >>> bits) & 0xff;
  return at;
}

function writePacked(
  target: Uint8Array,
  offset: number,
  values: Uint8Array | Uint16Array,
  from: number,
  to: number,
  bitWidth: number,
): number {
  const groups = Math.ceil((to - from) / 8);
  let at = writeVarint(target, offset, groups * 2 + 1);
  let buffered = 0;
  let bits = 0;
  for (let i = from; i < from + groups * 8; i++) {
    buffered |= (i < to ? values[i]! : 0) << bits;
    bits += bitWidth;
    while (bits >= 8) {
      target[at++] = buffered & 0xff;
      buffered >>>= 8;
      bits -= 8;
    }
  }
  return at;
}

function writeVarint(target: Uint8Array, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  while (rest > 0x7f) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}
