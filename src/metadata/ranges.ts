// Copy ranges: spans of heap blocks, the unit of copying and of resuming. A range is done when its files are in the
// manifest, in the same transaction. It refuses a result from a worker whose range another one took meanwhile.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { filesParameter, filesRecord, type NewFile } from "./files.ts";
import { addedSql, type InexactColumns, inexactCount } from "./inexact-columns.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { finishTable, type LockedTable, lockTable } from "./range-plans.ts";
import type { TableState } from "./table-state.ts";

export interface NewRange {
  readonly heapOid: number;
  readonly heapSchema: string;
  readonly heapName: string;
  readonly relfilenode: number;
  readonly blockFrom: number;
  /** Exclusive. Null: to the end of the heap, however far it has grown. The last range of every heap is open-ended. */
  readonly blockTo: number | null;
}

export interface ClaimedRange extends NewRange {
  readonly rangeId: number;
  readonly group: string;
  readonly tableId: number;
  readonly generation: number;
  readonly schemaVersion: number;
  /** What it is read under. */
  readonly snapshot: Lsn;
  readonly rangeNumber: number;
  readonly workerId: string;
  /** How often it was claimed; with the worker it fences out an older try. */
  readonly attempt: number;
}

/**
 * Takes one range that nobody works on, of the largest table first, those before that must be read under one snapshot; one of another worker whose lease ran out too
 * (its own this worker is reading, however late its heartbeat is). Any number of workers may ask at once: none waits for
 * another, none gets what another got. Undefined: there is none now.
 * `tableIds`: only of these tables; `snapshots`: only of tables that are read under one of these.
 */
export async function claimRange(
  db: Queryable,
  claim: {
    readonly group: string;
    readonly workerId: string;
    readonly leaseMs: number;
    readonly tableIds?: readonly number[];
    readonly snapshots?: readonly Lsn[];
  },
): Promise<ClaimedRange | undefined> {
  const claimed = await transaction(
    db,
    (transaction) =>
      row<RangeRow>(
        transaction,
        // Materialized, so that it is evaluated once: joined from the inside, each turn would lock and take another range.
        `with chosen as materialized (
           select open.range_id, t.generation, t.schema_version, t.snapshot_lsn
           from _pg_flo.copy_ranges open join _pg_flo.tables t using (table_id)
           where open.group_name = $1 and open.state <> 'done' and t.state = 'copying'
             and (open.state = 'pending' or (open.lease_until < clock_timestamp() and open.owner <> $2))
             and ($4::bigint[] is null or open.table_id = any($4))
             and ($5::bigint[] is null or t.snapshot_lsn = any($5))
             and exists (select from _pg_flo.workers where worker_id = $2)
           order by open.one_snapshot desc, open.table_blocks desc, open.table_id, open.range_number
           limit 1 for update of open skip locked)
         update _pg_flo.copy_ranges r set state = 'running', owner = $2, attempts = r.attempts + 1,
           row_count = null, size_bytes = null, lease_until = clock_timestamp() + $3 * interval '1 millisecond'
         from chosen where r.range_id = chosen.range_id
         returning r.range_id, r.group_name, r.table_id, r.range_number, r.heap_oid, r.heap_schema, r.heap_name,
           r.relfilenode, r.block_from, r.block_to, r.owner, r.attempts, chosen.generation, chosen.schema_version,
           chosen.snapshot_lsn`,
        [
          claim.group,
          claim.workerId,
          claim.leaseMs,
          claim.tableIds ?? null,
          claim.snapshots?.map((snapshot) => snapshot.toString()) ?? null,
        ],
      ),
    // Ranges were planned a moment ago and nobody analyzed the table: the planner expects a handful of them and would
    // sort all of them for each claim. The index has them in order.
    { settings: ["enable_sort = off", "enable_bitmapscan = off"] },
  );
  return claimed && toClaimedRange(claimed);
}

/** How many ranges could be claimed under these snapshots now; `most` is enough. */
export async function countOpenRanges(
  db: Queryable,
  group: string,
  snapshots: readonly Lsn[],
  most: number,
): Promise<number> {
  if (snapshots.length === 0) return 0;
  const counted = await row<{ count: number }>(
    db,
    `select count(*)::int as count from (
       select 1 from _pg_flo.copy_ranges open join _pg_flo.tables t using (table_id)
       where open.group_name = $1 and open.state <> 'done' and t.state = 'copying'
         and (open.state = 'pending' or open.lease_until < clock_timestamp()) and t.snapshot_lsn = any($2)
       limit $3) found`,
    [group, snapshots.map((snapshot) => snapshot.toString()), most],
  );
  return counted?.count ?? 0;
}

