// What a worker says of itself with each heartbeat, for status and for the other workers' metrics: plain JSON, bounded
// in size, read with care (another version may have written it).
import type { StreamProgress } from "../stream/stream-state.ts";
import { laggingTables } from "../stream/stream-state.ts";
import { STREAM } from "./discovery.ts";
import type { WorkerFigures } from "./worker.ts";

/** Tables that are named with their lag; for the others the stream's is the most that it can be. */
const LAGGING_TABLES = 200;
const POSTGRES_EPOCH_MS = 946_684_800_000;

export function heartbeatFigures({ stream: { progress }, copy, budgets }: WorkerFigures): unknown {
  const [budget] = budgets.values();
  const { rowCount, sizeBytes, rangesDone, rangesTotal } = copy;
  return {
    streams: progress && [
      {
        stream: STREAM,
        position: progress.position.toString(),
        reached: progress.reached.toString(),
        lagMs: streamLagMs(progress),
        transactions: progress.transactionCount,
        changes: progress.changeCount,
        rows: progress.rowCount,
        batches: progress.batchCount,
        files: progress.fileCount,
        fileBytes: progress.fileBytes,
        receivedBytes: progress.receivedBytes,
        openTransactions: progress.openTransactionCount,
        spilledTransactions: progress.spilledTransactionCount,
        spilledBytes: progress.spilledBytes,
        ...(budget && {
          walBytesPerSecond: budget.writtenBytesPerSecond,
          burnBytesPerSecond: budget.growthBytesPerSecond,
          walTimeLeftMs: budget.timeLeftMs,
        }),
        ...laggingFigures(progress),
      },
    ],
    copy: { rowCount, sizeBytes, rangesDone, rangesTotal },
  };
}

/** `lagging`: milliseconds by table id, the longest first; `laggingCount`: how many there are. */
function laggingFigures(progress: StreamProgress) {
  const lags = [...tableLags(progress)].sort((left, right) => right[1] - left[1]);
  return { laggingCount: lags.length, lagging: Object.fromEntries(lags.slice(0, LAGGING_TABLES)) };
}

/** By table id, of the tables that have changes that are read and not durable. */
export function tableLags(progress: StreamProgress): Map<number, number> {
  return new Map([...laggingTables(progress)].map(([{ tableId }, sinceUs]) => [tableId, ageMs(sinceUs)]));
}

/** Age of the oldest commit with changes that is read and not durable; 0 when there is none. */
export function streamLagMs(progress: StreamProgress): number {
  return progress.changedUpTo <= progress.position ? 0 : ageMs(progress.waitingSinceUs);
}

/** By the clocks of both machines: never below 0. Time is microseconds since 2000-01-01. */
function ageMs(commitTimeUs: bigint): number {
  return Math.max(0, Date.now() - (POSTGRES_EPOCH_MS + Number(commitTimeUs / 1000n)));
}
