// docs/types.md, made from what the code does: each row plans a column of the type as copy and stream do.
// `npm run docs:types` writes it; a test fails when it is stale.
import type { ParquetColumn, ValueType } from "../parquet/schema.ts";
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import { planColumns } from "./registry.ts";

interface DocumentedType {
  /** As people write it; several that are alike in one row. */
  readonly names: string;
  /** By the OIDs of pg_type.dat, or of `sampleTypes` for types that users and extensions define. */
  readonly oids: readonly number[];
  readonly typmod?: number;
  /** Columns of arrays: the row is of the element's type, 0 for a type that is its own. */
  readonly array?: boolean;
  readonly note?: string;
}

const numericTypmod = (precision: number, scale: number): number => ((precision << 16) | (scale & 0x7ff)) + 4;
const YEARS = "years 1 to 9999; infinity and what lies outside: the range's edge";
const REG = "the OID";

const sample = {
  composite: 90_001,
  enum: 90_002,
  domain: 90_003,
  hstore: 90_004,
  citext: 90_005,
  ltree: 90_006,
} as const;
const more = {
  cube: 90_007,
  vector: 90_008,
  halfvec: 90_009,
  sparsevec: 90_010,
  geometry: 90_011,
  unknown: 90_012,
} as const;
const INT4RANGE = 3904;
const ARRAY = 90_100;

/** In the order of the page. */
export const documentedTypes: readonly DocumentedType[] = [
  { names: "boolean", oids: [16] },
  { names: "smallint, integer", oids: [21, 23] },
  { names: "bigint", oids: [20] },
  { names: "oid, xid, cid", oids: [26, 28, 29] },
  { names: "regclass, regtype and the other reg* types", oids: regOids(), note: REG },
  { names: "xid8", oids: [5069] },
  { names: "real", oids: [700], note: "NaN, ±Infinity and −0 as they are" },
  { names: "double precision", oids: [701], note: "NaN, ±Infinity and −0 as they are" },
  { names: "numeric(9,2) and other precisions up to 9", oids: [1700], typmod: numericTypmod(9, 2), note: "NaN: NULL" },
  {
    names: "numeric(12,2) and other precisions up to 18",
    oids: [1700],
    typmod: numericTypmod(12, 2),
    note: "NaN: NULL",
  },
  {
    names: "numeric(30,4) and other precisions up to 38",
    oids: [1700],
    typmod: numericTypmod(30, 4),
    note: "NaN: NULL",
  },
  {
    names: "numeric, numeric(p,s) with p above 38",
    oids: [1700],
    note: "NaN, ±Infinity, more than 20 digits before or 18 behind the point: NULL; `types` in the config can ask for `string`, `double` or `decimal(p,s)`",
  },
  { names: "money", oids: [790], note: "the scale is that of lc_monetary" },
  { names: "date", oids: [1082], note: YEARS },
  { names: "timestamp", oids: [1114], note: YEARS },
  { names: "timestamptz", oids: [1184], note: YEARS },
  { names: "time", oids: [1083], note: "native: 24:00:00 is 23:59:59.999999" },
  { names: "timetz", oids: [1266], note: "with its offset" },
  {
    names: "interval",
    oids: [1186],
    note: "portable: ISO 8601; native: infinity has the greatest months, days and micros",
  },
  { names: "text, varchar, name, xml, refcursor", oids: [25, 1043, 19, 142, 1790] },
  { names: "char(n)", oids: [1042], note: "without its padding" },
  { names: '"char"', oids: [18] },
  { names: "citext", oids: [sample.citext] },
  { names: "enums", oids: [sample.enum], note: "the label" },
  { names: "bytea", oids: [17] },
  { names: "uuid", oids: [2950], note: "Spark refuses a whole file with the native one" },
  {
    names: "json",
    oids: [114],
    note: "its bytes as they are, never parsed; not JSON in the native profile, because readers that parse it refuse what Postgres allows",
  },
  { names: "jsonb", oids: [3802] },
  { names: "inet, cidr", oids: [869, 650] },
  { names: "macaddr, macaddr8", oids: [829, 774] },
  { names: "bit, varbit", oids: [1560, 1562], note: "0 and 1" },
  { names: "point", oids: [600] },
  { names: "line", oids: [628] },
  { names: "lseg", oids: [601] },
  { names: "box", oids: [603] },
  { names: "path", oids: [602] },
  { names: "polygon", oids: [604] },
  { names: "circle", oids: [718] },
  { names: "tsvector, tsquery", oids: [3614, 3615] },
  { names: "jsonpath", oids: [4072] },
  { names: "pg_lsn", oids: [3220] },
  { names: "tid, pg_snapshot, txid_snapshot", oids: [27, 5038, 2970] },
  { names: "int2vector, oidvector", oids: [22, 30] },
  {
    names: "integer[] and other arrays",
    oids: [ARRAY],
    array: true,
    note: "more than one dimension: NULL; a lower bound other than 1 is only in the exact text",
  },
  {
    names: "composite types, such as (a integer, b text)",
    oids: [sample.composite],
    note: "portable: JSON as to_json makes it",
  },
  { names: "int4range and other ranges", oids: [INT4RANGE], note: "an infinite bound is NULL" },
  { names: "multiranges, such as int4multirange", oids: [4451] },
  { names: "domains", oids: [sample.domain], note: "as the type below" },
  { names: "hstore", oids: [sample.hstore], note: "portable: JSON" },
  { names: "ltree, lquery, ltxtquery", oids: [sample.ltree] },
  { names: "cube", oids: [more.cube] },
  { names: "vector, halfvec (pgvector)", oids: [more.vector, more.halfvec] },
  { names: "sparsevec (pgvector)", oids: [more.sparsevec] },
  {
    names: "geometry, geography (PostGIS)",
    oids: [more.geometry],
    note: "WKB without the SRID; the file has GeoParquet metadata unless it holds curves, triangles or measures",
  },
  { names: "any other type", oids: [more.unknown], note: "what Postgres prints" },
];

