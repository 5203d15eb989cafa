// Files of a run become one, with a footer that says so; what does not fit stays apart, and damage is never taken over.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import { makeTestFolder, type TestFolder } from "../../test/support/folder.ts";
import { column, types, writeParquet } from "../../test/support/parquet-files.ts";
import { queryDuckdb, type Value } from "../../test/support/parquet-readers.ts";
import { lsn } from "../base/lsn.ts";
import type { ManifestFile } from "../metadata/files.ts";
import { readFooter } from "../parquet/file-reader.ts";
import type { ParquetColumn } from "../parquet/schema.ts";
import { openLocalStorage } from "../storage/local.ts";
import { LocalFile } from "./fold-inputs.ts";
import { compactedKeyValues } from "./footer-facts.ts";
import { mergeRun } from "./merge-run.ts";

const id = column("id", 1, types.int64);
const old = column("_old_id", 1_100_001, types.int64);

async function put(folder: TestFolder, number: number, columns: readonly ParquetColumn[], rows: Value[]) {
  const keyValues = new Map([
    ["pg_flo.kind", "stream"],
    ["pg_flo.schema_version", "1"],
    ["pg_flo.lsn_start", String(number * 100)],
    ["pg_flo.lsn_end", String(number * 100 + 50)],
    ["pg_flo.columns", "[]"],
  ]);
  const bytes = await writeParquet({ columns, values: columns.map(() => rows), keyValues });
  const path = `${number}.parquet`;
  await writeFile(join(folder.path, path), bytes);
  const file: ManifestFile = {
    ...{ fileId: number, kind: "stream", stream: 1, batchId: BigInt(number), path, schemaVersion: 1 },
    ...{ rowCount: rows.length, sizeBytes: bytes.length, createdAt: new Date(number * 1000) },
    ...{ lsnStart: lsn(BigInt(number) * 100n), lsnEnd: lsn(BigInt(number) * 100n + 50n) },
    checksum: `crc32:${crc32(bytes).toString(16).padStart(8, "0")}`,
  };
  return file;
}

async function mergeAll(folder: TestFolder, run: readonly ManifestFile[]) {
  const merges = [];
  let number = 0;
  const storage = openLocalStorage(folder.path);
  const { signal } = new AbortController();
  const pathOf = () => `merged-${++number}.parquet`;
  for await (const merge of mergeRun({ storage, compression: "zstd", run, pathOf, signal })) merges.push(merge);
  return merges;
}

async function filesIn(folder: TestFolder): Promise<string[]> {
  const paths = [];
  for await (const { path } of openLocalStorage(folder.path).list("")) paths.push(path);
  return paths.sort();
}

test("a merged file has the rows in order, and the facts of all that it was made of", async () => {
  await using folder = await makeTestFolder();
  const run = [
    await put(folder, 1, [id], ["1", "2"]),
    await put(folder, 2, [id], ["3"]),
    await put(folder, 3, [id], ["0", null]),
  ];
  const [merge, ...others] = await mergeAll(folder, run);
  assert.deepEqual([merge!.removed, others], [run, []]);
  const [{ checksum: _, sizeBytes, ...facts }] = merge!.added;
  const expected = { kind: "stream", stream: 1, batchId: 3n, schemaVersion: 1, rowCount: 5, path: "merged-1.parquet" };
  assert.deepEqual(facts, { ...expected, lsnStart: 100n, lsnEnd: 350n, createdAt: new Date(3000) });
  const [read] = await queryDuckdb(`select id from '${folder.path}/merged-1.parquet'`);
  assert.deepEqual(read!.values, ["1", "2", "3", "0", null]);
  await using file = await LocalFile.open(join(folder.path, "merged-1.parquet"));
  assert.equal(file.sizeBytes, sizeBytes);
  const { keyValues, columns } = await readFooter(file);
  assert.deepEqual(columns, [id]);
  assert.deepEqual([keyValues.get("pg_flo.lsn_start"), keyValues.get("pg_flo.lsn_end")], ["100", "350"]);
  assert.deepEqual([...keyValues.keys()].length, 5);
});

test("files with other columns are not put into one, and one alone stays as it is", async () => {
  await using folder = await makeTestFolder();
  const files = [];
  for (const [at, columns] of [[id], [id], [id, old], [id], [id], [id]].entries()) {
    files.push(await put(folder, at + 1, columns, [String(at)]));
  }
  const merges = await mergeAll(folder, files);
  assert.deepEqual(
    merges.map(({ removed }) => removed.map(({ path }) => path)),
    [
      ["1.parquet", "2.parquet"],
      ["4.parquet", "5.parquet", "6.parquet"],
    ],
  );
  assert.equal((await filesIn(folder)).length, files.length + 2);
});

test("a file that is not what the manifest says ends the merge, and leaves nothing", async () => {
  await using folder = await makeTestFolder();
  const run = [await put(folder, 1, [id], ["1"]), await put(folder, 2, [id], ["2"])];
  const damaged = { ...run[1]!, checksum: "crc32:00000000" };
  await assert.rejects(mergeAll(folder, [run[0]!, damaged]), { code: "TABLE_FAILED" });
  await assert.rejects(mergeAll(folder, [run[0]!, { ...run[1]!, rowCount: 7 }]), { code: "INTERNAL" });
  await assert.rejects(mergeAll(folder, [run[0]!, { ...run[1]!, path: "gone.parquet" }]), { code: "STORAGE_FAILED" });
  assert.deepEqual(await filesIn(folder), ["1.parquet", "2.parquet"]);
});

test("a merged file is GeoParquet for the columns that every file is it for", () => {
  const geo = (...names: string[]) =>
    JSON.stringify({
      version: "1.1.0",
      primary_column: names[0],
      columns: Object.fromEntries(names.map((n) => [n, {}])),
    });
  const merged = (...texts: (string | undefined)[]) => {
    const files = texts.map((text) => new Map(text === undefined ? [] : [["geo", text]]));
    return compactedKeyValues(files, { kind: "copy", lsnStart: lsn(1n), lsnEnd: lsn(1n) }).get("geo");
  };
  assert.equal(merged(geo("a", "b"), geo("b", "a")), geo("b", "a"));
  assert.equal(merged(geo("b"), geo("a", "b")), geo("b"));
  assert.deepEqual(
    [merged(geo("a"), geo("b")), merged(undefined, geo("a")), merged(geo("a"), undefined)],
    [undefined, undefined, undefined],
  );
});
