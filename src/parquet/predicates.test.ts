// Statistics and page indexes may only skip what cannot match: a query on the file gives the rows that the same query
// gives on a table of the file's values, which has none of our statistics.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parquetMetadata, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { column, types, writeParquet } from "../../test/support/parquet-files.ts";
import { losesNoRow, pick, type Subject } from "../../test/support/predicates.ts";

const long = "a".repeat(70);

const subjects: readonly Subject[] = [
  {
    name: "float8",
    type: types.double,
    value: (row, group) => {
      if (group === 2) return pick(["NaN", "-5", "7"], row);
      if (group === 3) return pick(["-0", "-1.5"], row);
      if (group === 4) return pick(["0", "1e300", "Infinity"], row);
      if (group === 5) return "NaN";
      if (group === 6) return pick(["-Infinity", "-1e300"], row);
      return String(group * 10 + (row % 7));
    },
    probes: [
      "0.0",
      "-0.0",
      "7",
      "'NaN'::double",
      "'Infinity'::double",
      "'-Infinity'::double",
      "-1.5",
      "1e300",
      "71",
      "72",
    ],
  },
  {
    name: "float4",
    type: types.float,
    value: (row, group) =>
      group === 2 ? pick(["NaN", "3"], row) : group === 3 ? "-0" : String(group - 4 + (row % 3) / 2),
    probes: ["0::float", "'-0.0'::float", "'NaN'::float", "3::float", "-1.5::float", "5::float"],
  },
  {
    name: "int4",
    type: types.int32,
    value: (row, group) =>
      group === 2 ? pick(["-2147483648", "2147483647"], row) : String((group - 5) * 100 + (row % 50)),
    probes: ["0", "-1", "-400", "-2147483648", "2147483647", "349", "350", "49"],
  },
  {
    name: "int8",
    type: types.int64,
    value: (row, group) => String(BigInt(group - 5) * 4294967296n + BigInt(row % 9) - 4n),
    probes: ["0", "4294967296", "-4294967296", "-4294967300", "4294967300", "12884901892", "12884901893"],
  },
  {
    name: "text",
    type: types.string,
    value: (row, group) => {
      if (group === 2) return pick([`${long}b`, `${long}é`, `${long}`], row);
      if (group === 3) return "\u{10ffff}".repeat(20) + pick(["", "x"], row);
      if (group === 4) return pick(["é".repeat(40), `${"é".repeat(40)}z`], row);
      if (group === 5) return pick(["", "a", "\u007f"], row);
      if (group === 6) return `${"b".repeat(63)}${pick(["🚀", "é", "c"], row)}tail`;
      return `group ${group} ${row % 5}`;
    },
    probes: [
      "''",
      "'a'",
      `'${long}'`,
      `'${long}b'`,
      `'${long}é'`,
      `'${"é".repeat(40)}z'`,
      `'${"b".repeat(63)}🚀tail'`,
      `'${"b".repeat(64)}'`,
      "'group 8 4'",
      `repeat(chr(1114111), 20) || 'x'`,
      "chr(127)",
      "'group 7 9'",
    ],
  },
  {
    name: "bytea",
    type: types.bytes,
    value: (row, group) => {
      if (group === 2) return `x${"ff".repeat(70)}${pick(["", "00", "ff"], row)}`;
      if (group === 3) return `x${"61".repeat(63)}ff${pick(["00", "ffff"], row)}`;
      return `x0${group}${pick(["", "00", "ff"], row)}`;
    },
    probes: [
      "'\\x08\\xFF'::blob",
      "'\\x07'::blob",
      "unhex(repeat('ff', 71))",
      "unhex(repeat('61', 63) || 'ff00')",
      "''::blob",
      "unhex(repeat('61', 63) || 'ff')",
    ],
  },
  {
    name: "decimal9",
    type: types.decimal9,
    value: (row, group) => String((group - 5) * 1000 + (row % 9)),
    probes: ["0", "-10.00", "-39.92", "30.08", "30.09", "-0.01", "99.5"],
  },
  {
    name: "decimal18",
    type: types.decimal18,
    value: (row, group) => String(BigInt(group - 5) * 10n ** 16n - BigInt(row % 3)),
    probes: ["0", "-0.0001", "-4000000000000", "3000000000000", "1000000000000.0001", "-4000000000000.0002"],
  },
  {
    name: "decimal38",
    type: types.decimal38,
    value: (row, group) => String(BigInt(group - 5) * 10n ** 35n + (row % 2 ? -1n : 1n)),
    probes: [
      "0",
      "0.000000000000000001",
      "-0.000000000000000001",
      "-400000000000000000",
      "300000000000000000.000000000000000001",
      "100000000000000000",
    ],
  },
  {
    name: "date",
    type: types.date,
    value: (row, group) => String(group === 2 ? pick([-719162, 2932896], row) : (group - 5) * 400 + (row % 30)),
    probes: ["date '1970-01-01'", "date '0001-01-01'", "date '9999-12-31'", "date '1969-12-31'", "date '1973-05-14'"],
  },
  {
    name: "timestamptz",
    type: types.timestamptz,
    value: (row, group) => String(BigInt(group - 5) * 86_400_000_000n + BigInt(row % 3) - 1n),
    probes: [
      "timestamptz '1970-01-01 00:00:00+00'",
      "timestamptz '1969-12-31 23:59:59.999999+00'",
      "timestamptz '1970-01-04 00:00:00.000001+00'",
      "timestamptz '1960-01-01 00:00:00+00'",
    ],
  },
  {
    name: "bool",
    type: types.bool,
    value: (row, group) => (group < 4 ? "f" : group < 6 ? pick(["t", "f"], row) : "t"),
    probes: ["true", "false"],
  },
];

