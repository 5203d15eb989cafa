// Tables that were renamed or moved to another schema at the source: the same relation under another name. It goes on
// with all its files, which the manifest lists under the new name from then on.

import { type Queryable, rows } from "./queryable.ts";
import type { WantedTable } from "./register-tables.ts";
import { nameKey } from "./table-name.ts";
import type { Table } from "./tables.ts";

export interface Rename {
  readonly known: Table;
  readonly wanted: WantedTable;
}

/** Pure. Two tables may have exchanged their names. */
export function planRenames(known: readonly Table[], wanted: readonly WantedTable[]): Rename[] {
  const kept = new Set(wanted.map((table) => `${table.oid} ${nameKey(table)}`));
  const byOid = new Map<number, Table[]>();
  for (const table of known) {
    if (table.state === "removed" || kept.has(`${table.relationOid} ${nameKey(table)}`)) continue;
    byOid.set(table.relationOid, [...(byOid.get(table.relationOid) ?? []), table]);
  }
  const stays = new Set(known.filter(({ state }) => state !== "removed").map((t) => `${t.relationOid} ${nameKey(t)}`));
  return wanted.flatMap((now) => {
    const table = stays.has(`${now.oid} ${nameKey(now)}`) ? undefined : byOid.get(now.oid)?.shift();
    return table ? [{ known: table, wanted: now }] : [];
  });
}

/**
 * Renames tables, their files and what is still to be copied of them. What stood under a new name and is no table of the
 * source any more leaves the manifest: gives the paths of its files. In the caller's transaction.
 */
export async function renameTables(db: Queryable, group: string, renames: readonly Rename[]): Promise<string[]> {
  if (renames.length === 0) return [];
  const records = JSON.stringify(
    renames.map(({ known, wanted }) => ({
      table_id: known.tableId,
      oid: known.relationOid,
      old_schema: known.schema,
      old_name: known.name,
      schema: wanted.schema,
      name: wanted.name,
    })),
  );
  const given = `given as (select * from jsonb_to_recordset($2::jsonb) as given(table_id bigint, oid bigint, old_schema text,
    old_name text, schema text, name text))`;
  // Locked in one order, like everywhere.
  await rows(db, "select 1 from _pg_flo.tables where group_name = $1 order by table_id for update", [group]);
  const replaced = await rows<{ path: string | null }>(
    db,
    `with ${given}, gone as (
       select t.table_id, t.schema_name, t.table_name from _pg_flo.tables t
         join given on given.schema = t.schema_name and given.name = t.table_name
       where t.group_name = $1 and t.table_id not in (select table_id from given)
     ), ranges as (
       delete from _pg_flo.copy_ranges where table_id in (select table_id from gone)
     ), listed as (
       delete from _pg_flo.files f using gone
       where f.group_name = $1 and f.schema_name = gone.schema_name and f.table_name = gone.table_name
       returning f.path
     ), versions as (
       delete from _pg_flo.table_versions where table_id in (select table_id from gone)
     )
     select path from listed`,
    [group, records],
  );
  await rows(
    db,
    `with ${given}
     delete from _pg_flo.tables t using given
     where t.group_name = $1 and t.schema_name = given.schema and t.table_name = given.name
       and t.table_id not in (select table_id from given)`,
    [group, records],
  );
  // By way of names that no table has: two may exchange theirs.
  await rows(
    db,
    `with ${given}
     update _pg_flo.tables t set table_name = t.table_name || chr(10) || t.table_id from given
     where t.group_name = $1 and t.table_id = given.table_id`,
    [group, records],
  );
  await rows(
    db,
    `with ${given}, listed as (
       update _pg_flo.files f set schema_name = given.schema, table_name = given.name from given
       where f.group_name = $1 and f.schema_name = given.old_schema and f.table_name = given.old_name
     ), ranges as (
       update _pg_flo.copy_ranges r set heap_schema = given.schema, heap_name = given.name from given
       where r.table_id = given.table_id and r.heap_oid = given.oid)
     update _pg_flo.tables t set schema_name = given.schema, table_name = given.name, updated_at = now() from given
     where t.group_name = $1 and t.table_id = given.table_id`,
    [group, records],
  );
  return replaced.flatMap(({ path }) => (path === null ? [] : [path]));
}
