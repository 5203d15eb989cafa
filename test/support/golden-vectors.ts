// The vectors of golden.jsonl, and the catalog that their types have.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { PgType } from "../../src/postgres/catalog.ts";
import { type ColumnPlan, planColumns } from "../../src/types/registry.ts";
import { pgType, sourceColumn } from "./table-files.ts";

export interface Vector {
  readonly family: string;
  readonly type: string;
  readonly expr: string;
  readonly wire_hex: string | null;
  readonly copy_text: string | null;
}

/** Types by their name in the vectors; those that the prelude makes have the OIDs that stand in their wire bytes. */
const oids: Readonly<Record<string, number>> = {
  ...{ bool: 16, bytea: 17, '"char"': 18, name: 19, int8: 20, int2: 21, int2vector: 22, int4: 23, int: 23, text: 25 },
  ...{ oid: 26, oidvector: 30, json: 114, xml: 142, point: 600, lseg: 601, path: 602, box: 603, polygon: 604 },
  ...{ line: 628, cidr: 650, float4: 700, float8: 701, circle: 718, macaddr8: 774, money: 790, macaddr: 829 },
  ...{ inet: 869, char: 1042, varchar: 1043, date: 1082, time: 1083, timestamp: 1114, timestamptz: 1184 },
  ...{ interval: 1186, timetz: 1266, bit: 1560, varbit: 1562, numeric: 1700, regclass: 2205, uuid: 2950 },
  ...{ pg_lsn: 3220, tsvector: 3614, tsquery: 3615, jsonb: 3802, int4range: 3904, numrange: 3906, tsrange: 3908 },
  ...{ tstzrange: 3910, daterange: 3912, int8range: 3926, jsonpath: 4072, int4multirange: 4451 },
  ...{ nummultirange: 4532, tstzmultirange: 4534, datemultirange: 4535, pg_snapshot: 5038, xid8: 5069 },
  ...{ "tl.mood": 50_001, "tl.moodd": 50_002, "tl.posint": 50_003, "tl.num102": 50_004, "tl.posarr": 50_005 },
  ...{ "tl.arrdom": 50_006, "tl.comp": 0x4599, "tl.comp_nest": 50_008, "tl.compdom": 50_009, "tl.rt": 50_010 },
  ...{
    "tl.textrange": 50_011,
    "tl.floatrange": 50_012,
    citext: 50_013,
    "public.citext": 50_013,
    "public.hstore": 50_014,
  },
  ...{ "public.ltree": 50_015, "public.lquery": 50_016, "public.cube": 50_017 },
};
const arrayOf = (oid: number) => (oid === oids["tl.comp"] ? 0x4598 : 100_000 + oid);
const numericTypmod = (precision: number, scale: number) => ((precision << 16) | (scale & 0x7ff)) + 4;

const types: ReadonlyMap<number, PgType> = new Map(
  [
    ...Object.values(oids).flatMap((oid) => [pgType(oid), pgType(arrayOf(oid), { elementOid: oid })]),
    pgType(50_001, { kind: "e" }),
    pgType(50_002, { kind: "d", baseOid: 50_001 }),
    pgType(50_003, { kind: "d", baseOid: 23 }),
    pgType(50_004, { kind: "d", baseOid: 1700, baseTypmod: numericTypmod(10, 2) }),
    pgType(50_005, { kind: "d", baseOid: arrayOf(23) }),
    pgType(50_006, { kind: "d", baseOid: arrayOf(50_003) }),
    ...(
      [
        [3904, 23],
        [3906, 1700],
        [3908, 1114],
        [3910, 1184],
        [3912, 1082],
        [3926, 20],
        [oids["tl.textrange"]!, 25],
        [oids["tl.floatrange"]!, 701],
      ] as const
    ).map(([oid, subtypeOid]) => pgType(oid, { kind: "r", subtypeOid })),
    ...(
      [
        [4451, 3904],
        [4532, 3906],
        [4534, 3910],
        [4535, 3912],
      ] as const
    ).map(([oid, subtypeOid]) => pgType(oid, { kind: "m", subtypeOid })),
    composite("tl.comp", ["a", 23], ["b", 25], ["c", 1700, numericTypmod(10, 2)]),
    composite("tl.comp_nest", ["x", oids["tl.comp"]!], ["y", 0x4598]),
    composite("tl.rt", ["a", 23], ["d", 23], ["z", 23]),
    pgType(oids["tl.compdom"]!, { kind: "d", baseOid: oids["tl.comp"]! }),
    ...["citext", "hstore", "cube"].map((extension) =>
      pgType(oids[`public.${extension}`]!, { extension, typname: extension }),
    ),
    ...["ltree", "lquery"].map((typname) => pgType(oids[`public.${typname}`]!, { extension: "ltree", typname })),
    pgType(22, { elementOid: 21 }),
    pgType(30, { elementOid: 26 }),
  ].map((type) => [type.oid, type]),
);

type Field = readonly [name: string, typeOid: number, typmod?: number];

function composite(name: string, ...fields: readonly Field[]): PgType {
  const attributes = fields.map(([field, typeOid, typmod = -1], k) => ({
    name: field,
    attnum: k + 1,
    typeOid,
    typmod,
  }));
  return pgType(oids[name]!, { kind: "c", fields: attributes });
}

export const vectors = readFileSync(new URL("../golden/golden.jsonl", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Vector);

/** The vector's column type; array vectors only tell it in their expression. */
export function columnTypeOf({ type, expr }: Vector): string {
  if (type === "composite") return /::([\w.]+)$/.exec(expr)![1]!;
  if (type !== "array") return type;
  if (expr.startsWith("array_fill(0") || expr.startsWith("array[array[]::int[]]")) return "int[]";
  const cast = /::([\w." (),]+(?:\[\])?)$/.exec(expr)?.[1];
  return cast ?? `${/::([\w.]+)(?:,null)?\]$/.exec(expr)![1]}[]`;
}

export function planOf(typeName: string, writtenAs?: string): ColumnPlan {
  const [, name, modifiers, brackets] = /^("?[\w.]+"?)(?:\(([-\d,]+)\))?(\[\])?$/.exec(typeName) ?? [];
  const oid = oids[name ?? ""];
  assert.ok(oid !== undefined, typeName);
  const numbers = (modifiers ?? "").split(",").map(Number);
  const typmod = !modifiers ? -1 : name === "numeric" ? numericTypmod(numbers[0]!, numbers[1]!) : numbers[0]! + 4;
  const column = sourceColumn("v", 1, brackets ? arrayOf(oid) : oid, typmod);
  return planColumns([writtenAs === undefined ? column : { ...column, writtenAs }], types)[0]!;
}

export function unescapeCopy(text: string): string {
  const letters: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };
  return text.replace(/\\(.)/gs, (_, letter: string) => letters[letter] ?? letter);
}
