// Files read back and written again: the same rows to the bit, the same schema, and mostly the same file byte for byte.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { makeTestFolder } from "../../test/support/folder.ts";
import { column, MemorySink, types, writeParquet } from "../../test/support/parquet-files.ts";
import { readEverywhere, type Value } from "../../test/support/parquet-readers.ts";
import { randomTree } from "../../test/support/value-shapes.ts";
import { type Compression, compressions } from "../base/compression.ts";
import { Compressor } from "./compressor.ts";
import { type FileBytes, FileRows, readFooter } from "./file-reader.ts";
import { ParquetFileWriter } from "./file-writer.ts";
import type { LeafBuffer } from "./leaf-buffer.ts";
import type { ParquetColumn } from "./schema.ts";

const memoryFile = (bytes: Uint8Array): FileBytes => ({
  sizeBytes: bytes.length,
  read: async (offset, length) => bytes.slice(offset, offset + length),
});

/** What is taken of each stretch of rows. */
type Pick = (row: number) => boolean;

interface Rewriting {
  readonly rowGroupBytes?: number;
  readonly pick?: Pick;
  readonly compression?: Compression;
}

async function rewrite(files: readonly Uint8Array[], options: Rewriting = {}) {
  const { rowGroupBytes = 64 << 20, pick = () => true, compression = "zstd" } = options;
  const sink = new MemorySink();
  const footers = await Promise.all(files.map((file) => readFooter(memoryFile(file))));
  const [{ columns, keyValues } = { columns: [], keyValues: new Map() }] = footers;
  const compressor = new Compressor(compression);
  const createdBy = "pg-flo version 0.0.0 (build test)";
  const writer = new ParquetFileWriter(sink, columns, { rowGroupBytes, createdBy, compressor });
  const targets: LeafBuffer[] = writer.columns.flat();
  for (const [index, bytes] of files.entries()) {
    const rows = new FileRows(memoryFile(bytes), footers[index]!);
    for (let at = 0; ; ) {
      const limit = await rows.ready();
      if (limit === 0) break;
      let count = 1;
      while (count < limit && pick(at + count) === pick(at)) count++;
      if (pick(at)) {
        rows.take(count, targets);
        await writer.endRows(count);
      } else rows.skip(count);
      at += count;
    }
  }
  await writer.finish(keyValues);
  return sink.bytes();
}

const everyType: ParquetColumn[] = [
  ...Object.entries(types).map(([name, type], index) => column(name, index + 1, type)),
  column("texts", 50, types.string, true),
  column("ints", 51, types.int32, true),
];

function everyValue(type: (typeof types)[keyof typeof types], n: number): Value {
  if (n % 11 === 0) return null;
  if (type.physical === "BOOLEAN") return n % 3 === 0 ? "t" : "f";
  if (type.physical === "BYTE_ARRAY")
    return type.logical.kind === "none" ? `x${"0f".repeat(n % 40)}` : `text ${n % 200} é`;
  if (type.physical === "FLOAT" || type.physical === "DOUBLE") return ["NaN", "-0", String(n / 3), "-Infinity"][n % 4]!;
  return String(n % 2 === 0 ? n : -n);
}

function content(rowCount: number): Value[][] {
  const rows = Array.from({ length: rowCount }, (_, n) => n);
  return [
    ...Object.values(types).map((type) => rows.map((n) => everyValue(type, n))),
    rows.map((n): Value => (n % 5 === 0 ? null : Array.from({ length: n % 4 }, (_, k) => (k === 2 ? null : `e${n}`)))),
    rows.map((n): Value => (n % 7 === 0 ? [] : [String(n), null, String(-n)])),
  ];
}

test("a file that is read and written again is the same, byte for byte", async () => {
  const keyValues = new Map([["pg_flo.kind", "copy"]]);
  for (const rowCount of [1, 3000, 24_000]) {
    const file = await writeParquet({ columns: everyType, values: content(rowCount), keyValues, rowsPerCall: 4096 });
    assert.ok(Buffer.from(await rewrite([file])).equals(file), `${rowCount} rows`);
  }
});

