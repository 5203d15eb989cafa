// Random columns with bloom filters where there may be some, whose row groups all span the same range, so that only a
// filter can leave one out: every predicate gives the rows that it gives on a table of the same values. PG_FLO_SEED
// repeats a run.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
import { column, types, writeParquet } from "../../test/support/parquet-files.ts";
import { connectDuckdb, parquetScan, queryDuckdb, type Value } from "../../test/support/parquet-readers.ts";
import { predicatesOf, withFilters } from "../../test/support/predicates.ts";
import { seededRandom } from "../../test/support/replication-run.ts";
import { bloomFilterPossible } from "./bloom-filter.ts";
import type { ValueType } from "./schema.ts";

const groupRows = 3000;
const groupCount = 5;
const rounds = 2;

/** A value is made of an integer, by which the test chooses it; `literal` is the SQL of the same value. */
interface Subject {
  readonly type: ValueType;
  readonly value: (n: number) => string;
  readonly literal: (value: string) => string;
  /** Integers of values at the type's edges. */
  readonly edges: readonly number[];
}

const decimal = (precision: number, scale: number, lengthBytes: number): ValueType => ({
  ...{ physical: "FIXED_LEN_BYTE_ARRAY", lengthBytes, logical: { kind: "decimal", precision, scale } },
});

/** An unscaled integer as a decimal number. */
function unscaled(value: string, precision: number, scale: number): string {
  const digits = value.replace("-", "").padStart(scale + 1, "0");
  const number = `${digits.slice(0, digits.length - scale)}.${digits.slice(digits.length - scale)}`;
  return `'${value.startsWith("-") ? "-" : ""}${number}'::DECIMAL(${precision},${scale})`;
}

const floats = ["NaN", "-0", "0", "Infinity", "-Infinity", "1e300", "-1.5"];
const floatOf = (n: number): string => floats[n] ?? String(n / 4);
const floatLiteral = (value: string): string => `'${value}'::DOUBLE`;
const uuidOf = (n: number): string => String((BigInt(n >>> 0) << 96n) + BigInt(n & 0xffff));

const subjects: Readonly<Record<string, Subject>> = {
  int4: {
    ...{ type: types.int32, value: String, literal: (value) => `'${value}'::INTEGER` },
    edges: [0, -1, 2147483647, -2147483648],
  },
  int8: {
    ...{ type: types.int64, value: (n) => String(BigInt(n) * 4294967297n), literal: (value) => `'${value}'::BIGINT` },
    edges: [0, -1, 1],
  },
  text: {
    ...{ type: types.string, value: (n) => `${n % 3 ? "é" : ""}${n}${"x".repeat(n & 63)}`, edges: [0, 63, 64] },
    literal: (value) => `'${value}'`,
  },
  bytea: {
    type: types.bytes,
    value: (n) =>
      `x${(n >>> 0)
        .toString(16)
        .padStart(8, "0")
        .repeat(n & 3)}`,
    literal: (value) => `unhex('${value.slice(1)}')`,
    edges: [0, 1, 4],
  },
  date: {
    ...{ type: types.date, value: (n) => String(n % 700_000), edges: [0, -1] },
    literal: (value) => `(DATE '1970-01-01' + '${value}'::INTEGER)`,
  },
  timestamptz: {
    ...{ type: types.timestamptz, value: (n) => String(n * 1_000_003), edges: [0, -1, 1] },
    literal: (value) => `make_timestamptz('${value}'::BIGINT)`,
  },
  "decimal(9,2)": {
    ...{ type: types.decimal9, value: (n) => String(n % 1_000_000_000), edges: [0, 999_999_999, -999_999_999, -1] },
    literal: (value) => unscaled(value, 9, 2),
  },
  "decimal(18,4)": {
    ...{ type: types.decimal18, value: (n) => String(BigInt(n) * 100_000_007n), edges: [0, -1, 1] },
    literal: (value) => unscaled(value, 18, 4),
  },
  "decimal(38,18)": {
    ...{ type: types.decimal38, value: (n) => String(BigInt(n) * 10n ** 27n - 1n), edges: [0, -1, 1] },
    literal: (value) => unscaled(value, 38, 18),
  },
  "decimal(20,0)": {
    ...{ type: decimal(20, 0, 9), value: (n) => String(BigInt(n) * 2n ** 31n), edges: [0, -1, 1] },
    literal: (value) => unscaled(value, 20, 0),
  },
  uuid: {
    type: { physical: "FIXED_LEN_BYTE_ARRAY", lengthBytes: 16, logical: { kind: "uuid" } },
    value: uuidOf,
    literal: (value) =>
      `'${BigInt(value)
        .toString(16)
        .padStart(32, "0")
        .replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5")}'::UUID`,
    edges: [0, 1, -1],
  },
  // Not possible for these, and bytea: equal values may have different bytes. They are in the same file.
  float8: { type: types.double, value: floatOf, literal: floatLiteral, edges: [0, 1, 2, 3, 4] },
  float4: {
    ...{ type: types.float, value: floatOf, edges: [0, 1, 2, 3, 4] },
    literal: (value) => `'${value}'::FLOAT`,
  },
};

