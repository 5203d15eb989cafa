// Types whose values the server cannot send in binary. pgoutput falls back to text for such a column, but not for an
// array or a composite that contains such a type: there the walsender fails, and the slot stays stuck until it is read
// with binary off. So one must know before starting, and again whenever a table's columns change.
import type { ClientBase } from "pg";

/** Of `typeOids` those that jam a binary slot, each with the names of the inner types that are to blame. One query. */
export async function readJammingTypes(
  client: ClientBase,
  typeOids: Iterable<number>,
): Promise<Map<number, readonly string[]>> {
  const { rows } = await client.query<{ oid: number; inner: string[] }>(jammingTypesSql, [[...new Set(typeOids)]]);
  return new Map(rows.map(({ oid, inner }) => [oid, inner]));
}

// Walks array elements, domains, ranges, multiranges and composite attributes.
const jammingTypesSql = `
  with recursive walk (root, oid) as (
    select t.oid, t.oid from pg_type t where t.oid = any ($1::oid[])
    union select walk.root, inside.oid from walk join lateral (
      select t.typelem as oid from pg_type t where t.oid = walk.oid and t.typelem <> 0
        and t.typsubscript = 'array_subscript_handler'::regproc
      union all select t.typbasetype from pg_type t where t.oid = walk.oid and t.typtype = 'd'
      union all select r.rngsubtype from pg_range r where r.rngtypid = walk.oid
      union all select r.rngtypid from pg_range r where r.rngmultitypid = walk.oid
      union all select a.atttypid from pg_type t
        join pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
        where t.oid = walk.oid and t.typtype = 'c'
    ) inside on inside.oid <> 0)
  select root as oid, array_agg(distinct format_type(walk.oid, null)) as inner
  from walk join pg_type r on r.oid = walk.root join pg_type l on l.oid = walk.oid
  where r.typsend <> 0 and l.typsend = 0 and l.typtype <> 'p'
  group by 1 order by 1`;
