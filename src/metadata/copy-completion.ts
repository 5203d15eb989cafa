// The end of a copy whose ranges were read under several snapshots: what makes one moment of them becomes durable, and
// the table leaves `copying`, at once. It refuses what was made for an older generation of the table or under an older
// epoch of its stream, whose files may be taken for orphans.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { filesParameter, filesRecord, type NewFile } from "./files.ts";
import { addedSql, type InexactColumns, inexactCount } from "./inexact-columns.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { finishTable, type LockedTable, lockTable } from "./range-plans.ts";
import type { StreamKey } from "./streams.ts";
import type { TableState } from "./table-state.ts";
import type { Table, TableColumn } from "./tables.ts";

export interface CopyCompletion {
  readonly stream: StreamKey & { readonly epoch: bigint };
  readonly tableId: number;
  readonly generation: number;
  /** The snapshot that it was read under, not older than that of any range. */
  readonly snapshotLsn: Lsn;
  /** Stream files of one transaction that commits at `snapshotLsn` - 1; none where nothing had to be read. */
  readonly files: readonly NewFile[];
  readonly rows: number;
  readonly inexactColumns: InexactColumns;
}

export type CompletionResult =
  | { readonly result: "done"; readonly tableState: TableState }
  /** Nothing was stored: begin again with what the metadata say now. */
  | { readonly result: "fenced" };

/** Every range is done, under several snapshots. */
export function awaitsCompletion(table: Table): boolean {
  const copied = table.state === "copying" && table.rangesTotal !== null && table.rangesDone === table.rangesTotal;
  return copied && table.cutLsn !== null && table.copiedLsn !== null && table.copiedLsn > table.cutLsn;
}

/**
 * Makes the completing files and the table's being whole durable. The stream must have reached `snapshotLsn` - 1: before
 * that the table is not right at its position. Safe to call again after a lost reply.
 */
export async function completeCopy(db: Queryable, completion: CopyCompletion): Promise<CompletionResult> {
  return transaction(db, async (transaction) => {
    const stream = await lockedStream(transaction, completion);
    if (stream === undefined) return { result: "fenced" };
    const table = await lockTable(transaction, completion.tableId);
    if (table?.generation !== completion.generation) return { result: "fenced" };
    if (table.state !== "copying" || table.ranges_done !== table.ranges_total) {
      const done = table.state === "streaming" && (await areListed(transaction, completion));
      return done ? { result: "done", tableState: table.state } : { result: "fenced" };
    }
    await addFiles(transaction, completion, table, stream.batch);
    failpoint("completion.in-commit");
    await addCounters(transaction, completion);
    return { result: "done", tableState: await finishTable(transaction, completion.tableId, table) };
  });
}

async function lockedStream(db: Queryable, completion: CopyCompletion): Promise<{ batch: string } | undefined> {
  const { stream, snapshotLsn } = completion;
  const found = await row<{ batch: string; epoch: string; position: string | null }>(
    db,
    `select batch, epoch, position from _pg_flo.streams
     where group_name = $1 and stream = $2 and state = 'active' for no key update`,
    [stream.group, stream.stream],
  );
  if (found === undefined || BigInt(found.epoch) !== stream.epoch) return undefined;
  if (found.position === null || BigInt(found.position) < snapshotLsn - 1n) {
    const at = `position ${found.position}, wanted ${snapshotLsn - 1n}`;
    throw new PgFloError("INTERNAL", `complete the copy of table ${completion.tableId}, ${at}`);
  }
  return found;
}

async function areListed(db: Queryable, { stream, files }: CopyCompletion): Promise<boolean> {
  const found = await row<{ count: number }>(
    db,
    "select count(*)::int as count from _pg_flo.files where group_name = $1 and path = any($2)",
    [stream.group, files.map((file) => file.path)],
  );
  return found?.count === files.length;
}

export async function addFiles(
  db: Queryable,
  { files, stream }: Pick<CopyCompletion, "files" | "stream">,
  table: LockedTable,
  batch: string,
): Promise<void> {
  if (files.length === 0) return;
  await rows(
    db,
    `insert into _pg_flo.files (group_name, stream, batch_id, schema_name, table_name, kind, path, schema_version,
       row_count, size_bytes, lsn_start, lsn_end, checksum)
     select $1, $2, $3, $4, $5, 'stream', path, schema_version, row_count, size_bytes, lsn_start, lsn_end, checksum
     from jsonb_to_recordset($6::jsonb) as ${filesRecord}`,
    [stream.group, stream.stream, batch, table.schema_name, table.table_name, filesParameter(files)],
  );
}

export async function addCounters(
  db: Queryable,
  {
    tableId,
    files,
    rows: rowCount,
    inexactColumns,
  }: Pick<CopyCompletion, "tableId" | "files" | "rows" | "inexactColumns">,
) {
  if (files.length === 0) return;
  await rows(
    db,
    `update _pg_flo.tables set change_rows = change_rows + $2, change_files = change_files + $3,
       file_count = file_count + $3, file_bytes = file_bytes + $4, inexact_values = inexact_values + $5,
       inexact_columns = ${addedSql("inexact_columns", "$6::jsonb")}, updated_at = now()
     where table_id = $1`,
    [
      tableId,
      rowCount,
      files.length,
      files.reduce((sum, file) => sum + file.sizeBytes, 0),
      inexactCount(inexactColumns),
      JSON.stringify(inexactColumns),
    ],
  );
}

/** What a table's changes of a span are read from. */
export interface TableChanges {
  /** By schema version. */
  readonly versions: ReadonlyMap<number, readonly TableColumn[]>;
  readonly files: readonly ChangesFile[];
}

export interface ChangesFile {
  readonly path: string;
  readonly schemaVersion: number;
  readonly sizeBytes: number;
  readonly checksum: string;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
}

/** The table's stream files that may hold transactions from its cut to before `before`. */
export async function readChanges(db: Queryable, table: Table, before: Lsn): Promise<TableChanges> {
  return transaction(
    db,
    async (snapshot) => {
      const versions = await rows<{ schema_version: number; columns: readonly TableColumn[] }>(
        snapshot,
        "select schema_version, columns from _pg_flo.table_versions where table_id = $1",
        [table.tableId],
      );
      const files = await rows<Readonly<Record<"path" | "checksum" | "size" | "start" | "end", string>> & ChangesFile>(
        snapshot,
        `select path, schema_version as "schemaVersion", size_bytes as size, checksum, lsn_start as start, lsn_end as end
         from _pg_flo.files where group_name = $1 and schema_name = $2 and table_name = $3 and kind = 'stream'
           and lsn_start < $4 and lsn_end >= $5 order by lsn_start, file_id`,
        [table.group, table.schema, table.name, before.toString(), table.cutLsn!.toString()],
      );
      return {
        versions: new Map(versions.map(({ schema_version, columns }) => [schema_version, columns])),
        files: files.map(({ path, checksum, schemaVersion, size, start, end }) => ({
          ...{ path, checksum, schemaVersion },
          sizeBytes: Number(size),
          lsnStart: lsn(BigInt(start)),
          lsnEnd: lsn(BigInt(end)),
        })),
      };
    },
    { isolation: "snapshot" },
  );
}
