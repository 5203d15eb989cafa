// Workers and their leases. A lease is a time-limited right to a stream or a copy range; all of a worker's leases are
// renewed by its heartbeat, in one statement, by the metadata server's clock. A lease that ran out may be taken by
// anyone; what fences the old holder out is the stream's epoch, or the range's owner and attempt, never the clock.
import { PgFloError } from "../base/errors.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";

export interface Heartbeat {
  /** False: this worker was taken for dead and cleaned away. It must stop what it does and register again. */
  readonly alive: boolean;
  /** What it still holds. A stream or a range that is missing here was taken by another worker. */
  readonly streams: readonly { readonly stream: number; readonly epoch: bigint }[];
  readonly rangeIds: readonly number[];
}

export interface WorkerInfo {
  readonly workerId: string;
  readonly host: string;
  readonly pid: number;
  readonly startedAt: Date;
  readonly heartbeatAt: Date;
  /** By the metadata server's clock. */
  readonly heartbeatAgeMs: number;
  readonly figures: unknown;
}

/** Makes the worker known. Gives its id, a UUID that is never used again. */
export async function registerWorker(
  db: Queryable,
  worker: { readonly group: string; readonly host: string; readonly pid: number },
): Promise<string> {
  const added = await row<{ worker_id: string }>(
    db,
    "insert into _pg_flo.workers (group_name, host, pid) values ($1, $2, $3) returning worker_id",
    [worker.group, worker.host, worker.pid],
  );
  if (!added) throw new PgFloError("INTERNAL", `register a worker of group ${worker.group}, no row was made`);
  return added.worker_id;
}

/**
 * Says that the worker lives (every 5 s), stores its figures, and renews all its leases, the ones included that ran out
 * and that nobody took. One statement.
 */
export async function heartbeat(
  db: Queryable,
  worker: { readonly workerId: string; readonly figures: unknown; readonly leaseMs: number },
): Promise<Heartbeat> {
  const found = await row<{ streams: { stream: number; epoch: string }[] | null; ranges: string[] | null }>(
    db,
    `with alive as (
       update _pg_flo.workers set heartbeat_at = clock_timestamp(), figures = $2 where worker_id = $1
       returning worker_id, group_name, clock_timestamp() + $3 * interval '1 millisecond' as lease_until
     ), streams as (
       update _pg_flo.streams s set lease_until = alive.lease_until from alive
       where s.group_name = alive.group_name and s.owner = alive.worker_id returning s.stream, s.epoch
     ), ranges as (
       update _pg_flo.copy_ranges r set lease_until = alive.lease_until from alive
       where r.owner = alive.worker_id and r.state = 'running' returning r.range_id
     )
     select (select jsonb_agg(jsonb_build_object('stream', stream, 'epoch', epoch::text)) from streams) as streams,
            (select array_agg(range_id::text) from ranges) as ranges
     from alive`,
    [worker.workerId, JSON.stringify(worker.figures ?? {}), worker.leaseMs],
  );
  return {
    alive: found !== undefined,
    streams: (found?.streams ?? []).map(({ stream, epoch }) => ({ stream, epoch: BigInt(epoch) })),
    rangeIds: (found?.ranges ?? []).map(Number),
  };
}

/** A clean stop: gives back every lease at once, and the worker is gone. Safe to call twice. */
export async function releaseWorker(db: Queryable, workerId: string): Promise<void> {
  await transaction(db, (transaction) => removeWorkers(transaction, [workerId]));
}

export interface FreedStream {
  readonly stream: number;
  readonly slotName: string;
}

export interface ExpiredWorkers {
  readonly workerIds: readonly string[];
  readonly streams: readonly FreedStream[];
}

/**
 * Removes workers whose last heartbeat is older than a lease, and gives back what they held. Any worker does it for
 * its group. Gives the ids of the removed ones, and the streams that they had.
 */
export async function cleanExpiredWorkers(db: Queryable, group: string, leaseMs: number): Promise<ExpiredWorkers> {
  return transaction(db, async (transaction) => {
    const expired = await rows<{ worker_id: string }>(
      transaction,
      `select worker_id from _pg_flo.workers
       where group_name = $1 and heartbeat_at < clock_timestamp() - $2 * interval '1 millisecond'
       order by worker_id for update skip locked`,
      [group, leaseMs],
    );
    const ids = expired.map((worker) => worker.worker_id);
    return { workerIds: ids, streams: await removeWorkers(transaction, ids) };
  });
}

async function removeWorkers(db: Queryable, ids: readonly string[]): Promise<FreedStream[]> {
  if (ids.length === 0) return [];
  await rows(db, "delete from _pg_flo.workers where worker_id = any($1::uuid[])", [ids]);
  const streams = await rows<FreedStream>(
    db,
    `update _pg_flo.streams set owner = null, lease_until = null, updated_at = now() where owner = any($1::uuid[])
     returning stream, slot_name as "slotName"`,
    [ids],
  );
  await rows(
    db,
    `update _pg_flo.copy_ranges set state = 'pending', owner = null, lease_until = null
     where owner = any($1::uuid[]) and state = 'running'`,
    [ids],
  );
  return streams;
}

/** The workers of a group, the oldest first. */
export async function readWorkers(db: Queryable, group: string): Promise<WorkerInfo[]> {
  return rows<WorkerInfo>(
    db,
    `select worker_id as "workerId", host, pid, started_at as "startedAt", heartbeat_at as "heartbeatAt",
       (extract(epoch from clock_timestamp() - heartbeat_at) * 1000)::float8 as "heartbeatAgeMs", figures
     from _pg_flo.workers where group_name = $1 order by started_at, worker_id`,
    [group],
  );
}
