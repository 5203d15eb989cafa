// What a file must have of a column's values, by Postgres's own functions: SQL that takes a value apart as its Parquet
// column has it (lists, structs, maps), down to texts, and what those texts are in the file.
import type pg from "pg";
import type { ParquetColumn } from "../../src/parquet/schema.ts";
import { expectedNative } from "./expected-native.ts";
import type { Expected } from "./expected-values.ts";
import { sortPairs, type Value } from "./parquet-readers.ts";
import { formSql } from "./random-further-values.ts";

export interface TypeFacts {
  /** As format_type prints it, without a modifier. */
  readonly name: string;
  readonly kind: string;
  /** Of an array its element's OID, of a range its subtype's, of a multirange its range's; else 0. */
  readonly inner: number;
  readonly attributes: readonly { readonly name: string; readonly type: number }[];
}

export type TypeCatalog = ReadonlyMap<number, TypeFacts>;

/** Domains have the facts of what is below them. */
export async function readTypeCatalog(client: pg.Client): Promise<TypeCatalog> {
  const { rows } = await client.query<{ oid: number; base: number } & TypeFacts>(
    `select t.oid::int8::float8 as oid, t.typbasetype::int8::float8 as base, format_type(t.oid, null) as name,
       case when t.typsubscript = 'array_subscript_handler'::regproc then 'a' else t.typtype::text end as kind,
       coalesce(r.rngsubtype, m.rngtypid, t.typelem)::int8::float8 as inner,
       coalesce((select json_agg(json_build_object('name', attname, 'type', atttypid::int8) order by attnum) from pg_attribute
         where attrelid = t.typrelid and t.typtype = 'c' and attnum > 0 and not attisdropped), '[]') as attributes
     from pg_type t left join pg_range r on r.rngtypid = t.oid left join pg_range m on m.rngmultitypid = t.oid`,
  );
  const byOid = new Map(rows.map((row) => [row.oid, row]));
  const facts = (row: (typeof rows)[0]): TypeFacts => (row.base === 0 ? row : facts(byOid.get(row.base)!));
  return new Map(rows.map((row) => [row.oid, facts(row)]));
}

/**
 * SQL of jsonb: a text per value, an array per struct or map, of an array `{"dimensions", "lower", "items"}`, of an
 * infinite interval `{"infinite"}`.
 */
export function treeSql(catalog: TypeCatalog, oid: number, column: ParquetColumn, value: string, depth = 0): string {
  const type = catalog.get(oid)!;
  const there = (sql: string): string => `case when ${value} is distinct from null then ${sql} end`;
  const each = `e${depth}`;
  const inner = (shape: ParquetColumn, sql: string, innerOid = type.inner): string =>
    treeSql(catalog, innerOid, shape, sql, depth + 1);
  if (column.kind === "value") return there(`to_jsonb(${leafSql(type, value)})`);
  if (column.kind === "map") {
    return there(`coalesce((select jsonb_agg(jsonb_build_array(key, value)) from each(${value})), '[]')`);
  }
  if (column.kind === "list") {
    if (type.name === "polygon") {
      return there(`(select jsonb_agg(${pairSql("p.p")} order by p.n) from ${pointsSql(value)})`);
    }
    const items = (source: string): string =>
      `coalesce((select jsonb_agg(${inner(column.element, `${each}.v`)} order by ${each}.n) from ${source} ${each}(v, n)), '[]')`;
    if (type.kind === "m") return there(items(`unnest(${value}) with ordinality`));
    const list = `case when coalesce(array_ndims(${value}), 1) = 1 then ${items(elementsSql(catalog.get(type.inner)!, value))} end`;
    const facts = `'dimensions', array_ndims(${value}), 'lower', array_lower(${value}, 1)`;
    return there(`jsonb_build_object(${facts}, 'items', ${list})`);
  }
  const { fields } = column;
  if (type.kind === "r") {
    const bounds = ["lower", "upper"].map((name, k) => inner(fields[k]!, `${name}(${value})`));
    return there(
      `jsonb_build_array(${bounds.join(", ")}, ${["lower_inc", "upper_inc", "isempty"].map((name) => `left(${name}(${value})::text, 1)`).join(", ")})`,
    );
  }
  if (type.kind === "c") {
    const parts = type.attributes.map(({ name, type: attribute }, k) =>
      inner(fields[k]!, `(${value})."${name.replaceAll('"', '""')}"`, attribute),
    );
    return there(`jsonb_build_array(${parts.join(", ")})`);
  }
  return there(structSql(type.name, value));
}

