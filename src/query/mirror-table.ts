// What the reading side must know of one mirrored table, and how its columns are found in files of older schema
// versions. Plain data: the caller fills it from the manifest. Reads no file and no database.
import { PgFloError } from "../base/errors.ts";
import type { MissingValue } from "./missing-values.ts";

export interface MirrorColumn {
  /** The column's name at the source; `_pg_flo_exact` (also after `_old_`) and `_pg_flo_unchanged` name it so too. */
  readonly name: string;
  /** Its name in the files: unique there ignoring case, and without dots. Its `_old_` twin is named after it. */
  readonly fileName: string;
  /** The Postgres type, for people. */
  readonly typeName: string;
  /** The type DuckDB reads from the file, e.g. `DECIMAL(12,2)` or `TIMESTAMP WITH TIME ZONE`. */
  readonly duckdbType: string;
  /** pg_attribute.attnum. Where two versions both have it, it finds a renamed column again; else the name does. */
  readonly attnum?: number;
  /** What rows have that are older than the column. Absent: NULL. */
  readonly missing?: MissingValue;
}

export interface MirrorVersion {
  readonly schemaVersion: number;
  readonly columns: readonly MirrorColumn[];
}

export interface MirrorFile {
  readonly kind: "copy" | "stream";
  /** What DuckDB can open: an absolute path or a URL. Taken literally, never as a glob pattern. */
  readonly path: string;
  readonly schemaVersion: number;
  /** The first and last commit LSN in a stream file; null where it is not known, then the file is never left out. */
  readonly lsnStart: bigint | null;
  readonly lsnEnd: bigint | null;
}

export interface MirrorIdentity {
  /** `full` without columns: no primary key, rows are told apart by all their values. */
  readonly kind: "key" | "full" | "none";
  readonly columns: readonly string[];
}

export interface MirrorTable {
  readonly schema: string;
  readonly name: string;
  readonly identity: MirrorIdentity;
  /** Changes committed before it are in the copy already. null: all changes count. */
  readonly cutLsn: bigint | null;
  /** The copy has the changes up to here, and nothing before is known. null or absent: it is the source's copy. */
  readonly baseLsn?: bigint | null;
  /** The stream's position: nothing after it counts. null: no limit. */
  readonly position: bigint | null;
  readonly versions: readonly MirrorVersion[];
  readonly files: readonly MirrorFile[];
}

/** A column of the newest version as the views show it. `index` names it inside the SQL (`c0`, `c1` …). */
export interface ShownColumn extends MirrorColumn {
  readonly index: number;
  readonly shownName: string;
}

/** Columns of the newest schema version in order. DuckDB ignores case in names: columns that clash keep their file's name. */
export function shownColumns(table: MirrorTable): readonly ShownColumn[] {
  const { columns } = newestVersion(table);
  const counts = new Map<string, number>();
  for (const { name } of columns) counts.set(name.toLowerCase(), (counts.get(name.toLowerCase()) ?? 0) + 1);
  let shown = columns.map((column) => (counts.get(column.name.toLowerCase()) === 1 ? column.name : column.fileName));
  const clash = new Set(shown.map((name) => name.toLowerCase())).size < shown.length;
  if (clash) shown = columns.map((column) => column.fileName);
  return columns.map((column, index) => ({ ...column, index, shownName: shown[index]! }));
}

/** The version with the highest number. Throws METADATA_CORRUPT for a table that has none. */
export function newestVersion(table: MirrorTable): MirrorVersion {
  const newest = table.versions.reduce<MirrorVersion | undefined>(
    (best, version) => (best === undefined || version.schemaVersion > best.schemaVersion ? version : best),
    undefined,
  );
  if (newest === undefined) {
    throw new PgFloError("METADATA_CORRUPT", `table ${table.schema}.${table.name} has no schema version`);
  }
  return newest;
}

/** The columns that name a row, in the identity's order; empty when all values or nothing does. */
export function identityColumns(table: MirrorTable, columns: readonly ShownColumn[]): readonly ShownColumn[] {
  if (table.identity.kind === "none") return [];
  return table.identity.columns.map((name) => {
    const column = columns.find((candidate) => candidate.name === name);
    if (column) return column;
    const what = `identity column ${JSON.stringify(name)} of ${table.schema}.${table.name}`;
    throw new PgFloError("METADATA_CORRUPT", `${what} is not in its newest schema version`);
  });
}

/** The same column in an older version, or undefined where that version did not have it. */
export function columnInVersion(column: MirrorColumn, version: MirrorVersion): MirrorColumn | undefined {
  return version.columns.find((candidate) =>
    candidate.attnum !== undefined && column.attnum !== undefined
      ? candidate.attnum === column.attnum
      : candidate.name === column.name,
  );
}

/** The last LSN that counts: the smaller of what is asked for and what is durable. null: no limit. */
export function lastLsn(table: MirrorTable, at: bigint | undefined): bigint | null {
  if (at === undefined) return table.position;
  return table.position === null || at < table.position ? at : table.position;
}

/** The files that can hold rows that count, copy or stream, in the manifest's order. */
export function filesOf(table: MirrorTable, kind: "copy" | "stream", at: bigint | undefined): readonly MirrorFile[] {
  const last = lastLsn(table, at);
  const { cutLsn } = table;
  return table.files.filter((file) => {
    if (file.kind !== kind) return false;
    if (kind === "copy") return true;
    const tooLate = last !== null && file.lsnStart !== null && file.lsnStart > last;
    const tooEarly = cutLsn !== null && file.lsnEnd !== null && file.lsnEnd < cutLsn;
    return !tooLate && !tooEarly;
  });
}
