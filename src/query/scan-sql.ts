// SQL that reads a table's files of one kind, over all schema versions, under names that cannot clash with the
// table's own: c0, c1 … are its newest columns, the rest is named by who asks. Pure.
import {
  columnInVersion,
  filesOf,
  lastLsn,
  type MirrorTable,
  type MirrorVersion,
  newestVersion,
  type ShownColumn,
} from "./mirror-table.ts";

/** What a rule's SQL is made from. `unchanged`: the columns whose value the log may not carry. */
export interface StateParts {
  readonly table: MirrorTable;
  readonly columns: readonly ShownColumn[];
  readonly at: bigint | undefined;
  readonly unchanged: readonly ShownColumn[];
  readonly show?: ShowColumn;
  /** Then every row has `_pg_flo_place`, where it is (state-places.ts). */
  readonly places?: FilePlaces;
}

/** Numbers of files, by path. */
export type FilePlaces = ReadonlyMap<string, number>;

/** `ctes` begins with WITH; `rows` is a SELECT that has the columns c0 … cn. */
export interface StateBody {
  readonly ctes: string;
  readonly rows: string;
}

/** Operations whose row is an image to put in. */
export const putOperations = "('INSERT', 'UPDATE')";

/** The columns of every stream file beside the table's own, with the type an empty stand-in has. */
export const streamColumns = {
  _pg_flo_operation: "VARCHAR",
  _pg_flo_lsn: "BIGINT",
  _pg_flo_sequence: "BIGINT",
  _pg_flo_xid: "BIGINT",
  _pg_flo_timestamp: "TIMESTAMP WITH TIME ZONE",
  _pg_flo_schema: "VARCHAR",
  _pg_flo_table: "VARCHAR",
  _pg_flo_unchanged: "VARCHAR[]",
  _pg_flo_exact: "VARCHAR",
} as const;

/** SQL for one newest column as the files of one version have it. */
export interface ScannedColumn {
  readonly index: number;
  readonly type: string;
  readonly value: string;
  readonly old: string;
  /** Exact text of a value that the file cannot hold, NULL when `value` is exact. Only to be evaluated where `_pg_flo_exact` is not NULL. */
  readonly exact: string;
  readonly oldExact: string;
  /** True where the log did not carry the value. Only to be evaluated where `_pg_flo_unchanged` is not NULL. */
  readonly unchanged: string;
}

/** What stands for a column's value as c0 … cn: by default the value itself. Rows are found and told apart as ever. */
export type ShowColumn = (column: ScannedColumn) => { readonly value: string; readonly old: string };

/** Asks for further output columns, by name, built from the columns of one version. */
export type ScanExtras = (columns: readonly ScannedColumn[]) => Readonly<Record<string, string>>;

export interface Scan {
  readonly table: MirrorTable;
  readonly columns: readonly ShownColumn[];
  readonly kind: "copy" | "stream";
  readonly at: bigint | undefined;
  readonly extras: ScanExtras;
  readonly show?: ShowColumn | undefined;
  readonly places?: FilePlaces | undefined;
}

/** A SELECT of c0 … cn and the extras, one branch for each schema version; empty but typed when there is no file. */
export function scanSql(scan: Scan): string {
  const files = filesOf(scan.table, scan.kind, scan.at);
  const versions = [...scan.table.versions].sort((a, b) => a.schemaVersion - b.schemaVersion);
  const branches = versions.flatMap((version) => {
    const paths = files.filter((file) => file.schemaVersion === version.schemaVersion).map((file) => file.path);
    return paths.length === 0 ? [] : [branchSql(scan, version, paths)];
  });
  return branches.length > 0 ? branches.join("\nUNION ALL\n") : branchSql(scan, newestVersion(scan.table), []);
}

/** Rows that count: `_pg_flo_lsn` from the table's cut to the position. */
export function lsnRange(table: MirrorTable, at: bigint | undefined): string {
  const last = lastLsn(table, at);
  const conditions = [
    ...(table.cutLsn === null ? [] : [`_pg_flo_lsn >= ${table.cutLsn}`]),
    ...(last === null ? [] : [`_pg_flo_lsn <= ${last}`]),
  ];
  return conditions.length === 0 ? "true" : conditions.join(" AND ");
}

