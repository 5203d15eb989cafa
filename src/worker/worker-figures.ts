// What a worker says of itself with each heartbeat, for status and for the other workers' metrics: plain JSON, bounded
// in size, read with care (another version may have written it).

import type { WalBudget } from "../postgres/wal-budget.ts";
import type { StreamProgress } from "../stream/stream-state.ts";
import { laggingTables } from "../stream/stream-state.ts";
import type { CopyFigures } from "./copy-service.ts";
import type { StreamService } from "./stream-service.ts";

/** Tables that are named with their lag; for the others the stream's is the most that it can be. */
const LAGGING_TABLES = 200;
const POSTGRES_EPOCH_MS = 946_684_800_000;

/** What a worker does, live. */
export interface WorkerFigures {
  /** The streams that it runs now (or had at its end), by number. */
  readonly streams: readonly StreamService[];
  /** Of every stream that it ran since it joined, those included that it handed over: their counters go on. */
  readonly counted: ReadonlyMap<number, StreamProgress>;
  readonly copy: Readonly<CopyFigures>;
  /** Of the slots that it reads, by name. */
  readonly budgets: ReadonlyMap<string, WalBudget>;
}

export function heartbeatFigures({ streams, copy, budgets }: WorkerFigures): unknown {
  const { rowCount, sizeBytes, rangesDone, rangesTotal, running, parallel } = copy;
  return {
    streams: streams.flatMap(({ stream, slot, progress }) =>
      progress === null ? [] : [streamFigures(stream, progress, budgets.get(slot))],
    ),
    copy: { rowCount, sizeBytes, rangesDone, rangesTotal, running, parallel },
  };
}

function streamFigures(stream: number, progress: StreamProgress, budget: WalBudget | undefined) {
  return {
    stream,
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
  };
}

/** All streams of a worker in one. */
export interface StreamTotals {
  readonly changes: number;
  readonly rows: number;
  readonly batches: number;
  readonly openTransactions: number;
  readonly spilledTransactions: number;
  readonly spilledBytes: number;
  /** Of the one that is the furthest behind. */
  readonly lagMs: number;
}

/** Null when no stream of this worker has begun. */
export function streamTotals({ streams }: Pick<WorkerFigures, "streams">): StreamTotals | null {
  const begun = streams.flatMap(({ progress }) => (progress === null ? [] : [progress]));
  if (begun.length === 0) return null;
  const sum = (of: (progress: StreamProgress) => number) => begun.reduce((total, each) => total + of(each), 0);
  return {
    changes: sum((progress) => progress.changeCount),
    rows: sum((progress) => progress.rowCount),
    batches: sum((progress) => progress.batchCount),
    openTransactions: sum((progress) => progress.openTransactionCount),
    spilledTransactions: sum((progress) => progress.spilledTransactionCount),
    spilledBytes: sum((progress) => progress.spilledBytes),
    lagMs: Math.max(...begun.map(streamLagMs)),
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
