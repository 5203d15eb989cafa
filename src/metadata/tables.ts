// The mirrored tables of a group: what they are, and the moves of their state that are not part of a copy or a batch.
// A table's generation grows whenever it begins anew (copied again, configured again, recreated at the source): what
// was written for an older generation never enters the manifest.
import type { ErrorCode } from "../base/errors.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import type { TableMode } from "../config/config.ts";
import type { ReplicaIdentity, SourceColumn } from "../postgres/catalog.ts";
import type { DefinitionTraces } from "../postgres/definition-traces.ts";
import { removeFiles } from "./files.ts";
import type { InexactColumns } from "./inexact-columns.ts";
import { type Queryable, row, rows } from "./queryable.ts";
import { legalFrom, next, type TableState } from "./table-state.ts";

/** A column of the source and the name it has in the Parquet files (unique ignoring case, no dot). */
export interface TableColumn extends SourceColumn {
  readonly fileName: string;
}

export interface TableError {
  readonly code: string;
  readonly message: string;
  readonly at: string; // ISO 8601, by the metadata server's clock
}

/** A table as it is now: when it begins anew it is another one. */
export interface TableKey {
  readonly tableId: number;
  readonly generation: number;
}

export interface Table {
  readonly tableId: number;
  readonly group: string;
  readonly schema: string;
  readonly name: string;
  readonly relationOid: number;
  readonly mode: TableMode;
  /** Null for copy-only tables. */
  readonly stream: number | null;
  readonly state: TableState;
  readonly generation: number;
  /** Changes with a commit LSN from it on count; the copy holds what was before. Null while pending. */
  readonly cutLsn: Lsn | null;
  /** The newest snapshot that a range was read under. Null while none was, and of an older version's copies. */
  readonly copiedLsn: Lsn | null;
  /** The snapshot that its remaining ranges are read under; with it as its last word once it is copied. */
  readonly snapshotLsn: Lsn | null;
  readonly schemaVersion: number;
  readonly identity: ReplicaIdentity;
  /** Of `schemaVersion`. */
  readonly columns: readonly TableColumn[];
  /** Of the moment when `columns` were read. */
  readonly traces: DefinitionTraces | null;
  readonly error: TableError | null;
  /** Null until the ranges are planned. */
  readonly rangesTotal: number | null;
  readonly rangesDone: number;
  readonly copyRows: number;
  readonly copyBytes: number;
  /** Changes of the log, and the rows that they were brought together to. */
  readonly changeOperations: number;
  readonly changeRows: number;
  readonly changeFiles: number;
  readonly inexactValues: number;
  /** The same by column. */
  readonly inexactColumns: InexactColumns;
  readonly fileCount: number;
  readonly fileBytes: number;
  /** When a failed table is tried again by itself; null for others. */
  readonly retryAt: Date | null;
  /** The copy files hold the changes up to here, and no state before it is known. Null: they are the source's copy. */
  readonly baseLsn: Lsn | null;
}

/** A row of _pg_flo.tables as `tableColumns` selects it. */
export interface TableRow {
  readonly table_id: string;
  readonly group_name: string;
  readonly schema_name: string;
  readonly table_name: string;
  readonly relation_oid: string;
  readonly mode: TableMode;
  readonly stream: number | null;
  readonly state: TableState;
  readonly generation: number;
  readonly cut_lsn: string | null;
  readonly copied_lsn: string | null;
  readonly snapshot_lsn: string | null;
  readonly schema_version: number;
  readonly identity: ReplicaIdentity;
  readonly error: TableError | null;
  readonly ranges_total: number | null;
  readonly ranges_done: number;
  readonly copy_rows: string;
  readonly copy_bytes: string;
  readonly change_operations: string;
  readonly change_rows: string;
  readonly change_files: string;
  readonly inexact_values: string;
  readonly inexact_columns: InexactColumns;
  readonly file_count: string;
  readonly file_bytes: string;
  readonly retry_at: Date | null;
  readonly base_lsn: string | null;
  readonly columns: readonly TableColumn[];
  readonly traces: DefinitionTraces | null;
}

const tableQuery = `select t.*, v.columns
  from _pg_flo.tables t join _pg_flo.table_versions v using (table_id, schema_version)`;

/** Every table of a group, also failed and removed ones, in the order in which they were registered. */
export async function readTables(db: Queryable, group: string): Promise<Table[]> {
  const found = await rows<TableRow>(db, `${tableQuery} where t.group_name = $1 order by t.table_id`, [group]);
  return found.map(toTable);
}