test("files of several compressions become one", async () => {
  const rowCount = 3000;
  const written = { columns: everyType, values: content(rowCount), rowsPerCall: 4096 };
  const files = await Promise.all(compressions.map((compression) => writeParquet({ ...written, compression })));
  const four = content(rowCount).map((values) => compressions.flatMap(() => values));
  for (const compression of compressions) {
    const expected = await writeParquet({ ...written, values: four, rowsPerCall: rowCount, compression });
    assert.ok(Buffer.from(await rewrite(files, { compression })).equals(expected), compression);
  }
});

test("bloom filters, row groups and NaNs with other bits come through", async () => {
  const filtered = [{ ...column("id", 1, types.int64), bloomFilter: true }, column("f", 2, types.double)];
  const values: Value[][] = [Array.from({ length: 9000 }, (_, n) => String(n)), Array(9000).fill("1.5")];
  const rowGroupBytes = 30_000;
  const options = { columns: filtered, values, rowGroupBytes, rowsPerCall: 1000 };
  const file = await writeParquet(options);
  const footer = await readFooter(memoryFile(file));
  assert.deepEqual([footer.columns, footer.rowGroups.length > 3], [filtered, true]);
  const again = await readFooter(memoryFile(await rewrite([file], { rowGroupBytes })));
  assert.deepEqual(again.columns, filtered);
  assert.equal(again.rowCount, 9000);
});

test("several files become one, and any choice of rows is those rows", async () => {
  await using folder = await makeTestFolder();
  const values = content(3500);
  const part = (from: number, to: number) =>
    writeParquet({
      columns: everyType,
      values: values.map((all) => all.slice(from, to)),
      rowGroupBytes: 50_000,
      rowsPerCall: 700,
    });
  const files = [await part(0, 1), await part(1, 2000), await part(2000, 3500)];
  const all = await readEverywhere(folder, "all.parquet", await rewrite(files));
  const expected = await readEverywhere(folder, "expected.parquet", await writeParquet({ columns: everyType, values }));
  assert.deepEqual(all, expected);
  const pick: Pick = (row) => row % 500 < 150 || (row > 800 && row < 1900) || row % 17 === 0;
  const some = await readEverywhere(folder, "some.parquet", await rewrite([files[1]!], { pick }));
  const kept = values.map((each) => each.slice(1, 2000).filter((_, row) => pick(row)));
  const wanted = await readEverywhere(folder, "kept.parquet", await writeParquet({ columns: everyType, values: kept }));
  assert.deepEqual(some, wanted);
});

test("random trees of random values, of which random rows are taken", async () => {
  await using folder = await makeTestFolder();
  let number = 0;
  const subject = randomTree.chain((make) => {
    const { column: made, value } = make("c", { next: 1 });
    const rows = fc.array(fc.tuple(value, fc.boolean()), { minLength: 1, maxLength: 30 });
    return fc.record({ column: fc.constant(made), rows });
  });
  await fc.assert(
    fc.asyncProperty(subject, async ({ column: made, rows }) => {
      const file = await writeParquet({ columns: [made], values: [rows.map(([value]) => value)], rowsPerCall: 7 });
      assert.deepEqual((await readFooter(memoryFile(file))).columns, [made]);
      const kept = rows.filter(([, taken]) => taken).map(([value]) => value);
      if (kept.length === 0) return;
      const some = await rewrite([file], { pick: (row) => rows[row]![1] });
      const [read] = await readEverywhere(folder, `${number++}.parquet`, some);
      assert.deepEqual(read!.values, kept);
    }),
    { numRuns: 40 },
  );
});

test("what is no file of ours, or is cut off, is refused", async () => {
  const file = await writeParquet({ columns: [column("a", 1, types.int32)], values: [["1", "2"]] });
  for (const bytes of [new Uint8Array(0), new Uint8Array(20), file.subarray(0, file.length - 1)]) {
    await assert.rejects(readFooter(memoryFile(bytes)), { code: "INTERNAL" });
  }
  const footerLength = new DataView(file.buffer).getUint32(file.length - 8, true);
  for (let at = file.length - 8 - footerLength; at < file.length - 8; at += 3) {
    const damaged = file.slice();
    damaged[at] = 0xff;
    const read = async () => {
      const rows = new FileRows(memoryFile(damaged), await readFooter(memoryFile(damaged)));
      while ((await rows.ready()) > 0) rows.skip(1);
    };
    await read().catch((error: unknown) => assert.ok(error instanceof Error)); // ends, one way or the other
  }
});
