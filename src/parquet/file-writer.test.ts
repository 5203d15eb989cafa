import assert from "node:assert/strict";
import { test } from "node:test";
import { type FileMetaData, parquetMetadata, parquetRead, readColumnIndex, readOffsetIndex } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { makeTestFolder } from "../../test/support/folder.ts";
import { column, type FileContent, MemorySink, types, writeParquet } from "../../test/support/parquet-files.ts";
import { readEverywhere, sameColumns, type Value } from "../../test/support/parquet-readers.ts";
import { type Compression, compressions } from "../base/compression.ts";
import { Compressor } from "./compressor.ts";
import { ParquetFileWriter } from "./file-writer.ts";
import { leavesOf, type ParquetColumn } from "./schema.ts";

/** Writes, reads with every reader, and compares with what was written. */
async function roundTrip(content: FileContent): Promise<Uint8Array<ArrayBuffer>> {
  await using folder = await makeTestFolder();
  const file = new Uint8Array(await writeParquet(content));
  const read = await readEverywhere(folder, "t.parquet", file);
  const written = content.columns.map(({ name }, index) => ({ name, values: content.values[index]! }));
  sameColumns("written", read, written);
  return file;
}

const chunkOf = (metadata: FileMetaData, group = 0, index = 0) => metadata.row_groups[group]!.columns[index]!;
const encodingsOf = (metadata: FileMetaData, group = 0, index = 0) =>
  chunkOf(metadata, group, index).meta_data!.encodings;
const rows = (count: number, value: (row: number) => Value): Value[] =>
  Array.from({ length: count }, (_, row) => value(row));

const allTypes = Object.entries(types).map(([name, type], index) => column(name, index + 1, type));
const allLists = Object.entries(types).map(([name, type], index) => column(name, index + 1, type, true));

/** A value of the column's type that depends on `n`. */
function sample(column: ParquetColumn, n: number): string {
  const { type } = leavesOf(column)[0]!;
  if (type.physical === "BOOLEAN") return n % 3 === 0 ? "t" : "f";
  if (type.logical.kind === "string") return `é${n % 50}🚀`.repeat(n % 4);
  if (type.physical === "BYTE_ARRAY") return `x${Buffer.from(`${n % 60}`).toString("hex")}ff00`;
  if (type.physical === "DOUBLE") return String(n / 3 - 100);
  if (type.physical === "FLOAT") return String(Math.fround(n / 3 - 100));
  if (type.physical === "INT32") return String((n % 90) - 45);
  return String(BigInt(n - 300) * 1_000_003n);
}

test("every type comes back, with NULLs, across pages and row groups", async () => {
  const count = 50_000;
  const values = allTypes.map((item, index) =>
    rows(count, (row) => ((row * 7 + index) % 11 === 0 ? null : sample(item, row))),
  );
  const file = await roundTrip({ columns: allTypes, values, rowGroupBytes: 2 << 20, rowsPerCall: 1013 });
  const metadata = parquetMetadata(file.buffer);
  assert.ok(metadata.row_groups.length > 2);
  assert.equal(metadata.num_rows, BigInt(count));
});

test("each compression comes back", async () => {
  const values = allTypes.map((item) => rows(5000, (row) => (row % 11 === 0 ? null : sample(item, row))));
  const sizes = new Map<Compression, number>();
  for (const compression of compressions) {
    const file = await roundTrip({ columns: allTypes, values, compression });
    const [group] = parquetMetadata(file.buffer).row_groups;
    const codec = compression === "snappy" ? "SNAPPY" : "ZSTD";
    for (const { meta_data: data } of group!.columns) assert.equal(data!.codec, codec);
    sizes.set(compression, file.length);
  }
  assert.ok(sizes.get("snappy")! > sizes.get("zstd")!);
  assert.ok(sizes.get("zstd-3")! < sizes.get("zstd")!);
});

