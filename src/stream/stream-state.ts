// What a stream has read and made durable; plain numbers that status, metrics and --until-caught-up read.
import type { Lsn } from "../base/lsn.ts";
import { noteSize, type SizeHistogram, sizeHistogram } from "../base/size-histogram.ts";
import type { StreamTable } from "./stream-table.ts";

/** A batch that is not durable: its changes by table, and the commit time of its first transaction. */
export interface UndurableBatch {
  readonly changes: ReadonlyMap<StreamTable, number>;
  readonly sinceUs: bigint | null;
}

export interface StreamProgress {
  /** Every transaction with a commit LSN up to it has been read. */
  reached: Lsn;
  /** Every transaction with a commit LSN up to it is durable. */
  position: Lsn;
  /** Commit LSN of the newest transaction with changes for us, and the commit time of the oldest that is not durable. */
  changedUpTo: Lsn;
  waitingSinceUs: bigint;
  transactionCount: number;
  /** Changes as the log had them, and rows after consolidation. */
  changeCount: number;
  rowCount: number;
  batchCount: number;
  /** Transactions that the server streams to us while they run. */
  openTransactionCount: number;
  /** Transactions that were too large for memory, and the bytes that were written for them. */
  spilledTransactionCount: number;
  spilledBytes: number;
  /** Of pgoutput, as the server sent them. */
  receivedBytes: number;
  /** Of durable batches. */
  fileCount: number;
  fileBytes: number;
  /** Changes of each transaction; rows, bytes and milliseconds of each batch, from its closing until it was durable. */
  readonly transactionChanges: SizeHistogram;
  readonly batchRows: SizeHistogram;
  readonly batchBytes: SizeHistogram;
  readonly batchMs: SizeHistogram;
  /** The open batch and those on their way. */
  readonly undurable: Set<UndurableBatch>;
}

const COUNTS = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];
const BYTES = [1e3, 1e4, 1e5, 1e6, 1e7, 5e7, 1e8, 2e8, 5e8, 1e9];
const MILLISECONDS = [10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000];

export function startProgress(position: Lsn): StreamProgress {
  return {
    reached: position,
    position,
    changedUpTo: position,
    waitingSinceUs: 0n,
    transactionCount: 0,
    changeCount: 0,
    rowCount: 0,
    batchCount: 0,
    openTransactionCount: 0,
    spilledTransactionCount: 0,
    spilledBytes: 0,
    receivedBytes: 0,
    fileCount: 0,
    fileBytes: 0,
    transactionChanges: sizeHistogram(COUNTS),
    batchRows: sizeHistogram(COUNTS),
    batchBytes: sizeHistogram(BYTES),
    batchMs: sizeHistogram(MILLISECONDS),
    undurable: new Set(),
  };
}

/** A transaction with changes for us is about to go into the open batch. */
export function noteCommit(progress: StreamProgress, commitLsn: Lsn, commitTimeUs: bigint): void {
  if (progress.changedUpTo <= progress.position) progress.waitingSinceUs = commitTimeUs;
  progress.changedUpTo = commitLsn;
  progress.transactionCount++;
}

export interface DurableBatch {
  readonly batch: UndurableBatch;
  readonly files: readonly { readonly rowCount: number; readonly sizeBytes: number }[];
  /** From its closing until now. */
  readonly tookMs: number;
}

export function noteDurable(progress: StreamProgress, { batch, files, tookMs }: DurableBatch): void {
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  progress.undurable.delete(batch);
  progress.batchCount++;
  progress.fileCount += files.length;
  progress.fileBytes += sizeBytes;
  noteSize(
    progress.batchRows,
    files.reduce((sum, file) => sum + file.rowCount, 0),
  );
  noteSize(progress.batchBytes, sizeBytes);
  noteSize(progress.batchMs, tookMs);
}

/** Everything up to the position is durable. */
export function notePosition(progress: StreamProgress, position: Lsn): void {
  progress.position = position;
  let oldestUs: bigint | null = null;
  for (const { sinceUs } of progress.undurable) {
    if (sinceUs !== null && (oldestUs === null || sinceUs < oldestUs)) oldestUs = sinceUs;
  }
  if (oldestUs !== null) progress.waitingSinceUs = oldestUs;
}

/** Tables with changes that are not durable, and since when: the first commit of the oldest batch with changes of theirs. */
export function laggingTables({ undurable }: StreamProgress): Map<StreamTable, bigint> {
  const since = new Map<StreamTable, bigint>();
  for (const { changes, sinceUs } of undurable) {
    if (sinceUs === null) continue;
    for (const table of changes.keys()) {
      const known = since.get(table);
      if (known === undefined || sinceUs < known) since.set(table, sinceUs);
    }
  }
  return since;
}
