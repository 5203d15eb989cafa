// Work that nobody does: streams without a live owner, ranges that wait; and how far the ranges are that are being read.
import { type Queryable, row, rows, transaction } from "./queryable.ts";

export interface WaitingWork {
  readonly streams: number;
  readonly ranges: number;
}

/** By the metadata server's clock. */
export async function readWaitingWork(db: Queryable, group: string): Promise<WaitingWork> {
  const found = await row<WaitingWork>(
    db,
    `select
       (select count(*)::int from _pg_flo.streams
        where group_name = $1 and state <> 'lost' and (owner is null or lease_until < clock_timestamp())) as streams,
       (select count(*)::int from _pg_flo.copy_ranges r join _pg_flo.tables t using (table_id)
        where r.group_name = $1 and r.state <> 'done' and t.state = 'copying'
          and (r.state = 'pending' or r.lease_until < clock_timestamp())) as ranges`,
    [group],
  );
  return found ?? { streams: 0, ranges: 0 };
}

/** Workers whose heartbeat is younger than a lease, and whether all of them copy as many ranges as they may. */
export async function readFullness(
  db: Queryable,
  group: string,
  leaseMs: number,
): Promise<{ readonly workers: number; readonly full: boolean }> {
  const found = await row<{ workers: number; full: boolean | null }>(
    db,
    `select count(*)::int as workers,
       bool_and(coalesce((figures #>> '{copy,running}')::int >= (figures #>> '{copy,parallel}')::int, false)) as full
     from _pg_flo.workers
     where group_name = $1 and heartbeat_at > clock_timestamp() - $2 * interval '1 millisecond'`,
    [group, leaseMs],
  );
  return { workers: found?.workers ?? 0, full: found?.full ?? false };
}

/** Tells it as an event, unless it was told within the last minutes, by whichever worker. */
export async function tellCapacity(
  db: Queryable,
  group: string,
  message: string,
  everyMinutes: number,
): Promise<boolean> {
  return transaction(db, async (transaction) => {
    // Workers take turns by the group's row: two of them would tell the same.
    await rows(transaction, "select 1 from _pg_flo.groups where name = $1 for no key update", [group]);
    const told = await row(
      transaction,
      `insert into _pg_flo.events (group_name, severity, code, subject, message)
       select $1, 'warning', 'CAPACITY', 'workers', $2
       where not exists (select from _pg_flo.events where group_name = $1 and code = 'CAPACITY'
         and at > clock_timestamp() - $3 * interval '1 minute')
       returning 1`,
      [group, message, everyMinutes],
    );
    return told !== undefined;
  });
}

export interface RangeProgress {
  readonly rangeId: number;
  readonly attempt: number;
  readonly rowCount: number;
  readonly sizeBytes: number;
}

/** How far a worker is with the ranges that it reads now. Those that it lost meanwhile are left alone. */
export async function storeProgress(
  db: Queryable,
  workerId: string,
  progress: readonly RangeProgress[],
): Promise<void> {
  if (progress.length === 0) return;
  await rows(
    db,
    `update _pg_flo.copy_ranges r set row_count = given.row_count, size_bytes = given.size_bytes
     from unnest($2::bigint[], $3::int[], $4::bigint[], $5::bigint[]) given(range_id, attempts, row_count, size_bytes)
     where r.range_id = given.range_id and r.owner = $1 and r.attempts = given.attempts and r.state = 'running'`,
    [
      workerId,
      progress.map(({ rangeId }) => rangeId),
      progress.map(({ attempt }) => attempt),
      progress.map(({ rowCount }) => rowCount),
      progress.map(({ sizeBytes }) => sizeBytes),
    ],
  );
}

/** What has been read of ranges that are not done, by table. */
export async function readRunningProgress(
  db: Queryable,
  group: string,
): Promise<Map<number, { readonly rows: number; readonly bytes: number }>> {
  const found = await rows<{ tableId: string; rows: string; bytes: string }>(
    db,
    `select table_id as "tableId", coalesce(sum(row_count), 0) as rows, coalesce(sum(size_bytes), 0) as bytes
     from _pg_flo.copy_ranges where group_name = $1 and state = 'running' group by 1`,
    [group],
  );
  return new Map(
    found.map(({ tableId, ...read }) => [Number(tableId), { rows: Number(read.rows), bytes: Number(read.bytes) }]),
  );
}