test("lists come back, empty and NULL ones and NULL elements too, across pages and row groups", async () => {
  const count = 30_000;
  const values = allLists.map((item, index) =>
    rows(count, (row) => {
      if ((row + index) % 5 === 0) return null;
      if ((row + index) % 7 === 0) return [];
      return rows(1 + (row % 4), (k) => (k === 2 || row % 13 === 0 ? null : sample(item, row + k)));
    }),
  );
  const file = await roundTrip({ columns: allLists, values, rowGroupBytes: 2 << 20, rowsPerCall: 700 });
  assert.ok(parquetMetadata(file.buffer).row_groups.length > 1);
});

test("lists of NULLs alone end their pages although they have no bytes", async () => {
  const columns = [column("l", 1, types.int32, true)];
  const file = await roundTrip({ columns, values: [rows(3000, () => rows(1000, () => null))], rowsPerCall: 100 });
  assert.ok(pagesOf(file, 0, 0).length > 1);
});

test("a file without rows is a table with columns", async () => {
  await roundTrip({ columns: allTypes, values: allTypes.map(() => []) });
  await roundTrip({ columns: allLists, values: allLists.map(() => []) });
});

test("a table without columns still has its rows in pg-flo's own column", async () => {
  await roundTrip({ columns: [column("_pg_flo_exact", 1_000_009, types.string)], values: [rows(70, () => null)] });
});

test("1,600 columns are written and read", async () => {
  const columns = Array.from({ length: 1600 }, (_, index) => allTypes[index % allTypes.length]!).map((item, index) => ({
    ...item,
    name: `c${index}`,
    fieldId: index + 1,
  }));
  await roundTrip({ columns, values: columns.map((item, index) => rows(20, (row) => sample(item, row + index))) });
});

test("a value of 50 MB is written and read, and its bounds are short", async () => {
  const large = "0123456789abcdef".repeat(50 * 65_536);
  const columns = [column("t", 1, types.string), column("b", 2, types.bytes)];
  const texts = rows(30, (row) => (row === 7 ? large : `row ${row}`));
  const bytes = rows(30, (row) => (row === 20 ? `x${Buffer.from(large).toString("hex")}` : "x00"));
  const file = await roundTrip({ columns, values: [texts, bytes], rowsPerCall: 3 });
  assert.ok(file.length < 5_000_000);
  const { statistics } = chunkOf(parquetMetadata(file.buffer)).meta_data!;
  assert.deepEqual(statistics!.min_value, "0123456789abcdef".repeat(4));
  assert.equal(statistics!.is_min_value_exact, false);
});

test("data that zstd cannot make smaller comes back", async () => {
  let state = 1;
  const noise = rows(40, () => {
    const bytes = Buffer.alloc(300_000);
    for (let k = 0; k < bytes.length; k++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      bytes[k] = state >>> 24;
    }
    return `x${bytes.toString("hex")}`;
  });
  await roundTrip({ columns: [column("b", 1, types.bytes)], values: [noise], rowsPerCall: 4 });
});

test("few distinct values use a dictionary, many do not", async () => {
  const columns = [column("few", 1, types.string), column("many", 2, types.string), column("bool", 3, types.bool)];
  const values = [
    rows(30_000, (row) => `status ${row % 40}`),
    rows(30_000, (row) => `value ${row}`),
    rows(30_000, (row) => (row % 2 ? "t" : "f")),
  ];
  const metadata = parquetMetadata((await roundTrip({ columns, values })).buffer);
  assert.deepEqual(encodingsOf(metadata, 0, 0), ["PLAIN", "RLE_DICTIONARY", "RLE"]);
  assert.deepEqual(encodingsOf(metadata, 0, 1), ["PLAIN", "RLE"]);
  assert.deepEqual(encodingsOf(metadata, 0, 2), ["PLAIN", "RLE"]);
  assert.ok(chunkOf(metadata, 0, 0).meta_data!.dictionary_page_offset);
});