/** Whether tables of the group are not copied yet, or the group is not there yet. Works before there is a schema. */
export async function copyIsAhead(db: Queryable, group: string): Promise<boolean> {
  const schema = await row<{ there: boolean }>(db, "select to_regclass('_pg_flo.tables') is not null as there");
  if (!schema!.there) return true;
  const copy = await row<{ ahead: boolean }>(
    db,
    `select count(*) = 0 or bool_or(state = 'copying' or (state = 'pending' and mode <> 'stream-only')) as ahead
     from _pg_flo.tables where group_name = $1`,
    [group],
  );
  return copy!.ahead;
}

/** The table, its row locked; undefined when it began anew since, or is gone. */
export async function lockTable(transaction: Queryable, { tableId, generation }: TableKey): Promise<Table | undefined> {
  const found = await row<TableRow>(
    transaction,
    `${tableQuery} where t.table_id = $1 and t.generation = $2 for no key update of t`,
    [tableId, generation],
  );
  return found && toTable(found);
}

/** What waits for a cut: the owner of the stream takes it with `takeCut` (or `activateStream`). */
export async function tablesWaitingForCut(db: Queryable, group: string, stream: number | null): Promise<Table[]> {
  const found = await rows<TableRow>(
    db,
    `${tableQuery} where t.group_name = $1 and t.stream is not distinct from $2::int and t.state = any($3)
     order by t.table_id`,
    [group, stream, legalFrom("cutTaken")],
  );
  return found.map(toTable);
}

/** A failed table is tried again after a minute, then after twice as long each time, up to eight and a half hours. */
const RETRY_DOUBLINGS_MAX = 9;
/** How often it failed in a row; a day after a retry without a failure is a new row. A second failure of one try is none. */
const failures = `case when state = 'error' then retries when retry_at < now() - interval '1 day' then 1
  else retries + 1 end`;

/**
 * Stops one table: nothing more of it is copied or written. The newest error is the one that is told.
 * `generation`: what the one who failed was working on, so that an old failure does not stop a new copy.
 * False: the table began anew or was removed meanwhile.
 */
export async function setTableError(
  db: Queryable,
  table: { readonly tableId: number; readonly generation: number },
  error: { readonly code: ErrorCode; readonly message: string },
): Promise<boolean> {
  const failed = await row(
    db,
    `update _pg_flo.tables set state = $4, updated_at = now(),
       error = jsonb_build_object('code', $5::text, 'message', $6::text, 'at', clock_timestamp()),
       retries = ${failures},
       retry_at = case when state = 'error' then retry_at
         else now() + interval '1 minute' * 2 ^ least(${failures} - 1, ${RETRY_DOUBLINGS_MAX}) end
     where table_id = $1 and generation = $2 and state = any($3) returning 1`,
    [
      table.tableId,
      table.generation,
      legalFrom("failed"),
      next("pending", { kind: "failed" }),
      error.code,
      error.message,
    ],
  );
  return failed !== undefined;
}

/** The failed tables whose time to be tried again has come, by the metadata server's clock. */
export async function tablesToRetry(db: Queryable, group: string): Promise<Table[]> {
  const found = await rows<TableRow>(
    db,
    `${tableQuery} where t.group_name = $1 and t.state = 'error' and t.retry_at <= now() order by t.table_id`,
    [group],
  );
  return found.map(toTable);
}

/** Not yet: the cause is still there. The next look is as far away as after another failure. */
export async function postponeRetry(db: Queryable, tableId: number): Promise<void> {
  await rows(
    db,
    `update _pg_flo.tables set retries = retries + 1,
       retry_at = now() + interval '1 minute' * 2 ^ least(retries, ${RETRY_DOUBLINGS_MAX})
     where table_id = $1 and state = 'error'`,
    [tableId],
  );
}

/**
 * The table's definition changed and its files go on: stores its new columns as the next schema version, or its new
 * identity. Bound to the generation and version that the caller knows: a table that began anew meanwhile has the traces
 * of a later moment, and older ones would have it copied once more. Gives the version that holds now, or null when
 * another was quicker.
 */
