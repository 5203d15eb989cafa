// Predicates on what the native profile and wider decimals add: UUID, TIME, JSON, decimals of other widths, and values
// inside of structs, lists and maps.
import { test } from "node:test";
import { column } from "../../test/support/parquet-files.ts";
import { losesNoRow, pick, type Subject } from "../../test/support/predicates.ts";
import type { ParquetColumn, ValueType } from "./schema.ts";

const decimalOf = (precision: number, scale: number, lengthBytes: number): ValueType => ({
  ...{ physical: "FIXED_LEN_BYTE_ARRAY", lengthBytes, logical: { kind: "decimal", precision, scale } },
});
const uuid: ValueType = { physical: "FIXED_LEN_BYTE_ARRAY", lengthBytes: 16, logical: { kind: "uuid" } };
const time: ValueType = { physical: "INT64", logical: { kind: "time" } };
const timestamp: ValueType = { physical: "INT64", logical: { kind: "timestamp", utc: false } };
const json: ValueType = { physical: "BYTE_ARRAY", logical: { kind: "json" } };
const double: ValueType = { physical: "DOUBLE", logical: { kind: "none" } };
const int64: ValueType = { physical: "INT64", logical: { kind: "none" } };
const string: ValueType = { physical: "BYTE_ARRAY", logical: { kind: "string" } };

const uuidText = (first: string, last: string): string => `${first}000000-0000-4000-8000-0000000000${last}`;
/** As a FIXED_LEN_BYTE_ARRAY is given to the writer: its bytes as a number. */
const uuidNumber = (text: string): string => String(BigInt(`0x${text.replaceAll("-", "")}`));
// The sign bit of the first byte is no sign here.
const uuidStarts = ["00", "01", "40", "7f", "80", "81", "c0", "fe", "ff"];

const jsonText = (group: number, row: number): string => `{"a": "${group}${"x".repeat(80)}", "n": ${row % 3}}`;

const doubleValue = (row: number, group: number): string => {
  if (group === 2) return pick(["NaN", "-5", "7"], row);
  if (group === 3) return pick(["-0", "-1.5"], row);
  if (group === 4) return pick(["0", "1e300", "Infinity"], row);
  return String(group * 10 - 50 + (row % 7));
};
const doubleProbes = ["0.0", "-0.0", "7", "'NaN'::double", "'Infinity'::double", "-1.5", "-5", "31", "37"];

const textValue = (row: number, group: number): string =>
  group === 2 ? "\u{10ffff}".repeat(20) + pick(["", "x"], row) : `${"g".repeat(70)} ${group} ${row % 5}`;
const textProbes = [
  `repeat('g', 70) || ' 8 4'`,
  `repeat('g', 70) || ' 0 0'`,
  `repeat(chr(1114111), 20) || 'x'`,
  `repeat('g', 64)`,
  "''",
  "'h'",
];

const struct = (...fields: readonly ParquetColumn[]): ParquetColumn => ({
  kind: "struct",
  name: "v",
  fieldId: 1,
  fields,
});

const subjects: readonly Subject[] = [
  {
    name: "a UUID",
    type: uuid,
    value: (row, group) => uuidNumber(uuidText(uuidStarts[group]!, pick(["00", "7f", "80", "ff"], row))),
    probes: ["00", "7f", "80", "ff", "40"].flatMap((first) =>
      ["00", "80", "ff"].map((last) => `'${uuidText(first, last)}'::uuid`),
    ),
  },
  {
    name: "a TIME",
    type: time,
    value: (row, group) => String(group === 2 ? pick([0, 86_399_999_999], row) : group * 3_600_000_000 + (row % 3)),
    probes: ["00:00:00", "23:59:59.999999", "03:00:00", "03:00:00.000002", "08:00:00.000003", "12:00:00"].map(
      (text) => `time '${text}'`,
    ),
  },
  {
    name: "a TIMESTAMP without zone, from year 1 to 9999",
    type: timestamp,
    value: (row, group) =>
      group === 2
        ? pick(["-62135596800000000", "253402300799999999"], row)
        : String(BigInt(group - 5) * 86_400_000_000n + BigInt(row % 3) - 1n),
    probes: ["1970-01-01", "0001-01-01", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999", "1970-01-04"].map(
      (text) => `timestamp '${text}'`,
    ),
  },
  {
    name: "JSON",
    type: json,
    value: (row, group) => (group === 2 ? pick(["null", '"é"', "[]"], row) : jsonText(group, row)),
    probes: [`'${jsonText(3, 1)}'`, `'${jsonText(8, 2)}'`, "'null'", "'[]'", `'"é"'`, "'{}'"],
  },
  {
    name: "a decimal of 9 bytes, without scale",
    type: decimalOf(20, 0, 9),
    value: (row, group) =>
      group === 2
        ? pick(["18446744073709551615", "-99999999999999999999", "0"], row)
        : String(BigInt(group - 5) * 2n ** 62n + BigInt(row % 3) - 1n),
    probes: [
      ...["0", "-1", "18446744073709551615", "-99999999999999999999", "4611686018427387904", "-4611686018427387905"],
      ...["13835058055282163713", "13835058055282163714"],
    ],
  },
  {
    name: "a decimal of 13 bytes",
    type: decimalOf(30, 4, 13),
    value: (row, group) => String(BigInt(group - 5) * 10n ** 28n + BigInt(row % 5) - 2n),
    probes: ["0", "0.0002", "-0.0002", "-4000000000000000000000000.0002", "3000000000000000000000000.0002", "-0.0001"],
  },
  {
    name: "a decimal of 1 byte",
    type: decimalOf(2, 1, 1),
    value: (row, group) => String((group - 5) * 20 + (row % 5) - 2),
    probes: ["0", "-0.1", "-8.2", "6.2", "2.0", "9.9", "-9.9"],
  },
  {
    name: "a double in a struct",
    type: double,
    value: doubleValue,
    probes: doubleProbes,
    inside: {
      column: struct(column("other", 3, string), column("x", 4, double)),
      wrap: (value) => (value === "-5" ? null : ["o", value]),
      sql: "v.x",
    },
  },
  {
    name: "a text in a struct in a struct",
    type: string,
    value: textValue,
    probes: textProbes,
    inside: {
      column: struct(
        { kind: "struct", name: "s", fieldId: 3, fields: [column("t", 4, string)] },
        column("k", 5, int64),
      ),
      wrap: (value) => [[value], "1"],
      sql: "v.s.t",
    },
  },
  {
    name: "the first element of a list",
    type: double,
    value: doubleValue,
    probes: doubleProbes,
    inside: {
      column: column("v", 1, double, true),
      wrap: (value) => (value === null ? [] : [value, "1e9"]),
      sql: "v[1]",
    },
  },
  {
    name: "a map's value",
    type: string,
    value: textValue,
    probes: textProbes,
    inside: {
      column: {
        kind: "map",
        name: "v",
        fieldId: 1,
        key: { kind: "value", name: "key", fieldId: 3, type: string },
        value: column("value", 4, string),
      },
      wrap: (value) => [
        ["a", value],
        ["b", "other"],
      ],
      sql: "v['a']",
    },
  },
];

for (const subject of subjects) {
  test(`statistics of ${subject.name} lose no row of any predicate`, () => losesNoRow(subject));
  test(`bloom filters of ${subject.name} lose no row either`, () => losesNoRow(subject, { bloomFilters: true }));
}
