import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatFloat4, formatFloat8, parseFloat4, parseFloat8 } from "./float-text.ts";

function shown8(value: number): string {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return formatFloat8(view, 0);
}

function shown4(value: number): string {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  return formatFloat4(view, 0);
}

test("every double's text reads back as itself", () => {
  fc.assert(
    fc.property(fc.double(), (value) => {
      assert.ok(Object.is(parseFloat8(shown8(value)), value));
    }),
    { numRuns: 2000 },
  );
});

test("every float4's text reads back as itself", () => {
  fc.assert(
    fc.property(fc.float(), (value) => {
      assert.ok(Object.is(parseFloat4(shown4(value)), value));
    }),
    { numRuns: 2000 },
  );
});

test("a float4's text is rounded once: by way of a double it would be the wrong neighbour", () => {
  const value = new DataView(Uint8Array.of(0x15, 0xae, 0x43, 0xfd).buffer).getFloat32(0);
  assert.notEqual(Math.fround(Number("7.038531e-26")), value);
  assert.equal(parseFloat4("7.038531e-26"), value);
  assert.equal(parseFloat4("-7.038531e-26"), -value);
  assert.equal(shown4(value), "7.038531e-26");
});

test("the middle between two doubles is not among the digits, as in Postgres", () => {
  assert.equal(shown8(1e23), "9.999999999999999e+22");
  assert.equal(shown8(2 ** 53), "9.007199254740992e+15");
  assert.equal(shown8(5e-324), "5e-324");
  assert.equal(shown8(2.2250738585072014e-308), "2.2250738585072014e-308");
  assert.equal(shown4(2 ** -126), "1.1754944e-38");
  assert.equal(shown4(3.4028234663852886e38), "3.4028235e+38");
});

test("texts out of range or of no number are refused", () => {
  for (const text of ["1e400", "-1e400", "", "abc", "1e", ".5", "infinity", "0x10"]) {
    assert.throws(() => parseFloat8(text), /PROTOCOL_VIOLATION/);
    assert.throws(() => parseFloat4(text), /PROTOCOL_VIOLATION/);
  }
  assert.throws(() => parseFloat4("1e39"), /PROTOCOL_VIOLATION/);
});
