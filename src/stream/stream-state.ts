// What a stream has read and made durable; plain numbers that status, metrics and --until-caught-up read.
import type { Lsn } from "../base/lsn.ts";

export interface StreamProgress {
  /** Every transaction with a commit LSN up to it has been read. */
  reached: Lsn;
  /** Every transaction with a commit LSN up to it is durable. */
  position: Lsn;
  /** Commit time of the newest durable transaction, microseconds since 2000-01-01; 0 before the first. */
  positionTimeUs: bigint;
  transactionCount: number;
  /** Changes as the log had them, and rows after consolidation. */
  changeCount: number;
  rowCount: number;
  batchCount: number;
}

export function startProgress(position: Lsn): StreamProgress {
  return {
    reached: position,
    position,
    positionTimeUs: 0n,
    transactionCount: 0,
    changeCount: 0,
    rowCount: 0,
    batchCount: 0,
  };
}
