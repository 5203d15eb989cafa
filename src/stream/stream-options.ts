// What a stream is given: where it reads and writes, and what makes its work durable.
import type { Compression } from "../base/compression.ts";
import type { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Storage } from "../storage/storage.ts";
import type { FinishedFile } from "./batch.ts";
import type { SpillOptions } from "./spilled-transaction.ts";
import type { StreamProgress } from "./stream-state.ts";
import type { StreamTable } from "./stream-table.ts";

/** What makes a stream's work durable; the worker binds it to the fence of its lease. */
export interface StreamCommits {
  /**
   * Files into the manifest and the position moved, at once, and the cut of awaited tables with them.
   * `changes`: by table, what the log told, also where nothing is left of it. Retries by itself; rejects when it was
   * fenced out.
   */
  batch(
    number: bigint,
    position: Lsn,
    files: readonly FinishedFile[],
    cut: TakenCut | null,
    changes: ReadonlyMap<StreamTable, number>,
  ): Promise<void>;
  /** The position of an idle stream. */
  position(batch: bigint, position: Lsn): Promise<void>;
  /** A table stops, for TABLE_CHANGED or TABLE_FAILED; durable before this batch and any later one is. */
  tableFailed(table: StreamTable, error: PgFloError): Promise<void>;
}

export interface TakenCut {
  readonly tables: readonly StreamTable[];
  readonly lsn: Lsn;
}

export interface StreamOptions {
  readonly group: string;
  readonly stream: number;
  readonly epoch: bigint;
  readonly slot: string;
  readonly publications: readonly string[];
  readonly position: Lsn;
  /** Number of the newest committed batch. */
  readonly batch: bigint;
  /** By relation OID, when it begins. A table's `cut` is changed by `cutTaken`. */
  readonly tables: ReadonlyMap<number, StreamTable>;
  readonly binary: boolean;
  readonly storage: Storage;
  readonly flushIntervalMs: number;
  readonly fileSizeBytes: number;
  readonly compression: Compression;
  /** Of all transactions that are under way. Above it the largest is spilled. */
  readonly memoryBytes: number;
  readonly spillFolder: string;
  readonly commits: StreamCommits;
  readonly progress: StreamProgress;
  readonly log: Log;
}

/** Pending rows are encoded above this: their tuples fit into the processor's cache, or nearly. */
const ENCODE_BYTES = 4 * 1024 * 1024;
/** With many tables more is gathered for each, up to a limit: a table's share of little would be a file of its own. */
const ENCODE_TABLE_BYTES = 64 * 1024;
const MAX_ENCODE_BYTES = 64 * 1024 * 1024;
/** What of a spilled transaction gathers in memory until it is written; with what comes at once the arena keeps its size. */
const SPILL_BYTES = 8 * 1024 * 1024;

/** Pending rows are encoded above this. */
export function gatheredBytes(tableCount: number): number {
  return Math.min(MAX_ENCODE_BYTES, Math.max(ENCODE_BYTES, tableCount * ENCODE_TABLE_BYTES));
}

/** What of a spilled transaction is written above this. */
export function backlogBytes({ memoryBytes }: Pick<StreamOptions, "memoryBytes">): number {
  return Math.min(SPILL_BYTES, memoryBytes / 8);
}

/**
 * 2 to the power of it parts of a spilled transaction: with `stream.memory` as it comes one of ten gigabytes needs no part
 * to be split again, and a part of a smaller one is in the processor's cache while it is brought together.
 */
const SPILL_PART_BITS = 8;

/** A part that is read back may be as large as half of what may be open: both can be there at the same time. */
export function spillOptions({ spillFolder, memoryBytes, progress }: StreamOptions): SpillOptions {
  const written = (transactionCount: number, bytes: number) => {
    progress.spilledTransactionCount += transactionCount;
    progress.spilledBytes += bytes;
  };
  return { folder: spillFolder, partBits: SPILL_PART_BITS, memoryBytes: Math.ceil(memoryBytes / 2), written };
}

/** The newest version of pgoutput's protocol that the server speaks and we do. */
export function protocolVersion(serverVersion: number): 2 | 3 | 4 {
  if (serverVersion >= 160000) return 4;
  return serverVersion >= 150000 ? 3 : 2;
}
