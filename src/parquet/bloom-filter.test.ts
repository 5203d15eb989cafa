// Bloom filters as DuckDB reads them: no value that is there is ever denied, and nearly all others are.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parquetMetadata } from "hyparquet";
import { makeTestFolder } from "../../test/support/folder.ts";
import { types, writeParquet } from "../../test/support/parquet-files.ts";
import { queryDuckdb, readEverywhere, type Value } from "../../test/support/parquet-readers.ts";
import type { ValueColumn, ValueType } from "./schema.ts";

const filtered = (name: string, fieldId: number, type: ValueType): ValueColumn => ({
  kind: "value",
  name,
  fieldId,
  type,
  bloomFilter: true,
});

const rowCount = 20_000;
const rows = (value: (row: number) => Value): Value[] => Array.from({ length: rowCount }, (_, row) => value(row));

const columns = [
  filtered("id", 1, types.int64),
  filtered("small", 2, types.int32),
  filtered("text", 3, types.string),
  filtered("few", 4, types.string),
  filtered("late", 5, types.string),
  filtered("none", 6, types.string),
];
// `late` begins like a dictionary and is none: the first pages are written again.
const values = [
  rows((row) => String(row * 1_000_003)),
  rows((row) => (row % 9 === 0 ? null : String(row * 7))),
  rows((row) => `é${row}`.repeat(1 + (row % 5))),
  rows((row) => `status ${row % 5}`),
  rows((row) => (row < 9000 ? `same ${row % 3}` : `other ${row}`)),
  rows(() => null),
];

test("DuckDB finds every value that is there, and is told that nearly all others are not", async () => {
  await using folder = await makeTestFolder();
  const file = await writeParquet({ columns, values, rowGroupBytes: 200_000 });
  const read = await readEverywhere(folder, "filters.parquet", file);
  assert.deepEqual(
    read.map((column) => column.values),
    values,
  );
  const path = `${folder.path}/filters.parquet`;
  const excluded = async (column: string, value: string): Promise<readonly Value[]> => {
    const [groups] = await queryDuckdb(
      `select bloom_filter_excludes from parquet_bloom_probe('${path}', '${column}', ${value}) order by row_group_id`,
    );
    return groups!.values;
  };
  const literal = (column: ValueColumn, value: string): string =>
    column.type.physical === "BYTE_ARRAY" ? `'${value}'` : `${value}::${column.name === "id" ? "BIGINT" : "INTEGER"}`;
  for (const [index, column] of columns.entries()) {
    for (let row = 0; row < rowCount; row += 1999) {
      const value = values[index]![row];
      if (typeof value !== "string") continue;
      const groups = await excluded(column.name, literal(column, value));
      assert.ok(groups.length > 1 && groups.includes("f"), `${column.name} ${value} is in some row group`);
    }
  }
  let denied = 0;
  let asked = 0;
  for (let k = 0; k < 60; k++) {
    for (const [name, value] of [
      ["id", `${k * 1_000_003 + 1}::BIGINT`],
      ["text", `'absent ${k}'`],
      ["few", `'status ${k + 5}'`],
      ["late", `'same ${k + 3}'`],
    ] as const) {
      const groups = await excluded(name, value);
      asked += groups.length;
      denied += groups.filter((group) => group === "t").length;
    }
  }
  assert.ok(denied > asked * 0.97, `${denied} of ${asked} absent values were denied`);
});

test("every equality gives the same rows with filters and without", async () => {
  await using folder = await makeTestFolder();
  const plain = columns.map(({ bloomFilter: _, ...column }) => column);
  await readEverywhere(folder, "with.parquet", await writeParquet({ columns, values, rowGroupBytes: 200_000 }));
  await readEverywhere(
    folder,
    "without.parquet",
    await writeParquet({ columns: plain, values, rowGroupBytes: 200_000 }),
  );
  for (const predicate of [
    "id = 7000021",
    "id = 7000022",
    "small in (7, 8, 14)",
    "text = 'é41é41'",
    "few = 'status 4'",
    "late = 'other 19999'",
  ]) {
    const counts = await queryDuckdb(
      `select (select count(*) from '${folder.path}/with.parquet' where ${predicate}) as filtered,
         (select count(*) from '${folder.path}/without.parquet' where ${predicate}) as plain`,
    );
    assert.equal(counts[0]!.values[0], counts[1]!.values[0], predicate);
  }
});

test("a chunk without any value has no filter, others have one of the spec's size and place", async () => {
  const file = await writeParquet({ columns, values });
  const metadata = parquetMetadata(new Uint8Array(file).buffer);
  const chunks = metadata.row_groups[0]!.columns.map(({ meta_data: meta }) => meta!);
  assert.equal(chunks[5]!.bloom_filter_offset, undefined);
  for (const { bloom_filter_offset: offset, bloom_filter_length: length } of chunks.slice(0, 5)) {
    const size = new DataView(file.buffer, file.byteOffset).getUint8(Number(offset));
    assert.equal(size, 0x15, "the header begins with numBytes");
    assert.ok(Number(length) > 32 && Number(offset) + Number(length) < file.length);
  }
});
