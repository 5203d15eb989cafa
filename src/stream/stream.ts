// One stream: reads the log from the slot, brings transactions together in batches, makes batches durable in order.
// It only wires: what a change means is decided in change-reader and consolidate, what a file holds in batch.
//
//   read ──> open transaction ──COMMIT──> open batch ──age or size──> files ──> manifest and position ──> confirmed
//
// The next batch fills while the last one is finished; a third one makes reading wait. Everything up to the position is
// durable, and only the position is confirmed to the slot. A crash anywhere repeats what is above the position.
import { PgFloError } from "../base/errors.ts";
import { errorFacts } from "../base/log.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { PgoutputParser } from "../postgres/pgoutput.ts";
import type { ReplicationConnection, ReplicationHandler } from "../postgres/replication.ts";
import type { Arena } from "./arena.ts";
import { Batch } from "./batch.ts";
import { ChangeReader, type CommittedTransaction } from "./change-reader.ts";
import { Consolidator } from "./consolidate.ts";
import type { StreamOptions, TakenCut } from "./stream-options.ts";
import type { StreamTable } from "./stream-table.ts";

/** Pending rows are encoded above this: their tuples fit into the processor's cache, or nearly. */
const ENCODE_BYTES = 4 * 1024 * 1024;
/** With many tables more is gathered for each, up to a limit: a table's share of little would be a file of its own. */
const ENCODE_TABLE_BYTES = 64 * 1024;
const MAX_ENCODE_BYTES = 64 * 1024 * 1024;
const TICK_MS = 50;
/** How long an idle stream waits before it writes its position down: a write is WAL of its own. */
const IDLE_POSITION_MS = 10_000;

interface ClosedBatch {
  readonly batch: Batch;
  readonly arena: Arena;
  readonly number: bigint;
  readonly position: Lsn;
  readonly cut: TakenCut | null;
}