test("a chunk that becomes too distinct in the middle is PLAIN from its first page on", async () => {
  for (const list of [false, true]) {
    for (const type of [types.string, types.int64, types.decimal38, types.double]) {
      const item = column("c", 1, type, list);
      const one = (row: number) => {
        const n = row < 45_000 ? row % 100 : row * 31;
        return type === types.string ? `value ${n}` : String(n);
      };
      const value = (row: number) => (list ? rows(row % 3, (k) => one(row + k)) : row % 9 === 0 ? null : one(row));
      const metadata = parquetMetadata((await roundTrip({ columns: [item], values: [rows(90_000, value)] })).buffer);
      assert.deepEqual(encodingsOf(metadata), ["PLAIN", "RLE"], JSON.stringify(type));
    }
  }
});

test("a dictionary that would grow over 1 MiB is left", async () => {
  const value = (row: number) => `${row % 700} ${"x".repeat(2000)}`;
  const file = await roundTrip({
    columns: [column("c", 1, types.string)],
    values: [rows(6000, value)],
    rowsPerCall: 50,
  });
  assert.deepEqual(encodingsOf(parquetMetadata(file.buffer)), ["PLAIN", "RLE"]);
});

test("pages of NULLs do not end the dictionary, and a chunk of NULLs has none", async () => {
  const columns = [column("late", 1, types.string), column("never", 2, types.string)];
  const values = [rows(90_000, (row) => (row < 41_000 ? null : `v${row % 10}`)), rows(90_000, () => null)];
  const metadata = parquetMetadata((await roundTrip({ columns, values })).buffer);
  assert.deepEqual(encodingsOf(metadata, 0, 0), ["PLAIN", "RLE_DICTIONARY", "RLE"]);
  assert.deepEqual(encodingsOf(metadata, 0, 1), ["PLAIN", "RLE"]);
});

test("a dictionary survives its second page when the values are known", async () => {
  const value = (row: number) => `${row < 3000 ? row % 10 : row % 1500} of some length`;
  const metadata = parquetMetadata(
    (await roundTrip({ columns: [column("c", 1, types.string)], values: [rows(80_000, value)] })).buffer,
  );
  assert.deepEqual(encodingsOf(metadata), ["PLAIN", "RLE_DICTIONARY", "RLE"]);
});

test("pages of one value, of others of its size, and of nearly one", async () => {
  const columns = [column("text", 1, types.string), column("number", 2, types.int64), column("empty", 3, types.string)];
  const page = (row: number) => Math.floor(row / 20_000);
  const values = [
    rows(80_000, (row) => (page(row) < 3 ? `page ${page(row)}` : row === 79_999 ? "page x" : "page 3")),
    rows(80_000, (row) => String(page(row) === 2 ? row % 2 : page(row) * 1_000_000)),
    rows(80_000, (row) => (row === 50_000 ? "at" : row === 50_001 ? "" : "a")),
  ];
  const metadata = parquetMetadata((await roundTrip({ columns, values, rowsPerCall: 4000 })).buffer);
  for (const index of [0, 1, 2]) assert.deepEqual(encodingsOf(metadata, 0, index), ["PLAIN", "RLE_DICTIONARY", "RLE"]);
});

test("names and metadata may hold anything", async () => {
  const names = ["select", "Größe in m²", 'quo"te', " ", "a b", "x".repeat(63), "🚀"];
  const columns = names.map((name, index) => column(name, index + 1, types.int32));
  const keyValues = new Map([
    ["pg_flo.columns", JSON.stringify(names)],
    ["empty", ""],
  ]);
  const file = await roundTrip({ columns, values: names.map(() => ["1", null]), keyValues });
  const metadata = parquetMetadata(file.buffer);
  assert.deepEqual(new Map(metadata.key_value_metadata!.map(({ key, value }) => [key, value ?? ""])), keyValues);
  assert.deepEqual(
    metadata.schema.slice(1).map(({ field_id: id }) => id),
    names.map((_, index) => index + 1),
  );
});

