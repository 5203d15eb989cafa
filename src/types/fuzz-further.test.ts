// The same as fuzz.test.ts for the types that tables have less often, and for ranges, composites and extensions' types.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodes, testDamage } from "../../test/support/damaged-values.ts";
import { pgType, sourceColumn } from "../../test/support/table-files.ts";
import type { PgType } from "../postgres/catalog.ts";
import { planColumns } from "./registry.ts";
import type { TypeTree } from "./type-tree.ts";

const field = (name: string, typeOid: number, attnum: number) => ({ name, attnum, typeOid, typmod: -1 });
const pairFields = [23, 25, 1007, 1184, 50_010, 3802, 701, 1186, 50_002, 50_003, 1082, 16, 17, 2950, 1700, 790].map(
  (oid, k) => field(`f${k}`, oid, k + 1),
);

const types: ReadonlyMap<number, PgType> = new Map(
  [
    pgType(22, { elementOid: 21 }),
    pgType(30, { elementOid: 26 }),
    pgType(1007, { elementOid: 23 }),
    pgType(603, { delimiter: ";" }),
    pgType(1020, { elementOid: 603 }),
    pgType(3904, { kind: "r", subtypeOid: 23 }),
    pgType(3906, { kind: "r", subtypeOid: 1700 }),
    pgType(3910, { kind: "r", subtypeOid: 1184 }),
    pgType(4532, { kind: "m", subtypeOid: 3906 }),
    pgType(50_000, { kind: "r", subtypeOid: 25 }),
    pgType(50_001, { kind: "r", subtypeOid: 1007 }),
    pgType(50_002, { kind: "c", fields: [field("a", 21, 1), field('"B" b', 1020, 2)] }),
    pgType(50_003, { elementOid: 50_002 }),
    pgType(50_004, { kind: "c", fields: pairFields }),
    pgType(50_005, { kind: "r", subtypeOid: 50_002 }),
    pgType(50_010, { extension: "hstore", typname: "hstore" }),
    pgType(50_011, { extension: "ltree", typname: "ltree" }),
    pgType(50_012, { extension: "cube", typname: "cube" }),
    pgType(50_013, { extension: "vector", typname: "vector" }),
    pgType(50_014, { extension: "vector", typname: "halfvec" }),
    pgType(50_015, { extension: "vector", typname: "sparsevec" }),
    pgType(50_016, { extension: "postgis", typname: "geometry" }),
  ].map((type) => [type.oid, type]),
);

const wholeText = String.raw`(1,"a ""b\\",{{NULL}},"0044-03-15 00:00:00+00 BC","""k""=>NULL","{""a"": [1, null]}",1e-300,"-1 days","(1,""{(1,1),(0,0)}"")","{""(,)"",NULL}",2024-02-29,t,"\\xff",a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,-12345.6789,"$1,234.56")`;

const texts: readonly (readonly [name: string, oid: number, ...texts: string[]])[] = [
  ['"char"', 18, "a", "", "\\377"],
  ["int2vector", 22, "1 -2 3", ""],
  ["oidvector", 30, "1 4294967295", ""],
  ["regclass", 2205, "1259", "-", "pg_class"],
  ["tid", 27, "(4294967295,65535)"],
  ["xid8", 5069, "18446744073709551615", "0"],
  ["pg_lsn", 3220, "FFFFFFFF/A", "0/0"],
  ["pg_snapshot", 5038, "10:20:10,14", "18446744073709551615:1:"],
  ["money", 790, "-$92,233,720,368,547,758.08", "$0.01"],
  ["timetz", 1266, "24:00:00-15:59:59", "12:34:56.789+05:30"],
  ["interval", 1186, "1 year -2 mons +3 days -04:05:06.789", "infinity", "00:00:00"],
  ["inet", 869, "192.168.1.5/24", "2001:db8::1", "::ffff:1.2.3.4/96"],
  ["cidr", 650, "10.0.0.0/8", "::/0"],
  ["macaddr", 829, "08:00:2b:01:02:03"],
  ["macaddr8", 774, "08:00:2b:01:02:03:04:05"],
  ["varbit", 1562, "101010101", ""],
  ["point", 600, "(1,-2.5e+300)", "(NaN,Infinity)"],
  ["line", 628, "{1,2,3}"],
  ["lseg", 601, "[(0,0),(1,1e-05)]"],
  ["path", 602, "[(0,0),(1,1)]", "((-0,0.1))"],
  ["polygon", 604, "((0,0),(1,1),(2,0))"],
  ["circle", 718, "<(1,2),3>"],
  ["tsvector", 3614, "'a':1A,2B,3C,4 'b':16383 'c'", "'it''s \\\\'", ""],
  ["tsquery", 3615, "'fat' & ( 'rat' | 'cat':*A ) <2> !'dog'", "!!'a' <-> ( 'b' <-> 'c' )", ""],
  ["jsonpath", 4072, '$."a"[*]?(@ > 1)'],
  ["int4range", 3904, "[1,5)", "(,)", "empty"],
  ["numrange", 3906, "[-1.50,NaN]", "[0.00,)"],
  ["tstzrange", 3910, '["2024-01-01 00:00:00+00",infinity]', '("0044-03-15 00:00:00+00 BC",)'],
  ["textrange", 50_000, '["",""]', '("a""b\\\\",c]'],
  ["nummultirange", 4532, "{[1.1,2.2],(5,)}", "{}"],
  ["range of arrays", 50_001, '["{1,NULL}","{2}")'],
  ["range of composites", 50_005, '["(1,)","(2,""{(1,1),(0,0);NULL}"")")'],
  ["composite", 50_002, '(1,"{(1,1),(0,0);NULL}")', "(,)"],
  ["composite of many types", 50_004, wholeText, `(${",".repeat(15)})`],
  ["hstore", 50_010, '"a"=>"1", "k \\" q"=>NULL', ""],
  ["ltree", 50_011, "Top.Science", ""],
  ["cube", 50_012, "(1, 2),(3, 4)", "(0.5)", "()"],
  ["vector", 50_013, "[1,-2.5,3e-05]"],
  ["halfvec", 50_014, "[1,-2.5,0.099975586]"],
  ["sparsevec", 50_015, "{1:1.5,3:-2}/5", "{}/3"],
  [
    "geometry",
    50_016,
    "0101000020E6100000000000000000F03F0000000000000040",
    "0107000080010000000101000080000000000000F03F00000000000000400000000000000840",
  ],
];

