// The open batch of a stream: whole transactions, one file per table, durable at once or not at all.
// It encodes and finishes files; committing them to the manifest is the stream's.
import type { Compression } from "../base/compression.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import { streamFilePath } from "../storage/paths.ts";
import type { Storage } from "../storage/storage.ts";
import { TableFile, type TableFileResult } from "../types/table-file.ts";
import type { Arena } from "./arena.ts";
import type { ConsolidatedRows } from "./consolidate.ts";
import type { StreamRelation, StreamTable } from "./stream-table.ts";
import { PendingRows, SLICE_ROWS, streamFileColumns, TableRowEncoder } from "./table-rows.ts";
import { grown } from "./transaction-store.ts";

/**
 * Columns of files that are open at once. Each has page buffers of tens of kilobytes however few its rows, so the files
 * of a thousand tables would be gigabytes: above this a file is finished as soon as its pending rows are in it.
 */
const MAX_OPEN_COLUMNS = 2048;
/** Of the rows that are encoded in one go. */
const SLICE_BYTES = 1024 * 1024;
const SLICE_ROWS_MIN = 64;
/** Files that are finished at the same time: each has a handle and its compressed pages. */
const MAX_FINISHING_FILES = 16;

/** Postgres counts time from 2000-01-01, Unix from 1970-01-01. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

export interface BatchOptions {
  readonly group: string;
  /** `<stream>-<epoch>-<number>`: the epoch keeps a replaced worker's files apart. */
  readonly name: string;
  readonly storage: Storage;
  readonly fileSizeBytes: number;
  readonly compression: Compression;
}

export interface FinishedFile extends TableFileResult {
  readonly table: StreamTable;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  /** Inexact values by column. */
  readonly inexact: ReadonlyMap<string, number>;
}

interface TableBatch {
  readonly relation: StreamRelation;
  readonly rows: PendingRows;
  encoder: TableRowEncoder | null;
}

export class Batch implements ConsolidatedRows {
  readonly #options: BatchOptions;
  readonly #tables = new Map<StreamRelation, TableBatch>();
  #fileCount = 0;
  #openColumns = 0;
  #encoding: Promise<void> = Promise.resolve();
  readonly #finished: Promise<FinishedFile>[] = [];
  readonly #dropped: Promise<unknown>[] = [];
  /** Those of them that are not done. */
  readonly #finishing = new Set<Promise<FinishedFile>>();
  // Columns of the transactions whose rows are pending.
  #transactionCount = 0;
  #lsn = halves(256);
  #xid = halves(256);
  #timestamp = halves(256);
  #commitTime = new Date(0);
  /** Tables that must stop, with the reason. What is in their files does not count. */
  readonly failedTables = new Map<StreamTable, PgFloError>();
  /** Rows that are not encoded yet. */
  pendingRows = 0;
  /** Rows added in all. */
  rowCount = 0;
  /** Changes that they come from, or that came to nothing. */
  readonly changes = new Map<StreamTable, number>();
  /** Commit time of the first transaction, in microseconds since 2000-01-01. */
  sinceUs: bigint | null = null;

  constructor(options: BatchOptions) {
    this.#options = options;
  }

  get tableCount(): number {
    return this.#tables.size;
  }

  get empty(): boolean {
    return this.rowCount === 0 && this.changes.size === 0;
  }

