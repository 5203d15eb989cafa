// Committing a batch of a stream: its files enter the manifest and the position moves, in one transaction, or neither.
// A batch has a number, one more than the newest: so a commit whose reply was lost can be asked for again, and is
// never done twice. It refuses everything from a worker that was replaced.
//
// A worker must not delete its files on "fenced": an earlier try of the same commit may have succeeded. What no
// manifest lists is an orphan and is removed by age.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import { filesParameter, filesRecord, type NewFile } from "./files.ts";
import { addedSql, type InexactColumns, inexactCount } from "./inexact-columns.ts";
import { type Queryable, row, transaction } from "./queryable.ts";
import { fenceValues, lockStream, readStream, type StreamFence, takeCutInside } from "./streams.ts";
import { writableStates } from "./table-state.ts";
import type { TableColumn, TableKey } from "./tables.ts";

export interface BatchTableCounters {
  readonly tableId: number;
  readonly generation: number;
  /** Changes of the log in this batch. */
  readonly operations: number;
  /** Rows written for it in this batch. Its files are counted from `files`. */
  readonly rows: number;
  readonly inexactColumns: InexactColumns;
}

export interface NewTableVersion {
  readonly tableId: number;
  readonly generation: number;
  readonly schemaVersion: number;
  readonly columns: readonly TableColumn[];
}

export interface Batch extends StreamFence {
  /** `Stream.batch` of the claim plus one; then one more for each batch. */
  readonly batch: bigint;
  /** Commit LSN of its last transaction, or a later point up to which nothing else was committed. */
  readonly position: Lsn;
  readonly files: readonly NewFile[];
  readonly tableCounters: readonly BatchTableCounters[];
  readonly newVersions: readonly NewTableVersion[];
  /**
   * Tables that get their cut with this batch, which holds their changes from the cut on that were read while the cut
   * was awaited. In one commit, because the position is already past those changes: a cut without them would lose them.
   */
  readonly cut?: { readonly tables: readonly TableKey[]; readonly lsn: Lsn };
}

export type BatchCommit =
  /** Durable. `refusedPaths`: files of tables that were removed, failed or copied again meanwhile; they do not count. */
  | { readonly result: "committed"; readonly refusedPaths: readonly string[] }
  /** Another worker owns the stream, or the batch of that number was another one. Nothing was stored: discard and stop. */
  | { readonly result: "fenced" };

// `moved` comes first and everything else reads from it, so nothing is stored when the fence does not hold; its row
// lock also makes the statement wait for another try of the same batch. Tables are locked by table_id before they are
// changed, like everywhere. Locking reads the newest version of their rows: a table that is copied again while this
// runs is not written to.
const commitStatement = `
  with moved as (
    update _pg_flo.streams set position = $6, batch = batch + 1, updated_at = now()
    where group_name = $1 and stream = $2 and owner = $3 and epoch = $4
      and batch = $5::bigint - 1 and position <= $6 and state = 'active'
    returning group_name, stream, batch
  ), given_file as (
    select new_file.* from jsonb_to_recordset($7::jsonb) as ${filesRecord}
  ), given_counter as (
    select * from jsonb_to_recordset($8::jsonb)
      as counter(table_id bigint, generation int, change_operations bigint, change_rows bigint, inexact_values bigint,
        inexact_columns jsonb)
  ), given_version as (
    select * from jsonb_to_recordset($9::jsonb)
      as version(table_id bigint, generation int, schema_version int, columns jsonb)
  ), writable as (
    select t.table_id, t.generation, t.group_name, t.schema_name, t.table_name, t.cut_lsn
    from _pg_flo.tables t join moved on t.group_name = moved.group_name and t.stream = moved.stream
    where t.state = any($10) and t.table_id in (
      select table_id from given_file union all select table_id from given_counter
      union all select table_id from given_version)
    order by t.table_id for no key update of t
  ), accepted as (
    select given_file.*, w.group_name, w.schema_name, w.table_name, w.cut_lsn
    from given_file join writable w using (table_id, generation)
  ), inserted as (
    insert into _pg_flo.files (group_name, stream, batch_id, schema_name, table_name, kind, path, schema_version,
      row_count, size_bytes, lsn_start, lsn_end, checksum)
    select a.group_name, moved.stream, moved.batch, a.schema_name, a.table_name, 'stream', a.path, a.schema_version,
      a.row_count, a.size_bytes, a.lsn_start, a.lsn_end, a.checksum
    from accepted a cross join moved
    order by a.table_id, a.lsn_start, a.path
  ), versions as (
    insert into _pg_flo.table_versions (group_name, table_id, schema_version, columns)
    select w.group_name, v.table_id, v.schema_version, v.columns
    from given_version v join writable w using (table_id, generation)
  ), counted as (
    update _pg_flo.tables t set updated_at = now(),
      change_operations = t.change_operations + coalesce(c.change_operations, 0),
      change_rows = t.change_rows + coalesce(c.change_rows, 0),
      inexact_values = t.inexact_values + coalesce(c.inexact_values, 0),
      inexact_columns = ${addedSql("t.inexact_columns", "c.inexact_columns")},
      change_files = t.change_files + coalesce(f.file_count, 0),
      file_count = t.file_count + coalesce(f.file_count, 0),
      file_bytes = t.file_bytes + coalesce(f.file_bytes, 0),
      schema_version = greatest(t.schema_version, v.schema_version)
    from writable w
      left join given_counter c using (table_id, generation)
      left join (select table_id, count(*) as file_count, sum(size_bytes) as file_bytes
                 from accepted group by table_id) f using (table_id)
      left join (select table_id, generation, max(schema_version) as schema_version
                 from given_version group by table_id, generation) v using (table_id, generation)
    where t.table_id = w.table_id
  )
  select coalesce((select array_agg(path) from given_file
                   where path not in (select path from accepted)), '{}') as refused,
    (select min(path) from accepted where lsn_start < cut_lsn) as "belowCut"
  from moved`;

