// Types that tables have less often, with values as they mostly are, for bench/types.ts.
import type { PgType } from "../../src/postgres/catalog.ts";
import { planColumns } from "../../src/types/registry.ts";
import type { TypeTree } from "../../src/types/type-tree.ts";

export interface Subject {
  readonly name: string;
  /** The type in SQL; null: the embedded servers do not have it. Default: the name. */
  readonly sql?: string | null;
  readonly tree: TypeTree;
  /** The text output of the i-th value. */
  readonly text: (i: number) => string;
}

const base = { schema: "", kind: "b", elementOid: 0, baseOid: 0, baseTypmod: -1, hasSend: true } as const;
const type = (oid: number, more: Partial<PgType>): PgType => ({ ...base, oid, name: "t", typname: "t", ...more });
const field = (name: string, typeOid: number, attnum: number) => ({ name, typeOid, attnum, typmod: -1 });
const types: ReadonlyMap<number, PgType> = new Map(
  [
    type(3904, { kind: "r", subtypeOid: 23 }),
    type(3906, { kind: "r", subtypeOid: 1700 }),
    type(3910, { kind: "r", subtypeOid: 1184 }),
    type(4451, { kind: "m", subtypeOid: 3904 }),
    type(50_000, { kind: "c", fields: [field("id", 23, 1), field("label", 25, 2), field("price", 1700, 3)] }),
    type(50_001, { kind: "c", fields: [field("id", 20, 1), field("at", 1184, 2), field("where", 600, 3)] }),
    type(50_002, { extension: "hstore", typname: "hstore" }),
    type(50_003, { extension: "ltree", typname: "ltree" }),
    type(50_004, { extension: "cube", typname: "cube" }),
    type(50_005, { extension: "vector", typname: "vector" }),
    type(50_006, { extension: "postgis", typname: "geometry" }),
  ].map((each) => [each.oid, each]),
);

function treeOf(typeOid: number): TypeTree {
  const source = { name: "c", attnum: 1, typeOid, typmod: -1, typeName: "", notNull: false, generated: "" } as const;
  return planColumns([source], types)[0]!.tree;
}

export function furtherSubjects(random: () => number): readonly Subject[] {
  const integer = (limit: number) => Math.floor(random() * limit);
  const hex = (digits: number) => Array.from({ length: digits }, () => integer(16).toString(16)).join("");
  const decimals = (limit: number, digits: number) => String(Number((random() * limit).toFixed(digits)));
  const place = () => `(${decimals(180, 6)},${decimals(90, 6)})`;
  const float = () => String(random() * 360 - 180);
  const moment = (i: number, month = 3) =>
    `2024-0${month}-1${i % 10} 12:00:${10 + (i % 50)}.${123456 + (i % 800000)}+00`;
  const subject = (name: string, oid: number, text: Subject["text"], sql?: string | null): Subject => ({
    ...{ name, tree: treeOf(oid), text, sql: sql === undefined ? name.replace(/,.*| of \d+$/, "") : sql },
  });
  return [
    subject('"char"', 18, (i) => "abcdef"[i % 6]!),
    subject("regclass", 2205, () => String(16384 + integer(1000)), null),
    subject("tid", 27, (i) => `(${i},${1 + (i % 100)})`),
    subject("xid8", 5069, (i) => String(1_000_000 + i)),
    subject("pg_lsn", 3220, (i) => `16/B${(i * 4096).toString(16).toUpperCase().padStart(7, "0")}`),
    subject("money", 790, () => `$${(random() * 1000).toFixed(2)}`),
    subject("timetz", 1266, (i) => `1${i % 10}:0${i % 7}:30.${100000 + (i % 899999)}+02`),
    subject("interval", 1186, (i) => `${2 + (i % 20)} days 1${i % 10}:0${i % 7}:30.${1 + (i % 9)}`),
    subject("inet, v4", 869, () => `10.${integer(256)}.${integer(256)}.${integer(256)}`),
    subject("inet, v6", 869, () => `2001:db8::${hex(4).replace(/^0+(?=.)/, "")}:1`),
    subject("cidr", 650, () => `10.${integer(256)}.0.0/16`),
    subject("macaddr", 829, () => `08:00:2b:${hex(2)}:${hex(2)}:${hex(2)}`),
    subject("varbit, 16", 1562, () => integer(65536).toString(2).padStart(16, "0")),
    subject("point, 6 decimals", 600, place),
    subject("point, 17 digits", 600, () => `(${float()},${float()})`),
    subject("box", 603, () => `${place()},${place()}`),
    subject("circle", 718, (i) => `<${place()},${i % 100}>`),
    subject("path of 4", 602, () => `[${place()},${place()},${place()},${place()}]`),
    subject("polygon of 4", 604, () => `(${place()},${place()},${place()},${place()})`),
    subject("tsvector of 6", 3614, (i) => `'${hex(5)}':1 '${hex(7)}':2,${3 + (i % 50)}A 'c':4 'fat':5 'rat':6 'sat':7`),
    subject("tsquery", 3615, () => `'${hex(5)}' & ( 'rat' | 'cat':* )`),
    subject("jsonpath", 4072, () => `$."${hex(6)}"[*]`),
    subject("int4range", 3904, (i) => `[${i},${i + 10})`),
    subject("numrange", 3906, (i) => `[${i}.25,${i + 10}.50)`),
    subject("tstzrange", 3910, (i) => `["${moment(i)}","${moment(i + 1, 4)}")`),
    subject("int4multirange", 4451, (i) => `{[${i},${i + 10}),[${i + 20},${i + 30})}`),
    subject("composite (int, text, numeric)", 50_000, (i) => `(${i},${hex(12)},${i}.25)`, "row_of_values"),
    subject(
      "composite (bigint, timestamptz, point)",
      50_001,
      (i) => `(${i},"${moment(i)}","${place()}")`,
      "row_of_places",
    ),
    subject("hstore of 3", 50_002, (i) => `"a"=>"${hex(8)}", "bb"=>NULL, "ccc"=>"${i}"`),
    subject("ltree", 50_003, () => `Top.Science.${hex(8)}`),
    subject("cube of 3", 50_004, () => `(${decimals(9, 4)}, ${decimals(9, 4)}, ${decimals(9, 4)})`),
    subject(
      "vector of 16",
      50_005,
      () => `[${Array.from({ length: 16 }, () => Math.fround(random())).join(",")}]`,
      null,
    ),
    subject("geometry, point", 50_006, () => `0101000000${hex(32).toUpperCase()}`, null),
  ];
}