test("the metadata says all that the format asks for", async () => {
  const file = await roundTrip({
    columns: [
      ...allTypes,
      ...allLists.map((item) => ({ ...item, name: `${item.name}_list`, fieldId: 100 + item.fieldId })),
    ],
    values: [...allTypes, ...allTypes].map((item, index) =>
      rows(100, (row) => (index < allTypes.length ? sample(item, row) : [sample(item, row)])),
    ),
  });
  const metadata = parquetMetadata(file.buffer);
  assert.equal(metadata.version, 1);
  assert.match(metadata.created_by!, /^pg-flo version \d+\.\d+\.\d+ \(build \w+\)$/);
  const leaves = metadata.schema.filter(({ type }) => type);
  assert.equal(metadata.row_groups[0]!.columns.length, leaves.length);
  for (const [index, leaf] of leaves.entries()) {
    assert.equal(leaf.repetition_type, "OPTIONAL");
    assert.ok(leaf.field_id! > 0);
    const { meta_data: data } = chunkOf(metadata, 0, index);
    assert.equal(data!.codec, "ZSTD");
    assert.equal(data!.num_values, 100n);
    assert.equal(data!.statistics!.null_count, 0n);
    assert.ok(data!.statistics!.max_value !== undefined && data!.statistics!.min_value !== undefined);
  }
  const group = metadata.row_groups[0]!;
  const sizes = group.columns.map(({ meta_data: data }) => data!);
  assert.equal(
    group.total_compressed_size,
    sizes.reduce((sum, data) => sum + data.total_compressed_size, 0n),
  );
  assert.equal(
    group.total_byte_size,
    sizes.reduce((sum, data) => sum + data.total_uncompressed_size, 0n),
  );
});

interface Page {
  readonly offset: number;
  readonly size: number;
  readonly firstRow: number;
}

function pagesOf(file: Uint8Array<ArrayBuffer>, group: number, index: number): Page[] {
  const { offset_index_offset: offset } = chunkOf(parquetMetadata(file.buffer), group, index);
  const { page_locations: locations } = readOffsetIndex({ view: new DataView(file.buffer, Number(offset)), offset: 0 });
  return locations.map((location) => ({
    offset: Number(location.offset),
    size: location.compressed_page_size,
    firstRow: Number(location.first_row_index),
  }));
}

test("offset indexes lie without gaps inside their chunk, and lead to the right rows", async () => {
  const columns = [column("n", 1, types.int64), column("l", 2, types.string, true), column("d", 3, types.string)];
  const count = 100_000;
  const values = [
    rows(count, (row) => String(row)),
    rows(count, (row) => (row % 5 === 0 ? null : rows(row % 3, (k) => `${row} ${k}`))),
    rows(count, (row) => `day ${Math.floor(row / 1000)}`),
  ];
  const file = await roundTrip({ columns, values, rowGroupBytes: 2 << 20 });
  const metadata = parquetMetadata(file.buffer);
  assert.ok(metadata.row_groups.length > 1);
  for (const [number, group] of metadata.row_groups.entries()) {
    for (const [index, { meta_data: data }] of group.columns.entries()) {
      const pages = pagesOf(file, number, index);
      assert.equal(pages[0]!.offset, Number(data!.data_page_offset));
      assert.equal(pages[0]!.firstRow, 0);
      for (let k = 1; k < pages.length; k++) {
        assert.equal(pages[k]!.offset, pages[k - 1]!.offset + pages[k - 1]!.size);
        assert.ok(pages[k]!.firstRow > pages[k - 1]!.firstRow);
      }
      const last = pages.at(-1)!;
      const start = Number(data!.dictionary_page_offset ?? data!.data_page_offset);
      assert.equal(last.offset + last.size, start + Number(data!.total_compressed_size));
      assert.ok(last.firstRow < Number(group.num_rows));
    }
  }
  for (const rowStart of [0, 19_999, 20_000, 33_333, 61_234]) {
    await parquetRead({
      file: file.buffer,
      columns: ["n", "d"],
      rowStart,
      rowEnd: rowStart + 50,
      useOffsetIndex: true,
      compressors,
      onComplete: (read: unknown[][]) => {
        assert.deepEqual(
          read.map(([n, d]) => [String(n), d]),
          rows(50, (k) => [values[0]![rowStart + k]!, values[2]![rowStart + k]!]),
        );
      },
    });
  }
});

