import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { plainBytes, types } from "../../test/support/parquet-files.ts";
import type { ValueType } from "./schema.ts";
import { mergeBounds, pageBounds } from "./statistics.ts";
import { writableMax, writableMin } from "./written-bounds.ts";

function boundsOf(type: ValueType, values: readonly string[]) {
  const plain = Buffer.concat([Buffer.alloc(3, 0xee), ...values.map((value) => plainBytes(type, value))]);
  return pageBounds(type, plain, 3, plain.length, values.length);
}

function told(type: ValueType, values: readonly string[]) {
  const bounds = boundsOf(type, values);
  if (bounds === "none" || bounds === "unordered") return bounds;
  return { min: writableMin(type, bounds.min), max: writableMax(type, bounds.max) };
}

function hexBounds(type: ValueType, values: readonly string[]): readonly (string | null)[] {
  const bounds = told(type, values);
  if (typeof bounds === "string") return [bounds];
  return [Buffer.from(bounds.min.bytes).toString("hex"), bounds.max && Buffer.from(bounds.max.bytes).toString("hex")];
}

test("without values there are no bounds, and merging with none changes nothing", () => {
  assert.equal(boundsOf(types.int32, []), "none");
  const some = boundsOf(types.int32, ["1"]);
  assert.equal(mergeBounds(types.int32, "none", some), some);
  assert.equal(mergeBounds(types.int32, some, "none"), some);
  assert.equal(mergeBounds(types.int32, some, "unordered"), "unordered");
});

test("a NaN leaves the page without bounds", () => {
  assert.equal(boundsOf(types.double, ["1", "NaN", "2"]), "unordered");
  assert.equal(boundsOf(types.float, ["NaN"]), "unordered");
});

test("zero of either sign is -0.0 as lower and +0.0 as upper bound", () => {
  const hex = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeDoubleLE(value);
    return bytes.toString("hex");
  };
  assert.deepEqual(hexBounds(types.double, ["0"]), [hex(-0), hex(0)]);
  assert.deepEqual(hexBounds(types.double, ["-0"]), [hex(-0), hex(0)]);
  assert.deepEqual(hexBounds(types.double, ["-0", "5"]), [hex(-0), hex(5)]);
  assert.deepEqual(hexBounds(types.double, ["0", "-5"]), [hex(-5), hex(0)]);
  const infinite = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY].map(hex);
  assert.deepEqual(hexBounds(types.double, ["Infinity", "-Infinity"]), infinite);
  assert.deepEqual(hexBounds(types.double, ["Infinity"]), [infinite[1], infinite[1]]);
});

test("integers and decimals of every width are compared with their sign", () => {
  for (const type of [types.int32, types.int64, types.decimal9, types.decimal18, types.decimal38]) {
    fc.assert(
      fc.property(fc.array(integersOf(type), { minLength: 1, maxLength: 30 }), (values) => {
        const sorted = values.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
        const expected = [sorted[0]!, sorted.at(-1)!].map((value) =>
          Buffer.from(plainBytes(type, String(value))).toString("hex"),
        );
        assert.deepEqual(hexBounds(type, values.map(String)), expected);
      }),
    );
  }
});

function integersOf(type: ValueType): fc.Arbitrary<bigint> {
  const bits = type.physical === "INT32" ? 32n : type.physical === "INT64" ? 64n : 128n;
  const [min, max] = [-(2n ** (bits - 1n)), 2n ** (bits - 1n) - 1n];
  return fc.oneof(
    fc.bigInt({ min, max }),
    fc.bigInt({ min: -3n, max: 3n }),
    fc.constantFrom(min, max, 2n ** 32n % max, -(2n ** 32n) % max),
  );
}

test("booleans have the bounds of what is there", () => {
  assert.deepEqual(hexBounds(types.bool, ["f", "f"]), ["00", "00"]);
  assert.deepEqual(hexBounds(types.bool, ["t"]), ["01", "01"]);
  assert.deepEqual(hexBounds(types.bool, ["t", "f"]), ["00", "01"]);
});

const oddTexts = fc.oneof(
  fc.string({ unit: "binary", maxLength: 90 }),
  fc.string({
    unit: fc.constantFrom("a", "z", "\u007f", "é", "߿", "￼", "𐀀", "퟿", "􏿿", "\u0001"),
    minLength: 14,
    maxLength: 70,
  }),
  fc.constantFrom("", "a", "a".repeat(64), "a".repeat(65), "é".repeat(32), `x${"é".repeat(32)}`, "􏿿".repeat(17)),
);