for (const subject of subjects) {
  test(`statistics of ${subject.name} lose no row of any predicate`, () => losesNoRow(subject));
  test(`bloom filters of ${subject.name} lose no row either`, () => losesNoRow(subject, { bloomFilters: true }));
}

test("page indexes lose no row either", async () => {
  const count = 70_000;
  const at = (row: number) => Math.floor(row / 20_000);
  const columns = [column("i", 1, types.int32), column("t", 2, types.string), column("d", 3, types.double)];
  const rows = Array.from({ length: count }, (_, row) => ({
    i: at(row) === 1 ? null : row,
    t: at(row) === 2 ? `${"é".repeat(40)}${row}` : `${"x".repeat(66)}${row % 50}`,
    d: row % 33_333 === 5 ? Number.NaN : at(row) === 3 ? -0 : row / 2,
  }));
  const values = [
    rows.map(({ i }) => (i === null ? null : String(i))),
    rows.map(({ t }) => t),
    rows.map(({ d }) => (Object.is(d, -0) ? "-0" : String(d))),
  ];
  const file = new Uint8Array(await writeParquet({ columns, values })).buffer;
  const text = `${"é".repeat(40)}41234`;
  const filters = [
    { filter: { i: { $lt: 30 } }, keep: (row: (typeof rows)[0]) => row.i !== null && row.i < 30 },
    { filter: { i: { $eq: 65_000 } }, keep: (row: (typeof rows)[0]) => row.i === 65_000 },
    { filter: { i: { $gte: 69_999 } }, keep: (row: (typeof rows)[0]) => row.i !== null && row.i >= 69_999 },
    { filter: { t: { $eq: text } }, keep: (row: (typeof rows)[0]) => row.t === text },
    { filter: { t: { $eq: `${"x".repeat(66)}49` } }, keep: (row: (typeof rows)[0]) => row.t === `${"x".repeat(66)}49` },
    { filter: { d: { $eq: 0 } }, keep: (row: (typeof rows)[0]) => row.d === 0 },
    { filter: { d: { $gt: 29_999 } }, keep: (row: (typeof rows)[0]) => row.d > 29_999 },
  ];
  for (const { filter, keep } of filters) {
    const read = await parquetReadObjects({ file, columns: ["i", "t", "d"], filter, usePageIndex: true, compressors });
    const expected = rows.filter(keep);
    assert.ok(expected.length > 0);
    assert.deepEqual(read, expected, JSON.stringify(filter));
  }
});

test("page indexes let a reader leave out what cannot match", async () => {
  const count = 200_000;
  const values = [
    Array.from({ length: count }, (_, row) => String(row * 7)),
    Array.from({ length: count }, (_, row) => `${row}`),
  ];
  const columns = [column("id", 1, types.int64), column("t", 2, types.string)];
  const file = new Uint8Array(await writeParquet({ columns, values })).buffer;
  let readBytes = 0;
  const counted = {
    byteLength: file.byteLength,
    slice: (start: number, end?: number) => {
      readBytes += (end ?? file.byteLength) - start;
      return Promise.resolve(file.slice(start, end));
    },
  };
  const metadata = parquetMetadata(file);
  const filter = { id: { $eq: 700_000n } };
  const read = await parquetReadObjects({ file: counted, metadata, filter, usePageIndex: true, compressors });
  assert.deepEqual(read, [{ id: 700_000n, t: "100000" }]);
  assert.ok(readBytes < file.byteLength / 4, `${readBytes} of ${file.byteLength} bytes were read`);
});
