import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { hash, xxhash64 } from "./xxhash64.ts";

function hashOf(bytes: Uint8Array): bigint {
  xxhash64(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length);
  return (BigInt(hash.high) << 32n) | BigInt(hash.low);
}

test("hashes are those of the reference implementation", () => {
  const text = (value: string): bigint => hashOf(new TextEncoder().encode(value));
  assert.equal(text(""), 0xef46db3751d8e999n);
  assert.equal(text("a"), 0xd24ec4f1a98c6e5bn);
  assert.equal(text("abc"), 0x44bc2cf5ad770999n);
  assert.equal(text("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1n);
});

test("hashes of any length are those of the specification in plain bigints", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      assert.equal(hashOf(bytes), specified(bytes));
    }),
  );
});

const primes = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
];
const [P1, P2, P3, P4, P5] = primes as [bigint, bigint, bigint, bigint, bigint];
const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);
const rotl = (value: bigint, bits: bigint): bigint => wrap(value << bits) | (value >> (64n - bits));
const round = (lane: bigint, input: bigint): bigint => wrap(rotl(wrap(lane + wrap(input * P2)), 31n) * P1);

function specified(bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let acc = P5;
  if (bytes.length >= 32) {
    const lanes = [wrap(P1 + P2), P2, 0n, wrap(-P1)];
    for (; at + 32 <= bytes.length; at += 32) {
      for (let k = 0; k < 4; k++) lanes[k] = round(lanes[k]!, view.getBigUint64(at + k * 8, true));
    }
    acc = wrap(rotl(lanes[0]!, 1n) + rotl(lanes[1]!, 7n) + rotl(lanes[2]!, 12n) + rotl(lanes[3]!, 18n));
    for (const lane of lanes) acc = wrap((acc ^ round(0n, lane)) * P1 + P4);
  }
  acc = wrap(acc + BigInt(bytes.length));
  for (; at + 8 <= bytes.length; at += 8) {
    acc = wrap(rotl(acc ^ round(0n, view.getBigUint64(at, true)), 27n) * P1 + P4);
  }
  if (at + 4 <= bytes.length) {
    acc = wrap(rotl(acc ^ wrap(BigInt(view.getUint32(at, true)) * P1), 23n) * P2 + P3);
    at += 4;
  }
  for (; at < bytes.length; at++) acc = wrap(rotl(acc ^ wrap(BigInt(bytes[at]!) * P5), 11n) * P1);
  acc = wrap((acc ^ (acc >> 33n)) * P2);
  acc = wrap((acc ^ (acc >> 29n)) * P3);
  return acc ^ (acc >> 32n);
}
