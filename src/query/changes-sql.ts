// A mirrored table's history as SQL: every row of its stream files that counts, in the order of the transactions.
import { filesOf, identityColumns, type MirrorTable, shownColumns } from "./mirror-table.ts";
import { lsnRange, quoteName, readParquetSql, streamColumns } from "./scan-sql.ts";

/**
 * A SELECT of the newest version's columns, columns of older versions that are gone, the `_pg_flo_` columns and the
 * `_old_` ones, ordered by `_pg_flo_lsn` and `_pg_flo_sequence`. `_old_` and dropped columns have their file's names.
 */
export function changesSql(table: MirrorTable, options: { readonly at?: bigint } = {}): string {
  const columns = shownColumns(table);
  const files = filesOf(table, "stream", options.at);
  const present = new Set(files.map((file) => file.schemaVersion));
  const inFiles = table.versions.filter((version) => present.has(version.schemaVersion)).flatMap((v) => v.columns);
  // A type is only named where no file has the column: DuckDB would take the wider of both.
  const own = columns.map((column) => {
    const known = inFiles.some((there) => there.fileName.toLowerCase() === column.fileName.toLowerCase());
    return `NULL${known ? "" : `::${column.duckdbType}`} AS ${quoteName(column.fileName)}`;
  });
  const renamed = columns
    .filter((column) => column.shownName !== column.fileName)
    .map((column) => `${quoteName(column.fileName)} AS ${quoteName(column.shownName)}`);
  const select = `SELECT *${renamed.length > 0 ? ` RENAME (${renamed.join(", ")})` : ""}`;
  if (files.length === 0) {
    const own = columns.map((column) => `NULL::${column.duckdbType} AS ${quoteName(column.fileName)}`);
    const stream = Object.entries(streamColumns).map(([name, type]) => `NULL::${type} AS ${name}`);
    const identity = table.identity.kind === "full" ? columns : identityColumns(table, columns);
    const old = identity.map((column) => `NULL::${column.duckdbType} AS ${quoteName(`_old_${column.fileName}`)}`);
    return `${select} FROM (SELECT ${[...own, ...stream, ...old].join(", ")} WHERE false)`;
  }
  const source = `SELECT ${own.join(", ")} WHERE false UNION ALL BY NAME SELECT * FROM ${readParquetSql(files.map((file) => file.path))}`;
  return `${select} FROM (${source}) WHERE ${lsnRange(table, options.at)} ORDER BY _pg_flo_lsn, _pg_flo_sequence`;
}