function regOids(): number[] {
  return [24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 8326];
}

/** The page. */
export function typesPage(): string {
  const rows = documentedTypes.map(({ names, oids, typmod = -1, note = "" }) => {
    const [portable, native] = [undefined, "native"].map((written) =>
      oneOf(oids.map((oid) => columnText(planOf(oid, typmod, written)))),
    );
    return `| ${names} | ${portable} | ${native === portable ? "the same" : native} | ${note} |`;
  });
  return `${introduction}
| Postgres | Portable | Native | What is special |
|---|---|---|---|
${rows.join("\n")}

${rest}`;
}

const introduction = `<!-- Made by \`npm run docs:types\` from the code. Change src/types/types-page.ts instead. -->

# Types

What a column of each type is in the Parquet files, in both profiles. \`profile\` of the [config](config.md) chooses one
for the group, \`types\` of a table another form for single columns: \`string\` (the text that Postgres prints, for any
type), \`double\` or \`decimal(p,s)\` (for numeric and arrays of it), \`portable\` or \`native\`.

No value is lost, and none stops the pipeline. A value that its column cannot hold is written as the nearest one that it
can hold, or as NULL, and its exact text is in the row's \`_pg_flo_exact\`. \`pg-flo status\` counts them by column;
\`on_inexact: error\` stops the table instead.
`;

