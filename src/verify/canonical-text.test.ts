import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalSql, printedSql, type TextFamily } from "./canonical-text.ts";
import { quoteText, ScratchDatabase } from "./scratch-database.ts";

/** Values as SQL of DuckDB, and the texts that PostgreSQL prints for them: both must come to the same. */
const cases: readonly (readonly [kind: TextFamily["kind"], type: string, value: string, text: string])[] = [
  ["plain", "BOOLEAN", "true", "t"],
  ["plain", "BOOLEAN[]", "[true, NULL, false]", "{t,NULL,f}"],
  ["plain", "BIGINT", "-9223372036854775808", "-9223372036854775808"],
  ["plain", "BLOB", "'\\x00\\xFF'::BLOB", "\\x00ff"],
  ["plain", "BLOB[]", "['a'::BLOB, ''::BLOB]", '{"\\\\x61","\\\\x"}'],
  ["plain", "DATE", "DATE '0001-01-01'", "0001-01-01"],
  ["plain", "TIMESTAMP", "TIMESTAMP '1969-12-31 23:59:59.5'", "1969-12-31 23:59:59.5"],
  ["plain", "TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ '9999-12-31 23:59:59.999999Z'", "9999-12-31 23:59:59.999999+00"],
  ["plain", "TIMESTAMP WITH TIME ZONE[]", "[TIMESTAMPTZ '2000-01-01 00:00:00Z']", '{"2000-01-01 00:00:00+00"}'],
  [
    "plain",
    "VARCHAR[]",
    `['', 'null', 'a b', 'a"\\', '{', ',', chr(10), chr(11), 'ü', NULL]`,
    '{"","null","a b","a\\"\\\\","{",",","\n","\v",ü,NULL}',
  ],
  ["plain", "VARCHAR[]", "[]", "{}"],
  ["numeric", "DECIMAL(38,18)", "1.5", "1.500"],
  ["numeric", "DECIMAL(38,18)", "100", "100"],
  ["numeric", "DECIMAL(12,2)", "-0.01", "-0.01"],
  ["numeric", "DECIMAL(3,3)", "0.5", "0.500"],
  ["numeric", "DECIMAL(38,38)", "-0.05", "-0.05"],
  ["numeric", "DECIMAL(5,5)[]", "[0.5, NULL, -0.00120, 0]", "{0.50000,NULL,-0.0012,0.00000}"],
  ["numeric", "DECIMAL(38,18)[]", "[1, NULL, 0.10]", "{1.0,NULL,0.1}"],
  ["float4", "FLOAT", "1e-45", "1e-45"],
  ["float4", "FLOAT", "'nan'", "NaN"],
  ["float8", "DOUBLE", "'-inf'", "-Infinity"],
  ["float8", "DOUBLE", "'-0'", "-0"],
  ["float8", "DOUBLE", "1e22", "1e+22"],
  ["float8", "DOUBLE[]", "['-0', NULL, 'inf', '0.1']", "{-0,NULL,Infinity,0.1}"],
  ["bpchar", "VARCHAR", "'ab'", "ab      "],
  ["bpchar", "VARCHAR[]", `['ab', '', 'a b', NULL, 'q"']`, '{"ab      ","        ","a b     ",NULL,"q\\"      "}'],
];

test("a value of a file and the text that the server prints for it have one canonical text", async () => {
  await using db = await ScratchDatabase.open();
  for (const [kind, type, value, text] of cases) {
    const family = { kind, array: type.endsWith("[]") };
    const ofText = canonicalSql(quoteText(text), family);
    const ofValue = canonicalSql(printedSql("v", type), family);
    const [row] = await db.rows(`SELECT ${ofValue}, ${ofText}, ${canonicalSql(`(${ofText})`, family)}
      FROM (SELECT (${value})::${type} AS v)`);
    assert.equal(row?.[0], row?.[1], `${type} ${value}`);
    assert.equal(row?.[2], row?.[1], `twice: ${text}`);
  }
});

test("values that differ keep different canonical texts", async () => {
  await using db = await ScratchDatabase.open();
  const pairs: readonly (readonly [TextFamily, string, string])[] = [
    [{ kind: "numeric", array: false }, "10", "1"],
    [{ kind: "numeric", array: false }, "0.000000000000000000000000000001", "0"],
    [{ kind: "numeric", array: false }, "1.05", "1.5"],
    [{ kind: "numeric", array: true }, "{1.05,2}", "{1.5,2}"],
    [{ kind: "float8", array: false }, "-0", "0"],
    [{ kind: "float8", array: false }, "0.1", "0.10000000000000002"],
    [{ kind: "float8", array: true }, "{{1,2},{3,4}}", "{1,2,3,4}"],
    [{ kind: "bpchar", array: false }, " a", "a"],
    [{ kind: "bpchar", array: true }, '{"NULL"}', "{NULL}"],
    [{ kind: "plain", array: false }, "a ", "a"],
  ];
  for (const [family, left, right] of pairs) {
    const [row] = await db.rows(
      `SELECT ${canonicalSql(quoteText(left), family)}, ${canonicalSql(quoteText(right), family)}`,
    );
    assert.notEqual(row?.[0], row?.[1], `${left} and ${right}`);
  }
});
