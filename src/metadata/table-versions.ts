// The columns of every schema version that a file or a tuple of the log may have.
import { type Queryable, rows } from "./queryable.ts";
import type { TableColumn } from "./tables.ts";

/** By table, then by version, ascending. */
export async function readVersions(
  db: Queryable,
  group: string,
): Promise<Map<number, Map<number, readonly TableColumn[]>>> {
  const found = await rows<{ table_id: string; schema_version: number; columns: readonly TableColumn[] }>(
    db,
    "select table_id, schema_version, columns from _pg_flo.table_versions where group_name = $1 order by 1, 2",
    [group],
  );
  const byTable = new Map<number, Map<number, readonly TableColumn[]>>();
  for (const version of found) {
    const tableId = Number(version.table_id);
    const versions = byTable.get(tableId) ?? new Map<number, readonly TableColumn[]>();
    versions.set(version.schema_version, version.columns);
    byTable.set(tableId, versions);
  }
  return byTable;
}
