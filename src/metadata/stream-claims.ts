// What a worker must know to decide which streams it takes or hands over: one statement, asked again and again.
import { type Queryable, row } from "./queryable.ts";
import type { StreamFence } from "./streams.ts";
import { fenceValues } from "./streams.ts";

export interface ClaimSurvey {
  readonly streams: readonly {
    readonly stream: number;
    readonly owner: string | null;
    /** Nobody owns it, or its lease ran out. */
    readonly free: boolean;
  }[];
  /** Workers whose heartbeat is younger than a lease. */
  readonly workers: readonly string[];
}

/** One moment, by the metadata server's clock. */
export async function surveyClaims(db: Queryable, group: string, leaseMs: number): Promise<ClaimSurvey> {
  const found = await row<{ streams: ClaimSurvey["streams"] | null; workers: string[] | null }>(
    db,
    `select
       (select jsonb_agg(jsonb_build_object('stream', stream, 'owner', owner,
          'free', owner is null or lease_until < clock_timestamp()) order by stream)
        from _pg_flo.streams where group_name = $1) as streams,
       (select array_agg(worker_id::text order by started_at, worker_id) from _pg_flo.workers
        where group_name = $1 and heartbeat_at > clock_timestamp() - $2 * interval '1 millisecond') as workers`,
    [group, leaseMs],
  );
  return { streams: found?.streams ?? [], workers: found?.workers ?? [] };
}

/** Whether the fence holds now. */
export async function holdsStream(db: Queryable, fence: StreamFence): Promise<boolean> {
  const held = await row(
    db,
    "select 1 from _pg_flo.streams where group_name = $1 and stream = $2 and owner = $3 and epoch = $4",
    fenceValues(fence),
  );
  return held !== undefined;
}
