// XXH64 with seed 0, in 32-bit halves: a bigint per step would be an allocation per step.
// Source: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md#xxh64-algorithm-description

/** The last hash's halves: written by `xxhash64`, read right behind it. */
export const hash = { high: 0, low: 0 };

// The five primes, high and low halves.
const [P1H, P1L] = [0x9e3779b1, 0x85ebca87];
const [P2H, P2L] = [0xc2b2ae3d, 0x27d4eb4f];
const [P3H, P3L] = [0x165667b1, 0x9e3779f9];
const [P4H, P4L] = [0x85ebca77, 0xc2b2ae63];
const [P5H, P5L] = [0x27d4eb2f, 0x165667c5];

/** Puts the hash of bytes[at, at + length) into `hash`; `view` is of the same bytes. */
export function xxhash64(bytes: Uint8Array, view: DataView, at: number, length: number): void {
  const end = at + length;
  let next = at;
  if (length >= 32) next = hashStripes(view, at, end);
  else load(P5H, P5L);
  add(0, length);
  for (; next + 8 <= end; next += 8) {
    const [high, low] = [accHigh, accLow];
    round(0, 0, view.getUint32(next + 4, true), view.getUint32(next, true));
    load(high ^ accHigh, low ^ accLow);
    rotate(27);
    multiply(P1H, P1L);
    add(P4H, P4L);
  }
  if (next + 4 <= end) {
    const [high, low] = [accHigh, accLow];
    load(0, view.getUint32(next, true));
    multiply(P1H, P1L);
    load(high ^ accHigh, low ^ accLow);
    rotate(23);
    multiply(P2H, P2L);
    add(P3H, P3L);
    next += 4;
  }
  for (; next < end; next++) {
    const [high, low] = [accHigh, accLow];
    load(0, bytes[next]!);
    multiply(P5H, P5L);
    load(high ^ accHigh, low ^ accLow);
    rotate(11);
    multiply(P1H, P1L);
  }
  shiftXor(33);
  multiply(P2H, P2L);
  shiftXor(29);
  multiply(P3H, P3L);
  shiftXor(32);
  hash.high = accHigh >>> 0;
  hash.low = accLow >>> 0;
}

// The accumulator that the steps below work on.
let accHigh = 0;
let accLow = 0;

function load(high: number, low: number): void {
  accHigh = high | 0;
  accLow = low | 0;
}

function add(high: number, low: number): void {
  const sum = (accLow >>> 0) + (low >>> 0);
  accHigh = (accHigh + high + (sum > 0xffffffff ? 1 : 0)) | 0;
  accLow = sum | 0;
}

/** By the low 64 bits of the product. */
function multiply(high: number, low: number): void {
  const [a0, a1, b0, b1] = [accLow & 0xffff, accLow >>> 16, low & 0xffff, low >>> 16];
  const first = a0 * b0;
  const middle = a1 * b0 + (first >>> 16);
  const second = a0 * b1 + (middle & 0xffff);
  const carry = a1 * b1 + (middle >>> 16) + (second >>> 16);
  accHigh = (carry + Math.imul(accHigh, low) + Math.imul(accLow, high)) | 0;
  accLow = Math.imul(accLow, low);
}

/** To the left, by 1 to 31 bits. */
function rotate(bits: number): void {
  const high = accHigh;
  accHigh = (high << bits) | (accLow >>> (32 - bits));
  accLow = (accLow << bits) | (high >>> (32 - bits));
}

/** Xors the accumulator with itself shifted to the right, by 1 to 63 bits. */
function shiftXor(bits: number): void {
  const high = accHigh;
  if (bits >= 32) {
    accLow ^= high >>> (bits - 32);
    return;
  }
  accLow ^= (accLow >>> bits) | (high << (32 - bits));
  accHigh ^= high >>> bits;
}

/** Takes eight bytes into the accumulator (high, low). */
function round(high: number, low: number, inputHigh: number, inputLow: number): void {
  load(inputHigh, inputLow);
  multiply(P2H, P2L);
  add(high, low);
  rotate(31);
  multiply(P1H, P1L);
}

const lanes = new Int32Array(8);

/** Four lanes over stripes of 32 bytes, brought together; gives where the rest begins. */
function hashStripes(view: DataView, at: number, end: number): number {
  load(P1H, P1L);
  add(P2H, P2L);
  lanes.set([accHigh, accLow, P2H, P2L, 0, 0, ~P1H, -P1L]); // minus P1: its low half is not zero
  let next = at;
  for (; next + 32 <= end; next += 32) {
    for (let lane = 0; lane < 4; lane++) {
      const input = next + lane * 8;
      round(lanes[lane * 2]!, lanes[lane * 2 + 1]!, view.getUint32(input + 4, true), view.getUint32(input, true));
      lanes[lane * 2] = accHigh;
      lanes[lane * 2 + 1] = accLow;
    }
  }
  const rotations = [1, 7, 12, 18];
  const sum = [0, 0];
  for (let lane = 0; lane < 4; lane++) {
    load(lanes[lane * 2]!, lanes[lane * 2 + 1]!);
    rotate(rotations[lane]!);
    add(sum[0]!, sum[1]!);
    [sum[0], sum[1]] = [accHigh, accLow];
  }
  for (let lane = 0; lane < 4; lane++) {
    const [high, low] = [accHigh, accLow];
    round(0, 0, lanes[lane * 2]!, lanes[lane * 2 + 1]!);
    load(high ^ accHigh, low ^ accLow);
    multiply(P1H, P1L);
    add(P4H, P4L);
  }
  return next;
}
