// Statistics and bloom filters may only skip what cannot match: a query on a file gives the rows that the same query gives
// on a table of the file's values, which has neither.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { bloomFilterPossible } from "../../src/parquet/bloom-filter.ts";
import type { ParquetColumn, ValueType } from "../../src/parquet/schema.ts";
import { makeTestFolder } from "./folder.ts";
import { column, types, writeParquet } from "./parquet-files.ts";
import { connectDuckdb, parquetScan, type Value } from "./parquet-readers.ts";

const groupRows = 2000;
const groupCount = 9;

/** Nine row groups: one of NULLs, one odd, the others each around a centre of its own. */
export interface Subject {
  readonly name: string;
  readonly type: ValueType;
  readonly value: (row: number, group: number) => Value;
  /** SQL literals to compare with. */
  readonly probes: readonly string[];
  /** Column `v` that holds the value somewhere inside, and how. Default: `v` is the value. */
  readonly inside?: {
    readonly column: ParquetColumn;
    readonly wrap: (value: Value) => Value;
    /** SQL of the value. */
    readonly sql: string;
  };
}

export const pick = <T>(list: readonly T[], row: number): T => list[row % list.length]!;

/** The file has bloom filters too, wherever its types may have one. */
export interface LosesNoRowOptions {
  readonly bloomFilters?: boolean;
}

export async function losesNoRow(subject: Subject, { bloomFilters = false }: LosesNoRowOptions = {}): Promise<void> {
  const { type, value, probes, inside } = subject;
  await using folder = await makeTestFolder();
  const path = join(folder.path, "p.parquet");
  const numbers = Array.from({ length: groupRows * groupCount }, (_, row) => row);
  const values = numbers.map((row) => {
    const group = Math.floor(row / groupRows);
    const own = group === 1 || (group === 7 && row % 10 === 0) ? null : value(row, group);
    return inside ? inside.wrap(own) : own;
  });
  // The bytes limit ends a row group at every call.
  const own = inside?.column ?? column("v", 1, type);
  const columns = [bloomFilters ? withFilters(own) : own, column("n", 2, types.int32)];
  const content = { columns, values: [values, numbers.map(String)], rowsPerCall: groupRows, rowGroupBytes: 1 };
  await writeFile(path, await writeParquet(content));
  const connection = await connectDuckdb();
  try {
    await connection.run(`set timezone = 'UTC'; create or replace temp table t as select * from ${parquetScan(path)}`);
    const groups = await connection.runAndReadAll(
      `select count(distinct row_group_id) from parquet_metadata('${path}')`,
    );
    assert.equal(groups.getRows()[0]![0], BigInt(groupCount));
    let matches = 0;
    for (const predicate of predicatesOf(inside?.sql ?? "v", probes)) {
      const sql = (source: string) => `select n from ${source} where ${predicate} order by n`;
      const [fromFile, fromTable] = [
        await connection.runAndReadAll(sql(parquetScan(path))),
        await connection.runAndReadAll(sql("t")),
      ];
      matches += fromTable.currentRowCount;
      assert.deepEqual(fromFile.getColumns(), fromTable.getColumns(), predicate);
    }
    assert.ok(matches > groupRows, "the predicates match something");
  } finally {
    connection.closeSync();
  }
}

/** The column, with a bloom filter for every value below it that may have one. */
export function withFilters(given: ParquetColumn): ParquetColumn {
  switch (given.kind) {
    case "value":
      return bloomFilterPossible(given.type) ? { ...given, bloomFilter: true } : given;
    case "list":
      return { ...given, element: withFilters(given.element) };
    case "struct":
      return { ...given, fields: given.fields.map(withFilters) };
    case "map":
      return { ...given, key: { ...given.key, bloomFilter: true }, value: withFilters(given.value) };
  }
}

/** SQL of comparisons of the SQL `v` with each probe, of lists, of ranges, and with NULL. */
export function predicatesOf(v: string, probes: readonly string[]): string[] {
  const comparisons = probes.flatMap((probe) =>
    ["=", "<>", "<", "<=", ">", ">="].map((operator) => `${v} ${operator} ${probe}`),
  );
  const lists = probes.map((probe, index) => `${v} in (${probe}, ${pick(probes, index + 1)})`);
  const ranges = probes.map((probe, index) => `${v} between ${probe} and ${pick(probes, index + 2)}`);
  const nulls = [`${v} is null`, `${v} is not null`, `not (${v} < ${probes[0]}) or ${v} is null`];
  return [...comparisons, ...lists, ...ranges, ...nulls];
}
