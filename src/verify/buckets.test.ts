import assert from "node:assert/strict";
import { test } from "node:test";
import { addBucket, type BucketSum, bucketBounds, bucketScheme, compareBuckets } from "./buckets.ts";

test("the bounds of buckets by a whole number touch, and hold what divides into them, below zero too", () => {
  for (const width of [1n, 3n, 1000n]) {
    for (let bucket = -3n; bucket < 3n; bucket++) {
      const { from, to } = bucketBounds({ width }, bucket);
      assert.deepEqual([from / width, to / width], [bucket, bucket]);
      assert.equal(bucketBounds({ width }, bucket + 1n).from, to + 1n);
    }
  }
});

test("there are as many buckets as rows ask for, over all of a bigint's numbers", () => {
  const [min, max] = [-(2n ** 63n), 2n ** 63n - 1n];
  const scheme = bucketScheme(1e12, { min, max });
  assert.ok(scheme.kind === "range" && (max - min) / scheme.width < 131_073n);
  assert.deepEqual(bucketScheme(10, null), { kind: "hash", mask: 0n });
  assert.deepEqual(bucketScheme(4000, null), { kind: "hash", mask: 3n });
  assert.deepEqual(bucketScheme(0, { min: 5n, max: 5n }), { kind: "range", width: 1n, min: 5n, max: 5n });
});

test("buckets differ by their rows or their sums, and one that only one side has differs", () => {
  const sums = (...buckets: readonly [bigint, number, bigint][]) => {
    const made = new Map<bigint, BucketSum>();
    for (const [bucket, rows, sum] of buckets) addBucket(made, bucket, rows, sum);
    return made;
  };
  // Pieces of a bucket add up.
  const source = sums([0n, 1, 2n ** 62n], [0n, 1, 5n], [1n, 3, 7n], [2n, 1, 1n], [-4n, 2, 0n]);
  const mirror = sums([0n, 2, 2n ** 62n + 5n], [1n, 3, 8n], [2n, 2, 1n]);
  assert.deepEqual(compareBuckets(source, mirror), {
    sourceRows: 8,
    mirrorRows: 7,
    buckets: 4,
    differing: [-4n, 1n, 2n],
    differingRows: 7,
  });
});
