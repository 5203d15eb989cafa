// When `--until-caught-up` ends: every table of the group is copied, and every stream is durable beyond what was there at
// the start, whoever did it.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { readCopyNeeds } from "../metadata/snapshots.ts";
import { readStreams } from "../metadata/streams.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import type { StreamService } from "./stream-service.ts";

const POLL_MS = 50;

export interface CatchUpGoal {
  readonly db: Queryable;
  readonly group: string;
  readonly mark: Lsn;
  /** Of the source, which the mark is on. */
  readonly timeline: number;
}

/** `streams`: those that this worker runs now, which it may hurry. TABLE_FAILED: a table stopped with an error. */
export async function waitUntilCaughtUp(
  goal: CatchUpGoal,
  streams: () => readonly StreamService[],
  signal: AbortSignal,
): Promise<void> {
  const { db, group } = goal;
  let failed: Table[];
  do {
    while ((await readCopyNeeds(db, group)).length > 0) await systemClock.sleep(POLL_MS, signal);
    const tables = await readTables(db, group);
    while (!(await allDurable(goal, tables, streams()))) await systemClock.sleep(POLL_MS, signal);
    failed = (await readTables(db, group)).filter((table) => table.state === "error");
    // Their definitions are about to be read again, and these tables to be copied with them.
  } while (
    failed.some((table) => table.error?.code === "TABLE_CHANGED") ||
    (await readCopyNeeds(db, group)).length > 0
  );
  if (failed.length > 0) {
    const names = failed.map((table) => `${table.schema}.${table.name}`).join(", ");
    throw new PgFloError("TABLE_FAILED", `${failed.length} table(s), state, error: ${names}`, {
      fix: "see pg-flo status for the cause of each",
    });
  }
}

async function allDurable(
  { db, group, mark, timeline: source }: CatchUpGoal,
  tables: readonly Table[],
  running: readonly StreamService[],
): Promise<boolean> {
  let durable = true;
  for (const { stream, position, timeline } of await readStreams(db, group)) {
    const goal = goalOf(stream, mark, tables);
    // After a failover a position may be ahead of the new primary's log, until its stream has looked at that.
    if (position !== null && position >= goal - 1n && timeline === source) continue;
    durable = false;
    const own = running.find((service) => service.stream === stream);
    if (own?.progress && own.progress.reached >= goal - 1n) own.flush();
  }
  return durable;
}

/** What was copied under a later snapshot is right from that one on. */
function goalOf(stream: number, mark: Lsn, tables: readonly Table[]): Lsn {
  const snapshots = tables.flatMap((table) =>
    table.stream === stream && table.snapshotLsn ? [table.snapshotLsn] : [],
  );
  return snapshots.reduce((most, snapshot) => (snapshot > most ? snapshot : most), mark);
}