const rest = `A type's values inside of another one (the elements of arrays, a composite's attributes, the bounds of ranges) are
written by the same rules. If any of them is inexact, the text of the whole value is in \`_pg_flo_exact\`.

A type whose values Postgres cannot send in binary is read as text; if a table has one, the group's whole stream is.
A type that pg-flo does not know, and every array, composite or range with one inside, is a STRING of what Postgres
prints for the whole value, in both profiles.

Text that is no UTF-8 (a SQL_ASCII database may have such) has U+FFFD in its place, and its bytes as \`\\x…\` in
\`_pg_flo_exact\`. In a stream that comes as text, two values are not what they are otherwise: a reg* is NULL with its name
as the exact text, and so is, before PostgreSQL 15, a "char" of 0x80 or more in a database that is neither UTF-8 nor
SQL_ASCII, with the character that the server gives for it.

**Field ids.** A column's is its number in the table (\`attnum\`), which is never used again. The element of an array has
10,000 more. What lies deeper (attributes, the bounds of ranges, keys and values of maps) has an id of its own from
2,000,000 on, made of the way to it, that a new column or attribute does not change; an attribute keeps it under another
name. \`_old_\` columns have 1,100,000 more, pg-flo's own begin at 1,000,001.

**Encodings.** Text is UTF-8, whatever the database is in. In a SQL_ASCII database, where Postgres does not know what the
bytes mean, text that is no UTF-8 has U+FFFD in the place of what is wrong, and its exact bytes are in \`_pg_flo_exact\` in
hexadecimal: \`\\x\` and two digits for each.

**Generated columns** come as their type. Stored ones are in the log only from PostgreSQL 18 on; where the server does not
send one it is left out, with a warning at the start. \`mode: copy-only\` has them all.
`;

function planOf(typeOid: number, typmod: number, writtenAs: string | undefined): ParquetColumn {
  const column: SourceColumn = {
    ...{ name: "c", attnum: 1, typeOid, typmod, typeName: "", notNull: false, generated: "" },
    ...(writtenAs === undefined ? {} : { writtenAs }),
  };
  return planColumns([column], sampleTypes)[0]!.parquet;
}

function oneOf(texts: readonly string[]): string {
  return [...new Set(texts)].join(", ");
}

function columnText(column: ParquetColumn): string {
  switch (column.kind) {
    case "value":
      return valueText(column.type);
    case "list":
      return `LIST of ${columnText(column.element)}`;
    case "map":
      return `MAP of ${columnText(column.key)} to ${columnText(column.value)}`;
    case "struct":
      return `STRUCT(${column.fields.map((field) => `${field.name} ${columnText(field)}`).join(", ")})`;
  }
}

function valueText({ physical, lengthBytes, logical }: ValueType): string {
  const stored = lengthBytes === undefined ? physical : `${physical}(${lengthBytes})`;
  switch (logical.kind) {
    case "none":
      return stored;
    case "decimal":
      return `DECIMAL(${logical.precision},${logical.scale}) in ${stored}`;
    case "timestamp":
      return `TIMESTAMP µs${logical.utc ? " UTC" : ""}`;
    case "time":
      return "TIME µs";
    default:
      return logical.kind.toUpperCase();
  }
}

const sampleTypes: ReadonlyMap<number, PgType> = new Map(
  [
    type(sample.composite, {
      kind: "c",
      fields: [
        { name: "a", attnum: 1, typeOid: 23, typmod: -1 },
        { name: "b", attnum: 2, typeOid: 25, typmod: -1 },
      ],
    }),
    type(sample.enum, { kind: "e" }),
    type(sample.domain, { kind: "d", baseOid: 23 }),
    ...Object.entries({ hstore: sample.hstore, citext: sample.citext, ltree: sample.ltree, cube: more.cube }).map(
      ([name, oid]) => type(oid, { typname: name, extension: name }),
    ),
    ...(["vector", "halfvec", "sparsevec"] as const).map((name) =>
      type(more[name], { typname: name, extension: "vector" }),
    ),
    type(more.geometry, { typname: "geometry", extension: "postgis" }),
    type(more.unknown, {}),
    type(ARRAY, { elementOid: 23 }),
    type(INT4RANGE, { kind: "r", subtypeOid: 23 }),
    type(4451, { kind: "m", subtypeOid: INT4RANGE }),
    type(22, { elementOid: 21 }),
    type(30, { elementOid: 26 }),
  ].map((each) => [each.oid, each]),
);

function type(oid: number, more: Partial<PgType>): PgType {
  const base = { oid, name: "", schema: "public", typname: "", kind: "b", elementOid: 0, baseOid: 0 } as const;
  return { ...base, baseTypmod: -1, hasSend: true, ...more };
}