  /** The next rows belong to this transaction. Time is microseconds since 2000-01-01. */
  beginTransaction(commitLsn: Lsn, xid: number, commitTimeUs: bigint): void {
    this.sinceUs ??= commitTimeUs;
    const index = this.#transactionCount++;
    if (index === this.#lsn.high.length) this.#growTransactions();
    const unixUs = commitTimeUs + POSTGRES_EPOCH_US;
    setHalves(this.#lsn, index, commitLsn);
    setHalves(this.#xid, index, BigInt(xid));
    setHalves(this.#timestamp, index, unixUs);
    this.#commitTime = new Date(Number(unixUs / 1000n));
  }

  countChanges({ table }: StreamRelation, count: number): void {
    this.changes.set(table, (this.changes.get(table) ?? 0) + count);
  }

  row(relation: StreamRelation, operation: number, newTuple: number, oldTuple: number, sequence: number): void {
    const batch = this.#tables.get(relation) ?? this.#open(relation);
    batch.rows.add(operation, newTuple, oldTuple, this.#transactionCount - 1, sequence);
    this.pendingRows++;
    this.rowCount++;
  }

  /** Encodes all pending rows, whose tuples lie in `arena`, waiting where the storage is behind. One call at a time. */
  encodePending(arena: Arena): Promise<void> {
    this.#encoding = this.#encoding.then(() => this.#encodeAll(arena));
    return this.#encoding;
  }

  async #encodeAll(arena: Arena): Promise<void> {
    const sliceRows = rowsOfSlice(arena.length / this.pendingRows);
    for (const batch of this.#tables.values()) {
      for (let from = 0; from < batch.rows.count; from += sliceRows) {
        const to = Math.min(from + sliceRows, batch.rows.count);
        const wait = this.#encode(batch, from, to, arena);
        if (wait) await wait;
      }
      batch.rows.count = 0;
      failpoint("batch.encoded");
      if (this.#openColumns > MAX_OPEN_COLUMNS) await this.#finishInTurn(batch);
    }
    this.pendingRows = 0;
    this.#transactionCount = 0;
  }

  /** Finishes every file. Pending rows must be encoded before. */
  async finish(): Promise<FinishedFile[]> {
    for (const batch of this.#tables.values()) await this.#finishInTurn(batch);
    await Promise.all(this.#dropped); // what could not be dropped is an orphan, which goes by age
    return Promise.all(this.#finished);
  }

  /** Drops every file of the batch. */
  async abort(): Promise<void> {
    await Promise.allSettled([this.#encoding]);
    for (const batch of this.#tables.values()) await batch.encoder?.file.abort();
    for (const outcome of await Promise.allSettled(this.#finished)) {
      if (outcome.status === "fulfilled") await this.#options.storage.remove(outcome.value.path);
    }
  }

  #open(relation: StreamRelation): TableBatch {
    const opened = { relation, rows: new PendingRows(), encoder: null };
    this.#tables.set(relation, opened);
    return opened;
  }

  #encode(batch: TableBatch, from: number, to: number, arena: Arena): Promise<void> | undefined {
    const transactions = { lsn: this.#lsn, xid: this.#xid, timestamp: this.#timestamp };
    const { table } = batch.relation;
    if (this.failedTables.has(table)) return undefined;
    const encoder = batch.encoder ?? this.#openFile(batch);
    let wait: Promise<void> | undefined;
    try {
      wait = encoder.encode(batch.rows, from, to, transactions, arena);
      if (table.exactOnly) encoder.refuseInexact();
    } catch (error) {
      if (!(error instanceof PgFloError) || error.action !== "stop-table") throw error;
      this.#failTable(batch, encoder, error);
      return undefined;
    }
    if (encoder.file.writer.writtenBytes >= this.#options.fileSizeBytes) this.#finishFile(batch);
    return wait;
  }

  // Only this table stops. A file of it that was finished before is refused when the batch is committed.
  #failTable(batch: TableBatch, encoder: TableRowEncoder, error: PgFloError): void {
    const { table } = batch.relation;
    this.failedTables.set(table, error);
    batch.encoder = null;
    this.#openColumns -= streamFileColumns(table).length;
    this.#dropped.push(Promise.allSettled([encoder.file.abort()]));
  }

  #openFile(batch: TableBatch): TableRowEncoder {
    const { group, name, storage, compression } = this.#options;
    const { table } = batch.relation;
    const path = streamFilePath(group, table.schema, table.name, this.#commitTime, name, this.#fileCount++);
    const columns = streamFileColumns(table);
    batch.encoder = new TableRowEncoder(batch.relation, new TableFile(storage, path, columns, compression));
    this.#openColumns += columns.length;
    return batch.encoder;
  }

  async #finishInTurn(batch: TableBatch): Promise<void> {
    this.#finishFile(batch);
    while (this.#finishing.size >= MAX_FINISHING_FILES) await Promise.race(this.#finishing);
  }

  #finishFile(batch: TableBatch): void {
    const { encoder } = batch;
    const { table } = batch.relation;
    if (!encoder) return;
    batch.encoder = null;
    this.#openColumns -= streamFileColumns(table).length;
    const { lsnStart, lsnEnd } = encoder;
    const facts = {
      kind: "stream",
      schemaVersion: table.schemaVersion,
      lsnStart,
      lsnEnd,
      columns: table.columns,
    } as const;
    const finished = encoder.file.finish(facts).then((file) => {
      failpoint("batch.file-durable");
      return { ...file, table, lsnStart, lsnEnd, inexact: encoder.inexactCounts };
    });
    this.#finished.push(finished);
    this.#finishing.add(finished);
    const done = () => this.#finishing.delete(finished);
    // The failure itself is met by finish or abort; what cannot be dropped is an orphan, which goes by age.
    finished.then(done, () => Promise.allSettled([encoder.file.abort()]).then(done));
  }

  #growTransactions(): void {
    const size = this.#lsn.high.length * 2;
    const grow = ({ high, low }: { high: Int32Array; low: Int32Array }) => ({
      high: grown(high, size),
      low: grown(low, size),
    });
    this.#lsn = grow(this.#lsn);
    this.#xid = grow(this.#xid);
    this.#timestamp = grow(this.#timestamp);
  }
}

/** So many rows that what is read again for each column is in the processor's cache, and that pages end where they should. */
function rowsOfSlice(rowBytes: number): number {
  return Math.max(SLICE_ROWS_MIN, Math.min(SLICE_ROWS, Math.floor(SLICE_BYTES / rowBytes)));
}

function halves(count: number): { high: Int32Array; low: Int32Array } {
  return { high: new Int32Array(count), low: new Int32Array(count) };
}

function setHalves(target: { high: Int32Array; low: Int32Array }, index: number, value: bigint): void {
  target.high[index] = Number(BigInt.asIntN(32, value >> 32n));
  target.low[index] = Number(BigInt.asIntN(32, value));
}
