// Work that waits while every worker is full: said as a sentence for people, and told as an event now and then.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { readFullness, readWaitingWork, tellCapacity, type WaitingWork } from "../metadata/capacity.ts";
import type { Queryable } from "../metadata/queryable.ts";

const LOOK_MS = 60_000;
const EVENT_MINUTES = 10;

/** Null when nothing waits, or a worker has room for it. */
export function capacityNote(waiting: WaitingWork, workerCount: number, full: boolean): string | null {
  const { streams, ranges } = waiting;
  if (!full || workerCount === 0 || streams + ranges === 0) return null;
  const parts = [
    ...(streams > 0 ? [counted(streams, "stream")] : []),
    ...(ranges > 0 ? [counted(ranges, "range")] : []),
  ];
  const wait = streams + ranges === 1 ? "waits" : "wait";
  const are = workerCount === 1 ? "is" : "are";
  return `${parts.join(" and ")} ${wait}, ${counted(workerCount, "worker")} ${are} full: add a worker`;
}

/** Looks once a minute until the signal. What waits at one look alone may be taken a moment later. */
export async function watchCapacity(
  { config, db, log }: { readonly config: Config; readonly db: Queryable; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  let waitedBefore = false;
  while (!signal.aborted) {
    await systemClock.sleep(LOOK_MS, signal).catch(() => {}); // an abort ends the loop
    if (signal.aborted) return;
    try {
      const { workers, full } = await readFullness(db, config.group, config.leaseMs);
      const note = capacityNote(await readWaitingWork(db, config.group), workers, full);
      if (note !== null && waitedBefore && (await tellCapacity(db, config.group, note, EVENT_MINUTES))) log.warn(note);
      waitedBefore = note !== null;
    } catch (error) {
      if (!(error instanceof PgFloError) || error.action !== "retry") throw error;
      log.debug("what waits for workers could not be read", errorFacts(error));
    }
  }
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
