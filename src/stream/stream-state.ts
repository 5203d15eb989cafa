// What a stream has read and made durable; plain numbers that status, metrics and --until-caught-up read.
import type { Lsn } from "../base/lsn.ts";

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
}

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
  };
}
