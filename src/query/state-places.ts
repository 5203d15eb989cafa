// The rule "The state of a table at position P", but instead of the rows where they are: the file, the row in it, and for
// each column whose value another row has, that row. The SQL is the views' own; only what it carries differs.
import { keyedSql } from "./keyed-sql.ts";
import {
  filesOf,
  identityColumns,
  type MirrorFile,
  type MirrorTable,
  type ShownColumn,
  shownColumns,
} from "./mirror-table.ts";
import { multisetSql } from "./multiset-sql.ts";
import { unchangedColumns } from "./state-sql.ts";

export interface StatePlaces {
  /** `place` (BIGINT) of each row, and `others`: a place for each of `unchanged`, where one is not `place`; else NULL. */
  readonly sql: string;
  /** Whose values other rows may have. */
  readonly unchanged: readonly ShownColumn[];
  /** In the order of their numbers: by schema version, copy files first. */
  readonly files: readonly MirrorFile[];
}

/** Names that DuckDB has for the file's and the row's number, unless a file has a column of that name. */
const NUMBER_COLUMNS = ["file_index", "file_row_number"];
const ROW_FACTOR = 2;
const FILE_FACTOR = 4_294_967_296;

export interface Place {
  readonly file: number;
  readonly row: number;
  /** The value is the row's `_old_` one. */
  readonly old: boolean;
}

export function placeOf(place: number): Place {
  const inFile = place % FILE_FACTOR;
  const [file, row] = [(place - inFile) / FILE_FACTOR, Math.floor(inFile / ROW_FACTOR)];
  return { file, row, old: inFile % ROW_FACTOR === 1 };
}

/** Null: a column has a name that DuckDB needs for itself. */
export function statePlaces(table: MirrorTable, at: bigint): StatePlaces | null {
  const names = table.versions.flatMap((version) => version.columns.map(({ fileName }) => fileName.toLowerCase()));
  if (names.some((name) => NUMBER_COLUMNS.includes(name))) return null;
  const files = [...filesOf(table, "copy", at), ...filesOf(table, "stream", at)].sort(
    (a, b) => a.schemaVersion - b.schemaVersion || Number(a.kind === "stream") - Number(b.kind === "stream"),
  );
  const places = new Map(files.map((file, number) => [file.path, number]));
  const shown = shownColumns(table);
  // One more column, which is in no file and always has the place of the row itself.
  const index = shown.length;
  const itself = { name: "", fileName: "", typeName: "", duckdbType: "INTEGER", attnum: 0, index, shownName: "" };
  const columns: readonly ShownColumn[] = [...shown, itself];
  const unchanged = unchangedColumns(table, shown);
  const show = () => ({ value: "_pg_flo_place", old: "_pg_flo_place + 1" });
  const parts = { table, columns, at, unchanged, places, show };
  const identity = identityColumns(table, shown);
  const body = identity.length === 0 ? multisetSql(parts) : keyedSql(parts, identity);
  const others = unchanged.map((column) => `state.c${column.index}`);
  const same = others.map((other) => `${other} IS NOT DISTINCT FROM state.c${index}`).join(" AND ");
  const list = others.length === 0 ? "NULL::BIGINT[]" : `CASE WHEN ${same} THEN NULL ELSE [${others.join(", ")}] END`;
  const sql = `${body.ctes}\nSELECT state.c${index} AS place, ${list} AS others FROM (${body.rows}) state`;
  return { sql, unchanged, files };
}
