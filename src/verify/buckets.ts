// A table's rows in buckets: how many, by what, and which of them differ between the source and the mirror. Pure.
// Rows with a whole number for a key are bucketed by ranges of it, so that the rows of one that differs are found by
// the key's index; all others by their own checksum.

export type BucketScheme =
  /** key / width, towards zero, so that one side of zero is no special case. */
  | { readonly kind: "range"; readonly width: bigint; readonly min: bigint; readonly max: bigint }
  | { readonly kind: "hash"; readonly mask: bigint };

/** Of one bucket. */
export interface BucketSum {
  readonly rows: number;
  /** Of the rows' checksums: the same in whatever order. */
  readonly sum: bigint;
}

export type BucketSums = ReadonlyMap<bigint, BucketSum>;

/** Two rows that differ are listed with so many others. More buckets cost the server memory, and its cache. */
const ROWS_PER_BUCKET = 1024;
const BUCKETS_MAX = 131_072;

export function bucketScheme(
  rowsExpected: number,
  key: { readonly min: bigint; readonly max: bigint } | null,
): BucketScheme {
  const wanted = Math.min(BUCKETS_MAX, Math.max(1, Math.ceil(rowsExpected / ROWS_PER_BUCKET)));
  if (key === null) return { kind: "hash", mask: (1n << BigInt(Math.ceil(Math.log2(wanted)))) - 1n };
  const span = key.max - key.min + 1n;
  const width = (span + BigInt(wanted) - 1n) / BigInt(wanted);
  return { kind: "range", width, ...key };
}

/** Inclusive bounds of the keys that a bucket holds. */
export function bucketBounds({ width }: { readonly width: bigint }, bucket: bigint): { from: bigint; to: bigint } {
  if (bucket > 0n) return { from: bucket * width, to: (bucket + 1n) * width - 1n };
  if (bucket < 0n) return { from: (bucket - 1n) * width + 1n, to: bucket * width };
  return { from: 1n - width, to: width - 1n };
}

export interface BucketComparison {
  readonly sourceRows: number;
  readonly mirrorRows: number;
  readonly buckets: number;
  /** Those that differ, in order. */
  readonly differing: readonly bigint[];
  /** Of these, on the side that has more. */
  readonly differingRows: number;
}

export function compareBuckets(source: BucketSums, mirror: BucketSums): BucketComparison {
  const empty: BucketSum = { rows: 0, sum: 0n };
  const all = new Set([...source.keys(), ...mirror.keys()]);
  const differing: bigint[] = [];
  let differingRows = 0;
  for (const bucket of all) {
    const [left, right] = [source.get(bucket) ?? empty, mirror.get(bucket) ?? empty];
    if (left.rows === right.rows && left.sum === right.sum) continue;
    differing.push(bucket);
    differingRows += Math.max(left.rows, right.rows);
  }
  differing.sort((a, b) => (a < b ? -1 : 1));
  return { sourceRows: rowsOf(source), mirrorRows: rowsOf(mirror), buckets: all.size, differing, differingRows };
}

/** Adds what one more piece of the table gave. */
export function addBucket(sums: Map<bigint, BucketSum>, bucket: bigint, rows: number, sum: bigint): void {
  const before = sums.get(bucket);
  sums.set(bucket, { rows: (before?.rows ?? 0) + rows, sum: (before?.sum ?? 0n) + sum });
}

function rowsOf(sums: BucketSums): number {
  let rows = 0;
  for (const bucket of sums.values()) rows += bucket.rows;
  return rows;
}