interface NewCut {
  readonly tables: readonly StreamTable[];
  readonly cut: Lsn;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Stream {
  readonly #options: StreamOptions;
  readonly #connection: ReplicationConnection;
  readonly #reader: ChangeReader;
  readonly #consolidator = new Consolidator();
  readonly #stop = new AbortController();
  #batchNumber: bigint;
  #openedCount = 0;
  #batch: Batch;
  #batchSince = 0;
  #batchBytes = 0;
  #reached: Lsn;
  /** Commit time of the open batch's first transaction. */
  #batchSinceUs = 0n;
  #idleSince = 0;
  /** Settles when every closed batch is durable; rejects with the first failure. */
  #closing: Promise<void> = Promise.resolve();
  #closingCount = 0;
  /** Closed batches whose tuples still lie in the arena. */
  #encodingCount = 0;
  #failures: Promise<void> = Promise.resolve();
  #newCuts: NewCut[] = [];
  #ended = false;
  #flushNow = false;
  #failure: unknown = null;

  /** The connection is used for this one stream, and closed at its end. */
  constructor(connection: ReplicationConnection, options: StreamOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#batchNumber = options.batch;
    this.#reached = options.position;
    this.#batch = this.#newBatch();
    this.#reader = new ChangeReader(options.tables, options.position, {
      committed: (transaction) => this.#committed(transaction),
      reached: (position) => this.#advance(position),
      tableFailed: (table, reason) => this.#tableFailed(table, definitionChanged(table, reason)),
    });
  }

  /** Runs until the signal, then finishes what it has read. Rejects with what ended it. */
  async run(signal: AbortSignal): Promise<void> {
    const { slot, position, publications, binary } = this.#options;
    const stop = AbortSignal.any([signal, this.#stop.signal]);
    const ticker = setInterval(() => this.#tick(), TICK_MS);
    try {
      const protoVersion = protocolVersion(this.#connection.serverVersion);
      const start = { slot, protoVersion, startLsn: lsn(position + 1n), publicationNames: publications };
      await this.#connection.start({ ...start, binary, messages: true }, this.#handler(), stop);
      if (this.#failure === null) this.#close();
    } catch (error) {
      this.#failure ??= error;
    } finally {
      clearInterval(ticker);
    }
    await this.#settle();
    await this.#connection.close();
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * From now on the changes of these tables are held: the slot that decides their cut is asked for after this call.
   * Given are table ids and the generation that the cut is for: a table that is copied again has a new one, and files
   * of the old would be refused.
   */
  awaitCut(generations: ReadonlyMap<number, number>): StreamTable[] {
    const tables = [...this.#options.tables.values()].filter((table) => generations.has(table.tableId));
    this.#forgetHeld(generations);
    for (const table of tables) {
      table.cut = "awaited";
      table.generation = generations.get(table.tableId)!;
    }
    return tables;
  }

  /**
   * The cut of awaited tables is known. It is stored together with the changes that were held and count, in one
   * commit: a crash before it leaves the tables without a cut, one after it has lost nothing. Rejects when the stream
   * ended before; the tables then still have no cut.
   */
  cutTaken(tables: readonly StreamTable[], cut: Lsn): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.#ended) reject(streamEnded());
    else this.#newCuts.push({ tables, cut, resolve, reject });
    return promise;
  }

  /** Makes durable what has been read, without waiting for the flush interval. */
  flush(): void {
    this.#flushNow = true;
  }

  /** A slot that could not be created is asked for once more: what was held for it is before every cut to come. */
  #forgetHeld(generations: ReadonlyMap<number, number>): void {
    const others = [...this.#options.tables.values()].some(
      ({ cut, tableId }) => cut === "awaited" && !generations.has(tableId),
    );
    if (others || this.#newCuts.length > 0) return;
    this.#reader.forgetHeld();
    if (this.#encodingCount === 0) this.#reader.heldArena.reset();
  }

  #takeCut({ tables: awaited, cut, resolve, reject }: NewCut): void {
    // A table that failed meanwhile gets no cut: its changes are dropped.
    const tables = awaited.filter((table) => table.cut === "awaited" && this.#fits(table, cut));
    for (const table of tables) table.cut = cut;
    this.#close();
    // A batch of their own: the tuples of held changes lie in another arena.
    const batch = this.#newBatch();
    for (const transaction of this.#reader.takeHeld()) {
      if (transaction.commitLsn >= cut) this.#consolidate(batch, transaction);
    }
    this.#finishBatch(batch, this.#reader.heldArena, { tables, lsn: cut }).then(resolve, reject);
  }

  #fits(table: StreamTable, cut: Lsn): boolean {
    const reason = this.#reader.takeMisfit(table, cut);
    if (reason === null) return true;
    table.cut = "unknown";
    this.#tableFailed(table, definitionChanged(table, reason));
    return false;
  }

  #handler(): ReplicationHandler {
    const reader = this.#reader;
    const parser = new PgoutputParser(reader);
    return {
      data: (bytes, view, start, end) => {
        reader.bytes = bytes;
        parser.parse(bytes, view, start, end);
        this.#batchBytes += end - start;
      },
      keepalive: (walEnd) => {
        // A commit record may still start at walEnd itself.
        if (!reader.inTransaction && walEnd > 0n) this.#advance(lsn(walEnd - 1n));
      },
      chunk: () => this.#endChunk(),
    };
  }

  #committed(transaction: CommittedTransaction): void {
    const { progress } = this.#options;
    if (this.#batch.empty) {
      this.#batchSince = performance.now();
      this.#batchSinceUs = transaction.commitTimeUs;
    }
    if (progress.changedUpTo <= progress.position) progress.waitingSinceUs = transaction.commitTimeUs;
    progress.changedUpTo = transaction.commitLsn;
    this.#consolidate(this.#batch, transaction);
  }

  #consolidate(batch: Batch, { store, commitLsn, xid, commitTimeUs }: CommittedTransaction): void {
    const { progress } = this.#options;
    const rowsBefore = batch.rowCount;
    batch.beginTransaction(commitLsn, xid, commitTimeUs);
    this.#consolidator.consolidate(store, batch);
    progress.transactionCount++;
    progress.changeCount += store.count;
    progress.rowCount += batch.rowCount - rowsBefore;
  }

  #advance(position: Lsn): void {
    if (position <= this.#reached) return;
    this.#reached = position;
    this.#options.progress.reached = position;
  }

  /** After each piece of what was received. A promise holds reading back. */
  #endChunk(): Promise<void> | undefined {
    this.#takeNewCuts();
    if (this.#batchDue()) {
      // One batch may be on its way while the next fills; with two, reading waits.
      if (this.#closingCount > 0) return this.#waitAndClose();
      this.#close();
    }
    const gathered = Math.min(MAX_ENCODE_BYTES, Math.max(ENCODE_BYTES, this.#batch.tableCount * ENCODE_TABLE_BYTES));
    if (this.#reader.arena.length < gathered || this.#batch.pendingRows === 0) {
      this.#resetArena();
      return undefined;
    }
    return this.#encode();
  }

  async #waitAndClose(): Promise<void> {
    await this.#closing;
    if (this.#ended) return; // meanwhile: what is open was closed or dropped
    this.#close();
    await this.#encode();
  }

  async #encode(): Promise<void> {
    await this.#batch.encodePending(this.#reader.arena);
    this.#resetArena();
  }

  #takeNewCuts(): void {
    if (this.#newCuts.length === 0 || this.#reader.inTransaction) return;
    for (const newCut of this.#newCuts.splice(0)) this.#takeCut(newCut);
  }

  #resetArena(): void {
    if (this.#batch.pendingRows === 0 && this.#encodingCount === 0) this.#reader.releaseCommitted();
  }

  #batchDue(): boolean {
    if (this.#batch.empty) return false;
    if (this.#flushNow) return true;
    const { flushIntervalMs, fileSizeBytes } = this.#options;
    return this.#batchBytes >= fileSizeBytes || performance.now() - this.#batchSince >= flushIntervalMs;
  }

  #tick(): void {
    if (this.#failure !== null) return;
    try {
      this.#takeNewCuts();
      if (this.#closingCount > 0) return;
      if (this.#batchDue()) this.#close();
      else if (this.#batch.empty) this.#noteIdlePosition();
    } catch (error) {
      this.#fail(error); // thrown out of a timer it would end the process
    }
  }

  /** Closes the open batch: what comes next belongs to another one. */
  #close(): void {
    const batch = this.#batch;
    this.#flushNow = false;
    if (batch.empty) return;
    this.#batch = this.#newBatch();
    this.#batchBytes = 0;
    this.#finishBatch(batch, this.#reader.arena, null);
  }

  #finishBatch(batch: Batch, arena: Arena, cut: TakenCut | null): Promise<void> {
    const number = ++this.#batchNumber;
    const position = this.#reached;
    const before = this.#closing;
    this.#closingCount++;
    this.#closing = this.#makeDurable({ batch, arena, number, position, cut }, before)
      .then(() => this.#durable(position))
      .finally(() => this.#closingCount--);
    this.#closing.catch((error: unknown) => this.#fail(error));
    return this.#closing;
  }

  async #makeDurable({ batch, arena, number, position, cut }: ClosedBatch, before: Promise<void>): Promise<void> {
    let asked = false;
    try {
      this.#encodingCount++;
      await batch.encodePending(arena).finally(() => this.#encodingCount--);
      if (arena === this.#reader.heldArena && !this.#reader.holding) arena.reset();
      const files = await batch.finish();
      for (const [table, error] of batch.failedTables) this.#tableFailed(table, error);
      await before;
      await this.#failures;
      asked = true;
      await this.#options.commits.batch(number, position, files, cut);
      this.#options.progress.batchCount++;
    } catch (error) {
      // Files of a commit whose outcome is not known must stay: they may be in the manifest. Orphans go by age.
      await Promise.allSettled([before]); // the run must not end while an earlier batch is on its way
      if (!asked) await batch.abort();
      throw toStreamError(error, number);
    }
  }

  #durable(position: Lsn): void {
    const { progress } = this.#options;
    progress.position = position;
    progress.waitingSinceUs = this.#batchSinceUs;
    this.#idleSince = performance.now();
    this.#connection.confirm(lsn(position + 1n));
  }

  /** Nothing was written for a while and the log went on: the position follows, so that the server keeps no WAL. */
  #noteIdlePosition(): void {
    const { progress, commits, flushIntervalMs } = this.#options;
    const position = this.#reached;
    const waitMs = this.#flushNow ? 0 : Math.min(IDLE_POSITION_MS, flushIntervalMs);
    if (position <= progress.position || this.#reader.inTransaction || performance.now() - this.#idleSince < waitMs)
      return;
    const number = this.#batchNumber;
    this.#flushNow = false;
    this.#closingCount++;
    // A table's failure first, as for a batch: behind the position its dropped changes would be lost unnoticed.
    this.#closing = this.#closing
      .then(() => this.#failures)
      .then(() => commits.position(number, position))
      .then(() => this.#durable(position))
      .finally(() => this.#closingCount--);
    this.#closing.catch((error: unknown) => this.#fail(error));
  }

  #tableFailed(table: StreamTable, error: PgFloError): void {
    table.cut = "unknown";
    this.#failures = this.#failures.then(() => this.#options.commits.tableFailed(table, error));
    this.#failures.catch((error: unknown) => this.#fail(error));
  }

  #newBatch(): Batch {
    const { group, stream, epoch, storage, fileSizeBytes } = this.#options;
    // Counted apart from the committed numbers: a batch is opened, and may write files, before its turn is known.
    const opened = String(++this.#openedCount).padStart(8, "0");
    return new Batch({ group, name: `${stream}-${epoch}-${opened}`, storage, fileSizeBytes });
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#stop.abort();
  }

  async #settle(): Promise<void> {
    this.#ended = true;
    for (const { reject } of this.#newCuts.splice(0)) reject(streamEnded());
    const [outcome] = await Promise.allSettled([this.#closing, this.#failures]);
    if (outcome.status === "rejected") this.#failure ??= outcome.reason;
    // What is left of it is an orphan; what ended the stream matters more.
    await this.#batch
      .abort()
      .catch((error: unknown) => this.#options.log.warn("drop the open batch", errorFacts(error)));
  }
}

function definitionChanged(table: StreamTable, reason: string): PgFloError {
  return new PgFloError("TABLE_CHANGED", `table ${table.schema}.${table.name}, definition, ${reason}`);
}

function streamEnded(): PgFloError {
  return new PgFloError("CONNECTION_LOST", "stream, cut of new tables, the stream ended before it was stored");
}

function protocolVersion(serverVersion: number): 2 | 3 | 4 {
  if (serverVersion >= 160000) return 4;
  return serverVersion >= 150000 ? 3 : 2;
}

function toStreamError(error: unknown, batch: bigint): unknown {
  if (error instanceof PgFloError) return error;
  return new PgFloError(
    "INTERNAL",
    `finish batch ${batch}, ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
    },
  );
}