export interface RangeResult {
  readonly range: ClaimedRange;
  /** The snapshot that it was read under. */
  readonly snapshotLsn: Lsn;
  /** None for a range without a row. */
  readonly files: readonly NewFile[];
  readonly rows: number;
  /** Bytes of COPY data read. */
  readonly sizeBytes: number;
  readonly inexactColumns: InexactColumns;
}

/** `tableState`: what the table became, with its last range. */
export type RangeCompletion =
  | { readonly result: "done"; readonly tableState: TableState }
  | { readonly result: "fenced" };

/**
 * Makes a copied range durable: its files enter the manifest and it is done, or ("fenced") nothing is stored, because
 * another worker took it, or the table failed, was removed or began anew. Safe to call again after a lost reply: a
 * range whose files are in the manifest is "done". With the last range the table moves on and its ranges are deleted,
 * unless they were read under several snapshots: `completeCopy` makes one moment of them.
 */
export async function completeRange(db: Queryable, result: RangeResult): Promise<RangeCompletion> {
  return transaction(db, async (transaction) => {
    const table = await lockTable(transaction, result.range.tableId);
    if (!table) return { result: "fenced" };
    const stillOurs = table.state === "copying" && table.generation === result.range.generation;
    const finished = stillOurs && (await finishRange(transaction, result));
    if (!finished) {
      return (await inManifest(transaction, result))
        ? { result: "done", tableState: table.state }
        : { result: "fenced" };
    }
    await addCopyFiles(transaction, result, table);
    failpoint("copy.in-range-commit");
    const counted = await addCounters(transaction, result);
    if (counted.ranges_done !== counted.ranges_total || counted.several) {
      return { result: "done", tableState: table.state };
    }
    return { result: "done", tableState: await finishTable(transaction, result.range.tableId, table) };
  });
}

async function finishRange(db: Queryable, { range, rows: rowCount, sizeBytes }: RangeResult): Promise<boolean> {
  const finished = await row(
    db,
    `update _pg_flo.copy_ranges set state = 'done', owner = null, lease_until = null, row_count = $4, size_bytes = $5
     where range_id = $1 and owner = $2 and attempts = $3 and state = 'running' returning 1`,
    [range.rangeId, range.workerId, range.attempt, rowCount, sizeBytes],
  );
  return finished !== undefined;
}

// A range that was done by an earlier try has its files in the manifest under the same paths: those are never reused.
async function inManifest(db: Queryable, { range, files }: RangeResult): Promise<boolean> {
  if (files.length === 0) return false;
  const found = await row<{ count: number }>(
    db,
    "select count(*)::int as count from _pg_flo.files where group_name = $1 and path = any($2)",
    [range.group, files.map((file) => file.path)],
  );
  return found?.count === files.length;
}

async function addCopyFiles(db: Queryable, { files }: RangeResult, table: LockedTable): Promise<void> {
  if (files.length === 0) return;
  await rows(
    db,
    `insert into _pg_flo.files (group_name, stream, schema_name, table_name, kind, path, schema_version, row_count,
       size_bytes, lsn_start, lsn_end, checksum)
     select $1, $2, $3, $4, 'copy', path, schema_version, row_count, size_bytes, lsn_start, lsn_end, checksum
     from jsonb_to_recordset($5::jsonb) as ${filesRecord}`,
    [table.group_name, table.stream, table.schema_name, table.table_name, filesParameter(files)],
  );
}

interface CountedRanges {
  readonly ranges_done: number;
  readonly ranges_total: number;
  /** They were read under several snapshots, or under a later one than that of the cut. */
  readonly several: boolean;
}