test("column indexes tell each page's bounds, NULL pages and order", async () => {
  const count = 60_000; // three pages
  const columns = ["up", "down", "mixed", "nulls", "nan", "text"].map((name, index) =>
    column(name, index + 1, name === "nan" ? types.double : name === "text" ? types.string : types.int32),
  );
  const values = [
    rows(count, (row) => String(row)),
    rows(count, (row) => String(-row)),
    rows(count, (row) => String(row < 20_000 ? 5 : row < 40_000 ? 9 : 1)),
    rows(count, (row) => (row >= 20_000 && row < 40_000 ? null : String(row))),
    rows(count, (row) => (row === 30_000 ? "NaN" : String(row))),
    rows(count, (row) => `${"y".repeat(70)}${row}`),
  ];
  const file = await roundTrip({ columns, values });
  const metadata = parquetMetadata(file.buffer);
  const indexes = columns.map((_, index) => {
    const { column_index_offset: offset } = chunkOf(metadata, 0, index);
    if (offset === undefined) return null;
    return readColumnIndex({ view: new DataView(file.buffer, Number(offset)), offset: 0 }, metadata.schema[index + 1]!);
  });
  const [up, down, mixed, nulls, nan, text] = indexes;
  assert.deepEqual(up!.min_values, [0, 20_000, 40_000]);
  assert.deepEqual(up!.max_values, [19_999, 39_999, 59_999]);
  assert.deepEqual(
    [up!.boundary_order, down!.boundary_order, mixed!.boundary_order],
    ["ASCENDING", "DESCENDING", "UNORDERED"],
  );
  assert.deepEqual(nulls!.null_pages, [false, true, false]);
  assert.deepEqual(nulls!.null_counts!.map(Number), [0, 20_000, 0]);
  assert.equal(nulls!.boundary_order, "ASCENDING");
  assert.equal(nan, null);
  assert.equal(chunkOf(metadata, 0, 4).meta_data!.statistics!.max_value, undefined);
  assert.deepEqual(
    text!.min_values,
    rows(5, () => "y".repeat(64)),
  );
  assert.deepEqual(
    text!.max_values,
    rows(5, () => `${"y".repeat(63)}z`),
  );
});

test("a page buffer that a huge value grew is not kept for later pages", async () => {
  const options = {
    rowGroupBytes: 1 << 30,
    createdBy: "pg-flo version 0.0.0 (build test)",
    compressor: new Compressor("zstd"),
  };
  const writer = new ParquetFileWriter(new MemorySink(), [column("t", 1, types.string)], options);
  const [leaf] = writer.columns[0]!;
  leaf.reserve(100_000_000);
  leaf.end += 100_000_000;
  new DataView(leaf.bytes.buffer).setUint32(leaf.end - 100_000_000, 99_999_996, true);
  leaf.definitions[leaf.entryCount++] = 1;
  leaf.valueCount++;
  await writer.endRows(1);
  assert.ok(leaf.bytes.length <= 4 << 20);
  await writer.finish(new Map());
});

test("a sink that fails makes the writer fail, not the process", async () => {
  const sink = { write: () => Promise.reject(new Error("the disk is full")) };
  const options = {
    rowGroupBytes: 1000,
    createdBy: "pg-flo version 0.0.0 (build test)",
    compressor: new Compressor("zstd"),
  };
  const writer = new ParquetFileWriter(sink, [column("n", 1, types.int32)], options);
  const append = async () => {
    for (let call = 0; call < 20; call++) {
      const [leaf] = writer.columns[0]!;
      leaf.reserveEntries(1000);
      leaf.definitions.fill(0, leaf.entryCount, leaf.entryCount + 1000);
      leaf.entryCount += 1000;
      leaf.reserve(4);
      await writer.endRows(1000);
    }
    await writer.finish(new Map());
  };
  await assert.rejects(append(), /the disk is full/);
});
