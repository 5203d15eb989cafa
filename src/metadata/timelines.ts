// The timeline of the source that a stream's position is on. A standby that is promoted begins a new one, at a point that
// may lie before what is durable here: then it lacks transactions that the files have.
import type { Lsn } from "../base/lsn.ts";
import { lsn } from "../base/lsn.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { lockStream, type StreamFence } from "./streams.ts";

export type TimelineMove =
  /** Everything durable lies before the new timeline's start. `position` may have gone back to it: nothing was there. */
  | { readonly result: "moved"; readonly position: Lsn }
  /** Files or cuts of this LSN come from a log that the new timeline does not have. Nothing was changed. */
  | { readonly result: "diverged"; readonly lsn: Lsn }
  | { readonly result: "fenced" };

/** The first timeline that is known of the stream. False: fenced. */
export async function setTimeline(db: Queryable, fence: StreamFence, timeline: number): Promise<boolean> {
  return transaction(db, async (transaction) => {
    if (!(await lockStream(transaction, fence))) return false;
    await store(transaction, fence, timeline, null);
    return true;
  });
}

/**
 * The source is on another timeline now, which has the old one's log up to `start` (its next record begins there).
 * The position follows without a new copy only when nothing that is durable comes from behind it.
 */
export async function moveToTimeline(
  db: Queryable,
  fence: StreamFence,
  next: { readonly timeline: number; readonly start: Lsn },
): Promise<TimelineMove> {
  return transaction(db, async (transaction) => {
    const stream = await lockStream(transaction, fence);
    if (!stream || stream.position === null) return { result: "fenced" };
    const { timeline, start } = next;
    // A transaction counts with its commit record, which begins at its LSN; a snapshot or a cut sees what is before it.
    const found = await row<{ furthest: string | null }>(
      transaction,
      `select max(lsn)::text as furthest from (
         select lsn_end + (kind = 'stream')::int as lsn from _pg_flo.files where group_name = $1
         union all select greatest(cut_lsn, copied_lsn) from _pg_flo.tables where group_name = $1 and state <> 'removed') as known`,
      [fence.group],
    );
    const furthest = BigInt(found?.furthest ?? 0);
    if (furthest > start) return { result: "diverged", lsn: lsn(furthest) };
    const position = stream.position < start ? stream.position : lsn(start - 1n);
    await store(transaction, fence, timeline, position);
    return { result: "moved", position };
  });
}

async function store(db: Queryable, fence: StreamFence, timeline: number, position: Lsn | null): Promise<void> {
  await rows(
    db,
    `update _pg_flo.streams set timeline = $3, position = coalesce($4, position), updated_at = now()
     where group_name = $1 and stream = $2`,
    [fence.group, fence.stream, timeline, position?.toString() ?? null],
  );
}