/** Folders such as `a=b` are no partition columns, and a file may lack columns that its neighbours have. */
export function readParquetSql(paths: readonly string[]): string {
  return `read_parquet([${paths.map((path) => quoteText(literalPath(path))).join(", ")}], union_by_name = true, hive_partitioning = false)`;
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** Exact texts of several columns as one list, NULL when all of them are exact, so that equal rows compare equal. */
export function exactTexts(texts: readonly string[]): string {
  if (texts.length === 0) return "NULL";
  const none = texts.some((text) => text.startsWith("'"))
    ? "false" // rows older than a column have the text without having it in the file
    : `_pg_flo_exact IS NULL OR coalesce(${texts.join(", ")}) IS NULL`;
  return `CASE WHEN ${none} THEN NULL ELSE [${texts.join(", ")}] END`;
}

function branchSql(scan: Scan, version: MirrorVersion, paths: readonly string[]): string {
  const place = scan.places && placeSql(scan.places, paths);
  const columns = scan.columns.map((column) => scannedColumn(column, version));
  const extras = Object.entries(scan.extras(columns)).map(([name, sql]) => `${sql} AS ${name}`);
  const values = columns.map((column) => `${(scan.show?.(column) ?? column).value} AS c${column.index}`);
  const where = scan.kind === "stream" ? ` WHERE ${lsnRange(scan.table, scan.at)}` : "";
  return `SELECT ${[...values, ...extras].join(", ")} FROM (${sourceSql(scan.kind, version, paths, place)})${where}`;
}

/** The number of a file and of a row in it; odd ones are left for the row's `_old_` values: a BIGINT below 2^53. */
function placeSql(places: FilePlaces, paths: readonly string[]): string {
  if (paths.length === 0) return "NULL::BIGINT";
  const first = places.get(paths[0]!)!;
  if (paths.some((path, index) => places.get(path) !== first + index))
    throw new Error("files are not numbered in order");
  return `(${first} + file_index)::BIGINT * 4294967296 + file_row_number * 2`;
}

/** The typed empty row set gives columns that no file of this version has (`_old_` before there was a key, a generated one). */
function sourceSql(
  kind: "copy" | "stream",
  version: MirrorVersion,
  paths: readonly string[],
  place: string | undefined,
): string {
  const own = version.columns.map((column) => [column.fileName, column.duckdbType] as const);
  const old = own.map(([name, type]) => [`_old_${name}`, type] as const);
  const extra = kind === "copy" ? [["_pg_flo_exact", "VARCHAR"] as const] : [...Object.entries(streamColumns), ...old];
  const typed = (list: readonly (readonly [string, string])[]) =>
    `SELECT ${list.map(([name, type]) => `NULL::${type} AS ${quoteName(name)}`).join(", ")} WHERE false`;
  const numbered = place === undefined ? [] : [["_pg_flo_place", "BIGINT"] as const];
  if (paths.length === 0) return typed([...own, ...extra, ...numbered]);
  // The commit time's type is the file's: as DuckDB takes the wider of two, it must not be named here.
  const stand = [...own, ...extra].filter(([name]) => name !== "_pg_flo_timestamp");
  const all = place === undefined ? "*" : `*, ${place} AS _pg_flo_place`;
  return `SELECT ${all} FROM ${readParquetSql(paths)} UNION ALL BY NAME ${typed(stand)}`;
}

function scannedColumn(column: ShownColumn, version: MirrorVersion): ScannedColumn {
  const { index, duckdbType: type } = column;
  const there = columnInVersion(column, version);
  if (there === undefined) {
    // Rows of that version are older than the column: they have its default of then, whatever the log says later.
    const { text = null, exact: exactText = null } = column.missing ?? {};
    const missing = text === null ? `NULL::${type}` : `CAST(${quoteText(text)} AS ${type})`;
    const exact = exactText === null ? "NULL" : quoteText(exactText);
    return { index, type, value: missing, old: missing, exact, oldExact: exact, unchanged: "false" };
  }
  const oldName = `_old_${there.fileName}`;
  const asNewest = (name: string) => (there.duckdbType === type ? quoteName(name) : `${quoteName(name)}::${type}`);
  const exact = (name: string) =>
    `json_extract_string(_pg_flo_exact, ${quoteText(`/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`)})`;
  return {
    index,
    type,
    value: asNewest(there.fileName),
    old: asNewest(oldName),
    exact: exact(there.name),
    oldExact: exact(`_old_${there.name}`),
    unchanged: `list_contains(_pg_flo_unchanged, ${quoteText(there.name)})`,
  };
}

/** DuckDB takes every path for a glob pattern: a class of one character stands for the character itself. */
function literalPath(path: string): string {
  return path.replace(/[*?[]/g, "[$&]");
}