const { seed, next } = seededRandom();
const below = (limit: number): number => Math.floor(next() * limit);

/** How the values of a row group are chosen: few of them, many, or few at first, so that its dictionary is given up. */
function chosen(subject: Subject): number[] {
  const few = Array.from({ length: 1 + below(20) }, anyInteger);
  const style = below(3);
  return Array.from({ length: groupRows }, (_, row) => {
    if (below(50) === 0) return subject.edges[below(subject.edges.length)]!;
    return style === 0 || (style === 2 && row < groupRows / 2) ? few[below(few.length)]! : anyInteger();
  });
}

function anyInteger(): number {
  return below(4_294_967_296) - 2_147_483_648;
}

for (let round = 0; round < rounds; round++) {
  test(`no predicate loses a row by a bloom filter, round ${round} (PG_FLO_SEED=${seed})`, async () => {
    await using folder = await makeTestFolder();
    const path = join(folder.path, "p.parquet");
    const entries = Object.entries(subjects);
    const values = entries.map(([, subject]) => {
      const nullGroup = below(groupCount * 2); // none in half of the columns
      return Array.from({ length: groupCount }, (_, group) =>
        chosen(subject).map((n): Value => (group === nullGroup || below(9) === 0 ? null : subject.value(n))),
      ).flat();
    });
    const columns = [
      ...entries.map(([name, { type }], k) => withFilters(column(name, k + 1, type))),
      column("n", entries.length + 1, types.int32),
    ];
    const numbers = Array.from({ length: groupRows * groupCount }, (_, row) => String(row));
    // The bytes limit ends a row group at every call.
    const content = { columns, values: [...values, numbers], rowsPerCall: groupRows, rowGroupBytes: 1 };
    await writeFile(path, await writeParquet(content));
    await sameRows(path, entries, values);
    await hasFilters(path, entries);
  });
}

type Entries = readonly (readonly [string, Subject])[];

async function sameRows(path: string, entries: Entries, values: readonly (readonly Value[])[]): Promise<void> {
  const connection = await connectDuckdb();
  try {
    await connection.run(`set timezone = 'UTC'; create or replace temp table t as select * from ${parquetScan(path)}`);
    for (const [k, [name, subject]] of entries.entries()) {
      const there = values[k]!.filter((value) => value !== null) as string[];
      const present = Array.from({ length: 3 }, () => there[below(there.length)]!);
      const absent = Array.from({ length: 2 }, () => subject.value(anyInteger()));
      const edges = subject.edges.map((n) => subject.value(n));
      const probes = [...present, ...absent, ...edges].map(subject.literal);
      for (const predicate of predicatesOf(`"${name}"`, probes)) {
        const rows = async (source: string) =>
          (await connection.runAndReadAll(`select n from ${source} where ${predicate} order by n`)).getColumns();
        assert.deepEqual(await rows(parquetScan(path)), await rows("t"), predicate);
      }
    }
  } finally {
    connection.closeSync();
  }
}

async function hasFilters(path: string, entries: Entries): Promise<void> {
  const [names, filters] = await queryDuckdb(`select path_in_schema, count(bloom_filter_offset)
    from parquet_metadata('${path}') group by all`);
  const counts = new Map(names!.values.map((name, k) => [name, Number(filters!.values[k])]));
  for (const [name, { type }] of entries) {
    const count = counts.get(name)!;
    // A row group of NULLs has none.
    if (bloomFilterPossible(type)) assert.ok(count >= groupCount - 1, `${name} has ${count} filters`);
    else assert.equal(count, 0);
  }
}