async function addCounters(db: Queryable, result: RangeResult): Promise<CountedRanges> {
  const counted = await row<CountedRanges>(
    db,
    `update _pg_flo.tables set ranges_done = ranges_done + 1, copy_rows = copy_rows + $2, copy_bytes = copy_bytes + $3,
       inexact_values = inexact_values + $4, file_count = file_count + $5, file_bytes = file_bytes + $6,
       inexact_columns = ${addedSql("inexact_columns", "$7::jsonb")}, copied_lsn = greatest(copied_lsn, $8),
       updated_at = now()
     where table_id = $1 returning ranges_done, ranges_total, copied_lsn > cut_lsn as several`,
    [
      result.range.tableId,
      result.rows,
      result.sizeBytes,
      inexactCount(result.inexactColumns),
      result.files.length,
      result.files.reduce((sum, file) => sum + file.sizeBytes, 0),
      JSON.stringify(result.inexactColumns),
      result.snapshotLsn.toString(),
    ],
  );
  if (!counted) throw new PgFloError("INTERNAL", `complete range ${result.range.rangeId}, its locked table vanished`);
  return counted;
}

/** Gives a range back that was not copied (a clean stop, a lost snapshot). False: it was no longer this worker's. */
export async function releaseRange(db: Queryable, range: ClaimedRange): Promise<boolean> {
  const released = await row(
    db,
    `update _pg_flo.copy_ranges set state = 'pending', owner = null, lease_until = null
     where range_id = $1 and owner = $2 and attempts = $3 and state = 'running' returning 1`,
    [range.rangeId, range.workerId, range.attempt],
  );
  return released !== undefined;
}

/**
 * Gives back every range that a worker holds while none of its copiers runs: a claim whose reply was lost is known to
 * nobody, and its lease would be renewed for ever.
 */
export async function releaseRanges(db: Queryable, workerId: string): Promise<number> {
  const released = await rows(
    db,
    `update _pg_flo.copy_ranges set state = 'pending', owner = null, lease_until = null
     where owner = $1 and state = 'running' returning 1`,
    [workerId],
  );
  return released.length;
}

/** Ranges whose lease ran out are pending again (`claimRange` takes them anyway; this is so that status says so). */
export async function resetRangesOfLostWorkers(db: Queryable, group: string): Promise<number> {
  const reset = await rows(
    db,
    `update _pg_flo.copy_ranges set state = 'pending', owner = null, lease_until = null
     where range_id in (
       select range_id from _pg_flo.copy_ranges
       where group_name = $1 and state = 'running' and lease_until < clock_timestamp() for update skip locked)
     returning 1`,
    [group],
  );
  return reset.length;
}

export interface RemainingRanges {
  readonly tableId: number;
  readonly generation: number;
  /** Null: still to be planned. */
  readonly rangesTotal: number | null;
  readonly pending: number;
  readonly running: number;
}

/** Every table that is being copied and what is left of it, the largest first. */
export async function remainingRanges(db: Queryable, group: string): Promise<RemainingRanges[]> {
  const found = await rows<Omit<RemainingRanges, "tableId"> & { tableId: string }>(
    db,
    `select t.table_id as "tableId", t.generation, t.ranges_total as "rangesTotal",
       count(*) filter (where r.state = 'pending')::int as pending,
       count(*) filter (where r.state = 'running')::int as running
     from _pg_flo.tables t left join _pg_flo.copy_ranges r on r.table_id = t.table_id and r.state <> 'done'
     where t.group_name = $1 and t.state = 'copying'
     group by t.table_id order by max(r.table_blocks) desc nulls last, t.table_id`,
    [group],
  );
  return found.map((table) => ({ ...table, tableId: Number(table.tableId) }));
}

interface RangeRow {
  readonly range_id: string;
  readonly group_name: string;
  readonly table_id: string;
  readonly range_number: number;
  readonly heap_oid: string;
  readonly heap_schema: string;
  readonly heap_name: string;
  readonly relfilenode: string;
  readonly block_from: string;
  readonly block_to: string | null;
  readonly owner: string;
  readonly attempts: number;
  readonly generation: number;
  readonly schema_version: number;
  readonly snapshot_lsn: string;
}

function toClaimedRange(found: RangeRow): ClaimedRange {
  return {
    rangeId: Number(found.range_id),
    group: found.group_name,
    tableId: Number(found.table_id),
    generation: found.generation,
    schemaVersion: found.schema_version,
    snapshot: lsn(BigInt(found.snapshot_lsn)),
    rangeNumber: found.range_number,
    heapOid: Number(found.heap_oid),
    heapSchema: found.heap_schema,
    heapName: found.heap_name,
    relfilenode: Number(found.relfilenode),
    blockFrom: Number(found.block_from),
    blockTo: found.block_to === null ? null : Number(found.block_to),
    workerId: found.owner,
    attempt: found.attempts,
  };
}
