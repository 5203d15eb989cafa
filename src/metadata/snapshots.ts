// Snapshots of the source that workers hold for the copy: which are needed, who holds them under which name, and which
// one a table's remaining ranges are read under. A worker's snapshots are forgotten with its row.
import type { Lsn } from "../base/lsn.ts";
import { lsn } from "../base/lsn.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { lockStream, type StreamFence, type StreamKey } from "./streams.ts";
import type { TableKey } from "./tables.ts";

export interface RegisteredSnapshot {
  readonly group: string;
  readonly workerId: string;
  readonly lsn: Lsn;
  /** What `SET TRANSACTION SNAPSHOT` takes at the source. */
  readonly name: string;
}

/** Others may import it from now on. False: the worker was taken for dead, nobody learns of it. */
export async function registerSnapshot(db: Queryable, snapshot: RegisteredSnapshot): Promise<boolean> {
  const added = await row(
    db,
    `insert into _pg_flo.snapshots (group_name, worker_id, lsn, snapshot_name)
     select $1, worker_id, $3, $4 from _pg_flo.workers where worker_id = $2 for key share
     on conflict (worker_id, lsn) do update set snapshot_name = excluded.snapshot_name
     returning 1`,
    [snapshot.group, snapshot.workerId, snapshot.lsn.toString(), snapshot.name],
  );
  return added !== undefined;
}

/** The worker no longer holds it. */
export async function forgetSnapshot(db: Queryable, workerId: string, snapshot: Lsn): Promise<void> {
  await rows(db, "delete from _pg_flo.snapshots where worker_id = $1 and lsn = $2", [workerId, snapshot.toString()]);
}

export interface CopyNeed {
  /** Null for copy-only tables. */
  readonly stream: number | null;
  /** Null: these tables wait for their cut. */
  readonly snapshot: Lsn | null;
  readonly tables: number;
  /** Of these, without ranges yet. */
  readonly unplanned: number;
  readonly rangesLeft: number;
  /** Of these, with every range done: read under several snapshots, which must become one moment. */
  readonly copied: number;
  /** For how long a worker of those that live has held it; null: none does. */
  readonly ageMs: number | null;
  /** Under which the workers hold it, the newest first. */
  readonly names: readonly { readonly workerId: string; readonly name: string }[];
}

/** What is left to copy, by stream and snapshot. Cheap: every worker asks again and again. */
export async function readCopyNeeds(db: Queryable, group: string): Promise<CopyNeed[]> {
  const found = await rows<{
    stream: number | null;
    snapshot: string | null;
    tables: number;
    unplanned: number;
    rangesLeft: number;
    copied: number;
    ageMs: number | null;
    names: CopyNeed["names"] | null;
  }>(
    db,
    `select stream, snapshot_lsn as snapshot, tables, unplanned, left_over as "rangesLeft", copied,
       (select jsonb_agg(jsonb_build_object('workerId', s.worker_id, 'name', s.snapshot_name) order by s.created_at desc)
        from _pg_flo.snapshots s where s.group_name = $1 and s.lsn = needed.snapshot_lsn) as names,
       (select (extract(epoch from clock_timestamp() - min(s.created_at)) * 1000)::float8
        from _pg_flo.snapshots s where s.group_name = $1 and s.lsn = needed.snapshot_lsn) as "ageMs"
     from (
       select stream, snapshot_lsn, count(*)::int as tables, count(*) filter (where ranges_total is null)::int as unplanned,
         coalesce(sum(ranges_total - ranges_done), 0)::int as left_over,
         count(*) filter (where ranges_done = ranges_total)::int as copied
       from _pg_flo.tables where group_name = $1 and state in ('pending', 'copying') group by 1, 2) needed
     order by 1, 2`,
    [group],
  );
  return found.map(({ snapshot, names, ...need }) => ({
    ...need,
    snapshot: snapshot === null ? null : lsn(BigInt(snapshot)),
    names: names ?? [],
  }));
}

/** Tables of a stream that are copied under one of these snapshots and may go on under another. */
export async function movableTables(
  db: Queryable,
  { group, stream }: StreamKey,
  snapshots: readonly Lsn[],
): Promise<ReadonlySet<number>> {
  if (snapshots.length === 0) return new Set();
  const found = await rows<{ table_id: string }>(
    db,
    `select table_id from _pg_flo.tables t
     where group_name = $1 and stream = $2 and state = 'copying' and ranges_total is not null
       and snapshot_lsn = any($3::bigint[])
       and not exists (select from _pg_flo.copy_ranges r where r.table_id = t.table_id and r.one_snapshot)`,
    [group, stream, snapshots.map((snapshot) => snapshot.toString())],
  );
  return new Set(found.map((table) => Number(table.table_id)));
}

/**
 * Tables whose copy was begun under a snapshot that is lost, or let go, go on under this one. Only the owner of the stream may say
 * so. Gives the ids of those that were still being copied, or "fenced".
 */
export async function moveToSnapshot(
  db: Queryable,
  fence: StreamFence,
  move: { readonly tables: readonly TableKey[]; readonly snapshot: Lsn },
): Promise<readonly number[] | "fenced"> {
  if (move.tables.length === 0) return [];
  return transaction(db, async (transaction) => {
    if (!(await lockStream(transaction, fence))) return "fenced";
    const moved = await rows<{ table_id: string }>(
      transaction,
      `with chosen as (
         select table_id from _pg_flo.tables join unnest($2::bigint[], $3::int[]) given(table_id, generation)
           using (table_id, generation)
         where group_name = $1 and state = 'copying' order by table_id for no key update)
       update _pg_flo.tables t set snapshot_lsn = $4, updated_at = now()
       from chosen where t.table_id = chosen.table_id returning t.table_id`,
      [
        fence.group,
        move.tables.map(({ tableId }) => tableId),
        move.tables.map(({ generation }) => generation),
        move.snapshot.toString(),
      ],
    );
    return moved.map((table) => Number(table.table_id));
  });
}