export async function alterTable(
  db: Queryable,
  change: TableKey & {
    readonly schemaVersion: number;
    readonly columns?: readonly TableColumn[];
    readonly identity?: ReplicaIdentity;
    readonly traces?: DefinitionTraces | null;
  },
): Promise<number | null> {
  const altered = await row<{ schema_version: number }>(
    db,
    `with altered as (
       update _pg_flo.tables set schema_version = schema_version + case when $3::jsonb is null then 0 else 1 end,
         identity = coalesce($4::jsonb, identity), traces = coalesce($5::jsonb, traces), updated_at = now()
       where table_id = $1 and schema_version = $2 and generation = $6 returning group_name, table_id, schema_version
     ), version as (
       insert into _pg_flo.table_versions (group_name, table_id, schema_version, columns)
       select group_name, table_id, schema_version, $3::jsonb from altered where $3::jsonb is not null)
     select schema_version from altered`,
    [
      change.tableId,
      change.schemaVersion,
      change.columns ? JSON.stringify(change.columns) : null,
      change.identity ? JSON.stringify(change.identity) : null,
      change.traces ? JSON.stringify(change.traces) : null,
      change.generation,
    ],
  );
  return altered?.schema_version ?? null;
}

/**
 * Resets tables to `pending` by an event that allows it. Locks their rows before their ranges, like everywhere.
 * The rows must not be locked by this transaction in another order.
 */
export async function beginAnew(
  transaction: Queryable,
  group: string,
  tableIds: readonly number[],
  event: "copyAgain" | "configuredAgain" | "resumed",
): Promise<{ readonly tableIds: readonly number[]; readonly paths: string[] }> {
  const reset = await rows<{ table_id: string }>(
    transaction,
    `with chosen as (
       select table_id from _pg_flo.tables where group_name = $1 and table_id = any($2::bigint[]) and state = any($3)
       order by table_id for no key update)
     update _pg_flo.tables t set state = $4, generation = t.generation + 1, cut_lsn = null, copied_lsn = null,
       snapshot_lsn = null, error = null, ranges_total = null, ranges_done = 0, copy_rows = 0, copy_bytes = 0,
       change_operations = 0, change_rows = 0, change_files = 0, inexact_values = 0, inexact_columns = '{}',
       file_count = 0, file_bytes = 0, base_lsn = null, compacted_at = null, updated_at = now()
     from chosen where t.table_id = chosen.table_id returning t.table_id`,
    [group, tableIds, legalFrom(event), "pending" satisfies TableState],
  );
  const ids = reset.map((table) => Number(table.table_id));
  await rows(transaction, "delete from _pg_flo.copy_ranges where table_id = any($1::bigint[])", [ids]);
  const paths = await removeFiles(transaction, ids);
  await rows(
    transaction,
    `delete from _pg_flo.table_versions v using _pg_flo.tables t
     where t.table_id = any($1::bigint[]) and v.table_id = t.table_id and v.schema_version < t.schema_version`,
    [ids],
  );
  return { tableIds: ids, paths };
}

/** A row of `_pg_flo.tables` with its columns as the program uses it. */
export function toTable(found: TableRow): Table {
  return {
    tableId: Number(found.table_id),
    group: found.group_name,
    schema: found.schema_name,
    name: found.table_name,
    relationOid: Number(found.relation_oid),
    mode: found.mode,
    stream: found.stream,
    state: found.state,
    generation: found.generation,
    cutLsn: found.cut_lsn === null ? null : lsn(BigInt(found.cut_lsn)),
    copiedLsn: found.copied_lsn === null ? null : lsn(BigInt(found.copied_lsn)),
    snapshotLsn: found.snapshot_lsn === null ? null : lsn(BigInt(found.snapshot_lsn)),
    schemaVersion: found.schema_version,
    identity: found.identity,
    columns: found.columns,
    traces: found.traces,
    error: found.error,
    rangesTotal: found.ranges_total,
    rangesDone: found.ranges_done,
    copyRows: Number(found.copy_rows),
    copyBytes: Number(found.copy_bytes),
    changeOperations: Number(found.change_operations),
    changeRows: Number(found.change_rows),
    changeFiles: Number(found.change_files),
    inexactValues: Number(found.inexact_values),
    inexactColumns: found.inexact_columns,
    fileCount: Number(found.file_count),
    fileBytes: Number(found.file_bytes),
    retryAt: found.state === "error" ? found.retry_at : null,
    baseLsn: found.base_lsn === null ? null : lsn(BigInt(found.base_lsn)),
  };
}