// unnest() of an array of composites gives their attributes as columns.
function elementsSql(element: TypeFacts, value: string): string {
  if (element.kind !== "c") return `unnest(${value}) with ordinality`;
  return `(select (${value})[k], k from generate_subscripts(${value}, 1) k)`;
}

function leafSql(type: TypeFacts, value: string): string {
  if (type.name === "money") return `${value}::numeric::text`;
  if (type.name === "character" || type.name === "bpchar") return `rtrim(format('%s', ${value}), ' ')`;
  return formSql(type.kind === "c" ? "pair" : type.name, value);
}

const float = (sql: string): string => `(${sql})::float8::text`;
const pairSql = (point: string): string => `jsonb_build_array(${float(`(${point})[0]`)}, ${float(`(${point})[1]`)})`;

/** The points of a path or polygon, by its text. */
function pointsSql(value: string): string {
  return `(select point(m[1]), n from regexp_matches((${value})::text, '\\(([^()]+,[^()]+)\\)', 'g') with ordinality x(m, n)) p(p, n)`;
}

function structSql(name: string, value: string): string {
  const numbers = (text: string): string =>
    `(select jsonb_agg(m[1] order by n) from regexp_matches((${text})::text, '(-?Infinity|NaN|-?[0-9][0-9.e+-]*)', 'g') with ordinality x(m, n))`;
  switch (name) {
    case "interval":
      return `case when isfinite(${value}) then jsonb_build_array((extract(year from ${value}) * 12 + extract(month from ${value}))::int8::text,
        extract(day from ${value})::text, (extract(hour from ${value}) * 3600000000 + extract(minute from ${value}) * 60000000 + extract(microseconds from ${value}))::int8::text)
        else jsonb_build_object('infinite', ${value} > '0') end`;
    case "path":
      return `jsonb_build_array(left(isclosed(${value})::text, 1), (select jsonb_agg(${pairSql("p.p")} order by p.n) from ${pointsSql(value)}))`;
    case "point":
    case "line":
    case "lseg":
    case "box":
    case "circle":
      return numbers(value);
    default:
      throw new Error(`no SQL of the struct of ${name}`);
  }
}

export type Tree = string | null | readonly Tree[] | { readonly [key: string]: unknown };

/** What the file has of a value that `treeSql` took apart. */
export function expectedTree(column: ParquetColumn, tree: Tree): Expected {
  if (tree === null) return { value: null, exact: true };
  if (column.kind === "value") return expectedNative(column, tree as string);
  if (column.kind === "map") return { value: sortPairs(tree as readonly Value[]), exact: true };
  if (column.kind === "struct") {
    if (!Array.isArray(tree)) return infiniteInterval((tree as { infinite: boolean }).infinite);
    return together(column.fields.map((field, k) => expectedTree(field, (tree as Tree[])[k]!)));
  }
  if (Array.isArray(tree)) return together(tree.map((item) => expectedTree(column.element, item)));
  const { dimensions, lower, items } = tree as {
    dimensions: number | null;
    lower: number | null;
    items: Tree[] | null;
  };
  if (items === null) return { value: null, exact: false };
  const { value, exact } = together(items.map((item) => expectedTree(column.element, item)));
  return { value, exact: exact && (dimensions === null || lower === 1) };
}

function together(parts: readonly Expected[]): Expected {
  return { value: parts.map(({ value }) => value), exact: parts.every(({ exact }) => exact) };
}

function infiniteInterval(positive: boolean): Expected {
  const value = positive
    ? ["2147483647", "2147483647", "9223372036854775807"]
    : ["-2147483648", "-2147483648", "-9223372036854775808"];
  return { value, exact: false };
}