/**
 * Makes a batch durable. Safe to call again with the same batch after a lost reply: it is then "committed", once.
 * INTERNAL: the position would move backward, a path or a schema version is there already.
 */
export async function commitBatch(db: Queryable, batch: Batch): Promise<BatchCommit> {
  const values = commitValues(batch);
  return transaction(db, async (transaction) => {
    if (batch.cut && !(await takeCutInside(transaction, batch, batch.cut))) return { result: "fenced" };
    const committed = await row<{ refused: string[]; belowCut: string | null }>(transaction, commitStatement, values);
    if (!committed) return explainRefusal(transaction, batch);
    if (committed.belowCut !== null) {
      // Counting it would double rows of the copy, and refusing it could lose changes: nobody may go on.
      throw new PgFloError(
        "INTERNAL",
        `commit batch ${batch.batch}, ${committed.belowCut} begins before the table's cut`,
      );
    }
    failpoint("batch.in-commit");
    return { result: "committed", refusedPaths: committed.refused };
  });
}

function commitValues(batch: Batch): unknown[] {
  const tableCounters = batch.tableCounters.map((counter) => ({
    table_id: counter.tableId,
    generation: counter.generation,
    change_operations: counter.operations,
    change_rows: counter.rows,
    inexact_values: inexactCount(counter.inexactColumns),
    inexact_columns: counter.inexactColumns,
  }));
  const newVersions = batch.newVersions.map((version) => ({
    table_id: version.tableId,
    generation: version.generation,
    schema_version: version.schemaVersion,
    columns: version.columns,
  }));
  return [
    ...fenceValues(batch),
    batch.batch.toString(),
    batch.position.toString(),
    filesParameter(batch.files),
    JSON.stringify(tableCounters),
    JSON.stringify(newVersions),
    writableStates,
  ];
}

// A statement of its own, because only a new one sees what the other try of this batch stored.
async function explainRefusal(db: Queryable, batch: Batch): Promise<BatchCommit> {
  const stream = await readStream(db, batch);
  if (!stream || stream.owner !== batch.workerId || stream.epoch !== batch.epoch) return { result: "fenced" };
  if (stream.batch === batch.batch && stream.position === batch.position) {
    // Same owner, same epoch, same run of transactions: our own earlier try. Which files it refused is not known now;
    // they are orphans and go by age.
    return { result: "committed", refusedPaths: [] };
  }
  if (stream.batch === batch.batch - 1n && stream.position !== null && stream.position > batch.position) {
    throw new PgFloError(
      "INTERNAL",
      `commit batch ${batch.batch} of stream ${batch.stream}, position would move back, ` +
        `${stream.position} to ${batch.position}`,
    );
  }
  return { result: "fenced" };
}

/**
 * After a broken connection: was the batch of this number committed under this epoch? It waits for a commit that the
 * server is still working on. To be sure that no older try arrives later, take the stream again with `claimStream`
 * and compare the number of its batch.
 */
export async function batchCommitted(
  transaction: Queryable,
  fence: StreamFence,
  batch: bigint,
): Promise<"committed" | "not-committed" | "fenced"> {
  const stream = await lockStream(transaction, fence);
  if (!stream) return "fenced";
  return stream.batch >= batch ? "committed" : "not-committed";
}