// Digits of a numeric that the server would not send, behind dscale, are no part of it.
const numerics: ReadonlySet<string> = new Set(["numrange", "nummultirange", "composite of many types"]);
for (const [name, oid, ...values] of texts) {
  testDamage({ name, tree: treeOf(oid), texts: values, roundTrip: !numerics.has(name) });
}
testDamage({
  name: "box",
  tree: treeOf(603),
  texts: ["(2,2),(0,0)", "(1e+300,0),(-5,-6)"],
  roundTrip: true,
  delimiter: ";",
});

function treeOf(oid: number): TypeTree {
  const [plan] = planColumns([sourceColumn("v", 1, oid)], types);
  assert.ok(plan!.binary, `type ${oid}`);
  return plan!.tree;
}

test("a value of further types that Postgres cannot have is refused", () => {
  const refused: readonly (readonly [oid: number, hex: string])[] = [
    [1266, "000000141dd7600100000000"], // after 24:00
    [1266, "00000000000000000000e100"], // 16 hours west
    [1562, "0000000180 80"],
    [1562, "00000001ff"], // bits behind the last
    [1562, "ffffffff"],
    [869, "02210004c0a80105"],
    [869, "0280001000000000000000000000000000000000"],
    [650, "020800040a000000"], // not marked as cidr
    [3904, "03"],
    [3904, "20"],
    [3906, "12 00000006 000000000000"], // a numeric without all of its header
    [3904, "0200000004 00000001"],
    [3904, "0200000004 00000001 00000004 00000002 00"],
    [4532, "7fffffff"],
    [3614, "7fffffff"],
    [3614, "00000001 610000 0000"],
    [3614, "00000001 61000001"],
    [3615, "00000001 0202"], // an operand is missing
    [3615, "00000002 01000061 00"],
    [3615, "00000001 01100061 00"],
    [3615, "00000001 0205"],
    [5038, "7fffffff 0000000000000001 0000000000000001"],
    [604, "00000000"],
    [602, "0200000001 0000000000000000 0000000000000000"],
    [50_010, "00000001 ffffffff ffffffff"], // a key is never NULL
    [50_010, "7fffffff"],
    [50_012, "00000065"],
    [50_013, "0001 0001 3f800000"],
    [50_013, "7fff 0000 3f800000"],
    [50_015, "00000001 00000001 00000000 00000001 3f800000"],
    [50_016, "0102000000ffffffff"],
    [50_016, "01070000000000ff7f"],
    [50_016, "0142000000"],
    [50_002, "00000002 00000015 7fffffff"],
    [50_002, "00000002 00000015 ffffffff 000003fc 7fffffff"],
    [50_002, "7fffffff"],
  ];
  for (const [oid, hex] of refused) {
    const wire = new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
    assert.equal(encodes(treeOf(oid), wire), false, `${oid} ${hex}`);
  }
});
