import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { maxRleBytes, writeRle, writeRun } from "./rle.ts";

/** A decoder written from the specification, which knows nothing of the encoder. Gives at least `count` values. */
function decode(bytes: Uint8Array, bitWidth: number, count: number): number[] {
  const values: number[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const header = varint();
    assert.ok(header > 1, "an empty run");
    if (header % 2 === 0) {
      let value = 0;
      for (let k = 0; k < Math.ceil(bitWidth / 8); k++) value += bytes[at++]! * 2 ** (8 * k);
      for (let k = 0; k < header / 2; k++) values.push(value);
    } else {
      assert.ok(values.length + (header - 1) * 4 - 7 <= count, "more groups than values");
      let bits = 0n;
      const size = ((header - 1) / 2) * bitWidth;
      for (let k = 0; k < size; k++) bits |= BigInt(bytes[at++]!) << BigInt(8 * k);
      for (let k = 0; k < (header - 1) * 4; k++) {
        values.push(Number((bits >> BigInt(k * bitWidth)) & ((1n << BigInt(bitWidth)) - 1n)));
      }
    }
  }
  assert.equal(at, bytes.length);
  assert.ok(values.length >= count && values.length < count + 8);
  assert.ok(
    values.slice(count).every((value) => value === 0),
    "padding is zero",
  );
  return values.slice(0, count);
}

test("random runs and random values come back, in the room that was promised", () => {
  const stretch = fc.record({
    value: fc.nat(0xffff),
    length: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 20, max: 90 }), fc.constant(1000)),
    random: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 16 }),
      fc.array(stretch, { maxLength: 12 }),
      fc.nat(),
      (bitWidth, parts, seed) => {
        let state = seed;
        const values = parts.flatMap(({ value, length, random }) =>
          Array.from({ length }, () => {
            state = (Math.imul(state, 1103515245) + 12345) >>> 0;
            return (random ? state >>> 8 : value) % 2 ** bitWidth;
          }),
        );
        const target = new Uint8Array(maxRleBytes(values.length, bitWidth) + 5).fill(0xaa);
        const end = writeRle(target, 2, Uint16Array.from(values), values.length, bitWidth);
        assert.ok(end - 2 <= maxRleBytes(values.length, bitWidth));
        assert.deepEqual([...target.subarray(0, 2), ...target.subarray(end, end + 3)], Array(5).fill(0xaa));
        assert.deepEqual(decode(target.subarray(2, end), bitWidth, values.length), values);
      },
    ),
    { numRuns: 500 },
  );
});

test("the worst mixture of runs and single values stays in the room that was promised", () => {
  for (const run of [31, 32, 33, 39, 40]) {
    for (const between of [1, 7, 8, 9]) {
      const values = Array.from({ length: 20_000 }, (_, i) => (i % (run + between) < run ? 0 : (i % 2) + 1));
      const target = new Uint8Array(maxRleBytes(values.length, 2));
      const end = writeRle(target, 0, Uint8Array.from(values), values.length, 2);
      assert.ok(end <= target.length);
      assert.deepEqual(decode(target.subarray(0, end), 2, values.length), values);
    }
  }
});

test("a run is its header and one value", () => {
  const target = new Uint8Array(8);
  assert.equal(writeRun(target, 0, 1, 20_000, 1), 4);
  assert.deepEqual([...target.subarray(0, 4)], [0xc0, 0xb8, 0x02, 1]);
});