function checkByteBounds(type: ValueType, values: readonly Buffer[]): void {
  const texts = values.map((value) =>
    type.logical.kind === "string" ? value.toString() : `x${value.toString("hex")}`,
  );
  const half = Math.ceil(texts.length / 2);
  const merged = mergeBounds(type, boundsOf(type, texts.slice(0, half)), boundsOf(type, texts.slice(half)));
  assert.deepEqual(merged, boundsOf(type, texts), "two pages have the bounds of one");
  assert.ok(merged !== "none" && merged !== "unordered");
  const sorted = values.toSorted(Buffer.compare);
  const min = writableMin(type, merged.min);
  const max = writableMax(type, merged.max);
  assert.ok(min.bytes.length <= 64 && (max === null || max.bytes.length <= 65));
  assert.ok(Buffer.compare(min.bytes, sorted[0]!) <= 0, "the lower bound is above a value");
  assert.equal(min.exact, Buffer.compare(min.bytes, sorted[0]!) === 0);
  if (max === null) return;
  assert.ok(Buffer.compare(max.bytes, sorted.at(-1)!) >= 0, "the upper bound is below a value");
  assert.equal(max.exact, Buffer.compare(max.bytes, sorted.at(-1)!) === 0);
  if (type.logical.kind !== "string") return;
  for (const { bytes } of [min, max]) new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

test("bounds of texts enclose them, are valid UTF-8 and at most 64 bytes", () => {
  fc.assert(
    fc.property(fc.array(oddTexts, { minLength: 1, maxLength: 12 }), (texts) => {
      checkByteBounds(
        types.string,
        texts.map((text) => Buffer.from(text.toWellFormed())),
      );
    }),
    { numRuns: 1000 },
  );
});

test("bounds of bytes enclose them, 0xff included", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.array(fc.constantFrom(0, 1, 0xfe, 0xff), { maxLength: 80 }).map((list) => Uint8Array.from(list)),
    fc.integer({ min: 60, max: 70 }).map((length) => new Uint8Array(length).fill(0xff)),
  );
  fc.assert(
    fc.property(fc.array(bytes, { minLength: 1, maxLength: 12 }), (list) => {
      checkByteBounds(
        types.bytes,
        list.map((item) => Buffer.from(item)),
      );
    }),
    { numRuns: 1000 },
  );
});

test("bounds of bytes that begin alike enclose them", () => {
  const tails = fc.array(fc.constantFrom(0, 1, 0x61, 0xff), { maxLength: 6 });
  const lists = fc
    .tuple(fc.integer({ min: 0, max: 9 }), fc.array(tails, { minLength: 1, maxLength: 40 }))
    .map(([shared, list]) => list.map((tail) => Buffer.from([...new Array<number>(shared).fill(0x61), ...tail])));
  fc.assert(
    fc.property(lists, (list) => checkByteBounds(types.bytes, list)),
    { numRuns: 1000 },
  );
});

test("where nothing short lies above a long value there is no upper bound", () => {
  assert.equal(hexBounds(types.bytes, [`x${"ff".repeat(65)}`])[1], null);
  assert.equal(hexBounds(types.bytes, [`x${"ff".repeat(64)}`])[1], "ff".repeat(64));
  assert.equal(hexBounds(types.bytes, [`x${"61".repeat(63)}${"ff".repeat(5)}`])[1], `${"61".repeat(62)}62`);
  assert.equal(hexBounds(types.string, ["\u{10ffff}".repeat(17)])[1], null);
  assert.equal(
    hexBounds(types.string, [`${"é".repeat(31)}ab${"c".repeat(9)}`])[1],
    Buffer.from(`${"é".repeat(31)}ac`).toString("hex"),
  );
});

test("the character above U+D7FF is U+E000, because surrogates are no characters", () => {
  const bounds = told(types.string, ["\ud7ff".repeat(30)]);
  assert.ok(typeof bounds !== "string" && bounds.max);
  assert.equal(Buffer.from(bounds.max.bytes).toString(), `${"\ud7ff".repeat(20)}\ue000`);
});
