// The rule "The state of a table at position P" as SQL. Pure: from a table's description to one SELECT over its files.
// Tables with an identity: keyed-sql.ts. Tables whose rows can only be counted: multiset-sql.ts.
import { keyedSql } from "./keyed-sql.ts";
import {
  columnInVersion,
  filesOf,
  identityColumns,
  type MirrorTable,
  type ShownColumn,
  shownColumns,
} from "./mirror-table.ts";
import { multisetSql } from "./multiset-sql.ts";
import { quoteName, type ShowColumn, type StateBody, scanSql } from "./scan-sql.ts";

/**
 * A SELECT with the newest schema version's columns in order: the rows that the table had at the position `at`
 * (default and limit: the table's own position). Before the table's cut it is the copy: nothing older is known.
 * Throws METADATA_CORRUPT for a table without versions or whose identity is not among its columns.
 */
export function stateSql(table: MirrorTable, options: { readonly at?: bigint } = {}): string {
  const shown = shownColumns(table).map((column) => `state.c${column.index} AS ${quoteName(column.shownName)}`);
  const { ctes, rows } = stateRows(table, options);
  return `${ctes === "" ? "" : `${ctes}\n`}SELECT ${shown.join(", ")} FROM (${rows}) state`;
}

/** The same rows with the columns c0 … cn; `show` says what stands for a value there. */
export function stateRows(
  table: MirrorTable,
  options: { readonly at?: bigint; readonly show?: ShowColumn } = {},
): StateBody {
  const columns = shownColumns(table);
  const { at, show } = options;
  if (filesOf(table, "stream", at).length === 0) {
    return { ctes: "", rows: scanSql({ table, columns, kind: "copy", at, show, extras: () => ({}) }) };
  }
  const identity = identityColumns(table, columns);
  const unchanged = unchangedColumns(table, columns);
  const parts = { table, columns, at, unchanged, ...(show && { show }) };
  return identity.length === 0 ? multisetSql(parts) : keyedSql(parts, identity);
}

/** The columns whose value the log may not carry. */
export function unchangedColumns(table: MirrorTable, columns: readonly ShownColumn[]): readonly ShownColumn[] {
  const identity = identityColumns(table, columns);
  return columns.filter((column) => !identity.includes(column) && isToasted(column, table));
}

/** Values of fixed width are never TOASTed (https://www.postgresql.org/docs/current/storage-toast.html), so always in the log. */
const fixedWidth =
  /^(BOOLEAN|TINYINT|SMALLINT|INTEGER|BIGINT|FLOAT|DOUBLE|DATE|TIME|TIMESTAMP|TIMESTAMP WITH TIME ZONE|UUID)$/i;

function isToasted(column: ShownColumn, table: MirrorTable): boolean {
  return table.versions.some((version) => {
    const there = columnInVersion(column, version);
    return there !== undefined && !fixedWidth.test(there.duckdbType);
  });
}
