import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatFloat4, formatFloat8 } from "./float-text.ts";
import { FLOAT8_TEXT_BYTES, writeFloat4, writeFloat8 } from "./float8-digits.ts";

const view = new DataView(new ArrayBuffer(8));
const out = new Uint8Array(FLOAT8_TEXT_BYTES);
const textTo = (end: number) => Buffer.from(out.buffer, 0, end).toString("latin1");

function assertSame(value: number): void {
  view.setFloat64(0, value);
  assert.equal(textTo(writeFloat8(out, 0, view, 0)), formatFloat8(view, 0));
  view.setFloat32(0, value);
  assert.equal(textTo(writeFloat4(out, 0, view, 0)), formatFloat4(view, 0));
}

test("the quick way to write a float gives the text of the exact way", () => {
  const bits = fc.bigInt(0n, 2n ** 64n - 1n).map((word) => {
    view.setBigUint64(0, word);
    return view.getFloat64(0);
  });
  const decimal = fc.tuple(fc.bigInt(-(10n ** 18n), 10n ** 18n), fc.integer({ min: -20, max: 20 }));
  const short = fc.tuple(fc.integer(), fc.integer({ min: 0, max: 12 })).map(([n, k]) => n / 10 ** k);
  const values = fc.oneof(
    bits,
    short,
    decimal.map(([digits, exponent]) => Number(`${digits}e${exponent}`)),
    // Where two shortest texts are as near, and around the limits of the notations.
    fc.tuple(fc.integer({ min: 2 ** 30, max: 2 ** 31 - 1 }), fc.nat(2 ** 23)).map(([n, k]) => n * 2 ** 20 + k / 4),
    fc.constantFrom(1e15, 1e15 - 1, 999999999999999.9, 1e-4, 9.999e-5, 2 ** 53, 2 ** 53 + 2, 5e-324, -0, 1e22, 1e23),
  );
  fc.assert(fc.property(values, assertSame), { numRuns: 20_000 });
});
