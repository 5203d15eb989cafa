// What the worker and a copier thread tell each other: plain data, because it is cloned between threads.
// Column plans hold functions, so a thread makes them itself from the source's columns and types.
import type { Compression } from "../base/compression.ts";
import type { ConnectionConfig } from "../base/connection-config.ts";
import type { ErrorCode, ErrorFacts } from "../base/errors.ts";
import type { StorageConfig } from "../base/storage-config.ts";
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import type { TableFileResult } from "../types/table-file.ts";
import type { SharedRate } from "./rate-limit.ts";

export interface CopierOptions {
  /** Connections of this thread, which are numbered from 0. */
  readonly connectionCount: number;
  readonly source: ConnectionConfig;
  readonly applicationName: string;
  readonly storage: StorageConfig;
  readonly types: ReadonlyMap<number, PgType>;
  readonly fileSizeBytes: number;
  readonly compression: Compression;
  readonly rate: SharedRate;
}

export interface CopyJob {
  readonly jobId: number;
  /** The exported name and the LSN of what it is read under. */
  readonly snapshot: string;
  readonly snapshotLsn: bigint;
  readonly group: string;
  readonly schema: string;
  readonly table: string;
  readonly schemaVersion: number;
  readonly columns: readonly SourceColumn[];
  /** A value that its column cannot hold exactly fails the range. */
  readonly exactOnly: boolean;
  /** Names of the columns with a bloom filter. */
  readonly bloomFilter: readonly string[];
  readonly rangeNumber: number;
  readonly heapOid: number;
  readonly heapSchema: string;
  readonly heapName: string;
  readonly relfilenode: number;
  readonly blockFrom: number;
  readonly blockTo: number | null;
}

export interface CopyJobResult {
  readonly files: readonly TableFileResult[];
  readonly rowCount: number;
  readonly sizeBytes: number;
  /** By column. */
  readonly inexact: Readonly<Record<string, number>>;
}

export interface ErrorData {
  readonly code: ErrorCode;
  readonly description: string;
  readonly fix: string;
  readonly facts: ErrorFacts;
}

/** What one connection is told. */
export type ToConnection = { readonly kind: "job"; readonly job: CopyJob } | { readonly kind: "end" };

export type ToCopier =
  /** Comes first. */
  | { readonly kind: "start"; readonly options: CopierOptions }
  | (ToConnection & { readonly connection: number })
  | { readonly kind: "stop" };

export type FromCopier =
  /** The connection is free for another job; also sent once it is open. */
  | { readonly kind: "ready"; readonly connection: number }
  /** Since the last one of that job. */
  | { readonly kind: "progress"; readonly jobId: number; readonly rowCount: number; readonly sizeBytes: number }
  | { readonly kind: "done"; readonly jobId: number; readonly result: CopyJobResult }
  /** The heap was rewritten since it was planned: its blocks are not the planned ones. */
  | { readonly kind: "rewritten"; readonly jobId: number }
  /** `jobId` null: the thread itself failed, and ends. */
  | { readonly kind: "failed"; readonly jobId: number | null; readonly error: ErrorData };
