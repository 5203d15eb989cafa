// One stream: reads the log from the slot, brings transactions together in batches, makes batches durable in order.
// It only wires: what a change means is decided in change-reader and consolidate, what a file holds in batch.
//
//   read ──> open transaction ──COMMIT──> open batch ──age or size──> files ──> manifest and position ──> confirmed
//
// The next batch fills while the last one is finished; a third one makes reading wait. While a large transaction is brought
// into its batch, those that run are read on, and what commits waits. Everything up to the position is durable, and only
// the position is confirmed to the slot. A crash anywhere repeats what is above the position.
import { errorFacts } from "../base/log.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { STREAM_ABORT, STREAM_START } from "../postgres/pgoutput.ts";
import type { ReplicationConnection, ReplicationHandler } from "../postgres/replication.ts";
import type { Misfit } from "./change-events.ts";
import { ChangeReader } from "./change-reader.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import { DeferredMessages, type MessageReader } from "./deferred-messages.ts";
import { DurableBatches } from "./durable-batches.ts";
import { NewCuts } from "./new-cuts.ts";
import { OpenBatch } from "./open-batch.ts";
import type { SpilledTransaction, SpillOptions } from "./spilled-transaction.ts";
import { backlogBytes, gatheredBytes, protocolVersion, type StreamOptions, spillOptions } from "./stream-options.ts";
import { noteCommit, noteDurable, notePosition } from "./stream-state.ts";
import type { StreamTable } from "./stream-table.ts";
import { changeTables } from "./table-changes.ts";
import { TransactionIntake } from "./transaction-intake.ts";

const TICK_MS = 50;
/** How long an idle stream waits before it writes its position down: a write is WAL of its own. */
const IDLE_POSITION_MS = 10_000;

export class Stream {
  readonly #options: StreamOptions;
  readonly #connection: ReplicationConnection;
  readonly #reader: ChangeReader;
  readonly #intake: TransactionIntake;
  readonly #spill: SpillOptions;
  /** Its rows are on their way into the open batch; `#takingLarge`: until what came behind it is read, too. */
  #large: CommittedTransaction | null = null;
  #takingLarge = false;
  /** Memory of its changes, until they are spilled. */
  #largeBytes = 0;
  readonly #deferred = new DeferredMessages();
  /** Reached with the large transaction. */
  #reachedByLarge: Lsn | null = null;
  /** What reading waits for, or is done beside it. */
  #work: Promise<void> = Promise.resolve();
  #stopping = false;
  readonly #stop = new AbortController();
  readonly #durable: DurableBatches;
  readonly #open: OpenBatch;
  #reached: Lsn;
  #idleSince = 0;
  readonly #newCuts: NewCuts;
  readonly #tables: Map<number, StreamTable>;
  #ended = false;
  #failure: unknown = null;
  /** What it stopped at: everything before it is durable when `run` is done. */
  misfit: Misfit | null = null;

  /** The connection is used for this one stream, and closed at its end. */
  constructor(connection: ReplicationConnection, options: StreamOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#reached = options.position;
    options.progress.undurable.clear(); // of the run before, which are read again
    this.#tables = new Map(options.tables);
    this.#open = new OpenBatch(options);
    this.#durable = new DurableBatches({
      commits: options.commits,
      number: options.batch,
      durable: (position) => this.#confirm(position),
      committed: (durable) => noteDurable(options.progress, durable),
      encoded: (arena) => {
        if (arena === this.#reader.heldArena && !this.#reader.holding) arena.reset();
      },
      failed: (error) => this.#fail(error),
    });
    this.#spill = spillOptions(options);
    const stopping = () => this.#stopping;
    this.#intake = new TransactionIntake(options.progress, this.#spill.memoryBytes, stopping);
    this.#reader = new ChangeReader(this.#tables, options.position, {
      committed: (transaction) => this.#committed(transaction),
      reached: (position) => this.#advance(position),
      halted: (misfit) => this.end(misfit),
    });
    this.#newCuts = new NewCuts({
      tables: this.#tables,
      reader: this.#reader,
      durable: this.#durable,
      separate: () => {
        this.#close();
        return { batch: this.#open.make(), position: this.#reached };
      },
      put: (batch, transaction) => {
        if (transaction.spilled) return this.#intake.putSpilled(batch, transaction, transaction.spilled);
        this.#intake.put(batch, transaction);
        return undefined;
      },
      stopping,
    });
  }

  /** Runs until the signal, then finishes what it has read. Rejects with what ended it. */
  async run(signal: AbortSignal): Promise<void> {
    const { slot, position, publications, binary } = this.#options;
    const stop = AbortSignal.any([signal, this.#stop.signal]);
    stop.addEventListener("abort", () => {
      this.#stopping = true;
    });
    const ticker = setInterval(() => this.#tick(), TICK_MS);
    try {
      const protoVersion = protocolVersion(this.#connection.serverVersion);
      const start = { slot, protoVersion, startLsn: lsn(position + 1n), publicationNames: publications };
      await this.#connection.start({ ...start, binary, messages: true, streaming: "on" }, this.#handler(), stop);
      await this.#work;
      // With a part of a transaction in it the batch cannot be closed; it is read again.
      if (this.#failure === null && this.#large === null) this.#close();
    } catch (error) {
      this.#failure ??= error;
    } finally {
      clearInterval(ticker);
    }
    await this.#settle();
    await this.#connection.close();
    if (this.#failure !== null) throw this.#failure;
  }

  /** Other tables are registered now (by relation OID), and published already. */
  changeTables(wanted: ReadonlyMap<number, StreamTable>): void {
    this.#reader.tablesChanged(changeTables(this.#tables, wanted));
  }

  /** See NewCuts: from now on the changes of these tables (id and generation) are held. */
  awaitCut(generations: ReadonlyMap<number, number>): StreamTable[] {
    return this.#newCuts.awaitCut(generations);
  }

  /** See NewCuts: the cut of awaited tables is known. */
  cutTaken(tables: readonly StreamTable[], cut: Lsn): Promise<void> {
    return this.#newCuts.add(tables, cut);
  }

  /** Makes durable what has been read, without waiting for the flush interval. */
  flush(): void {
    this.#open.flushAsked = true;
  }

  /** Ends as by the signal. */
  end(misfit: Misfit | null = null): void {
    this.misfit ??= misfit;
    this.#stop.abort();
  }

  #handler(): ReplicationHandler {
    const read: MessageReader = {
      data: (bytes, view, start, end) => {
        if (!this.#reader.inBlock) this.#open.receivedBytes += end - start;
        this.#options.progress.receivedBytes += end - start;
        this.#reader.parse(bytes, view, start, end);
      },
      keepalive: (walEnd) => {
        // A commit record may still start at walEnd itself.
        if (!this.#reader.inTransaction && walEnd > 0n) this.#advance(lsn(walEnd - 1n));
      },
    };
    // What belongs to a transaction that runs goes there, and touches nothing that the large one needs.
    const passes = (type: number) => type === STREAM_START || type === STREAM_ABORT || this.#reader.inBlock;
    const messages = this.#deferred.reader(read, () => this.#large !== null || this.#takingLarge, passes);
    return { ...messages, chunk: () => this.#endChunk(read) };
  }

  #committed(transaction: CommittedTransaction): void {
    // The others' tuples lie in one arena, and their rows need no waiting.
    if (transaction.spilled === null && transaction.store.arena === this.#reader.arena) {
      this.#take(transaction);
      return;
    }
    this.#large = transaction;
    this.#largeBytes = transaction.store.memoryBytes;
  }

  #take(transaction: CommittedTransaction): void {
    this.#note(transaction);
    this.#intake.put(this.#open.batch, transaction);
  }

  #note({ commitLsn, commitTimeUs }: CommittedTransaction): void {
    this.#open.noteTransaction();
    noteCommit(this.#options.progress, commitLsn, commitTimeUs);
  }

  /** Brings a large transaction into the open batch, then reads what came behind it, which may be another one. */
  async #takeLarge(read: MessageReader): Promise<void> {
    this.#takingLarge = true;
    while (this.#large !== null && !this.#stopping) {
      const transaction = this.#large;
      if (transaction.spilled) await this.#takeSpilled(transaction, transaction.spilled);
      else {
        await this.#encode();
        this.#take(transaction);
        await this.#open.batch.encodePending(transaction.store.arena);
        this.#open.receivedBytes += transaction.store.arena.length;
      }
      // A stop in the middle of a spilled one leaves a part of it in the batch, which is dropped for that.
      if (this.#stopping) return;
      this.#large = null;
      this.#largeBytes = 0;
      if (this.#reachedByLarge !== null) this.#advance(this.#reachedByLarge);
      this.#reachedByLarge = null;
      await this.#newCuts.take();
      if (this.#stopping) return;
      await this.#endPiece();
      if (this.#stopping) return;
      this.#deferred.drain(read, () => this.#large === null);
    }
    this.#takingLarge = false;
  }

  async #takeSpilled(transaction: CommittedTransaction, spilled: SpilledTransaction): Promise<void> {
    await spilled.add(transaction.store);
    this.#largeBytes = 0;
    if (transaction.relations.size > 0) {
      // What came before is a batch of its own, so that a stop in the middle costs only this transaction.
      await this.#durable.all();
      if (this.#ended) return; // meanwhile, and what is open was dropped
      this.#close();
      await this.#encode();
      this.#note(transaction);
      await this.#intake.putSpilled(this.#open.batch, transaction, spilled);
      this.#open.receivedBytes += spilled.sizeBytes;
    }
    if (!this.#stopping) await spilled.release();
  }

  #advance(position: Lsn): void {
    if (this.#large !== null) this.#reachedByLarge = position; // it is not in the batch yet
    if (this.#large !== null || position <= this.#reached) return;
    this.#reached = position;
    this.#options.progress.reached = position;
  }

  /** After each piece of what was received. A promise holds reading back. */
  #endChunk(read: MessageReader): Promise<void> | undefined {
    this.#options.progress.openTransactionCount = this.#reader.openCount;
    this.#reader.release();
    if (this.#large !== null && !this.#takingLarge) this.#workOn(this.#takeLarge(read));
    if (this.#takingLarge) return this.#readOn(read);
    if (!this.#reader.holdingSpilled && !this.#reader.hasDiscarded && !this.#spillDue()) return this.#endPiece();
    return this.#workOn(this.#relieve().then(() => (this.#stopping ? undefined : this.#endPiece())));
  }

  /** While a large transaction is brought in: as long as nothing waits behind it. */
  #readOn(read: MessageReader): Promise<void> | undefined {
    if (this.#deferred.waiting) return this.#work.then(() => (this.#stopping ? undefined : this.#endChunk(read)));
    if (!this.#spillDue() && !this.#reader.hasDiscarded) return undefined;
    const taken = this.#work;
    const spilled = this.#spillAhead(taken);
    this.#workOn(spilled.finally(() => taken)); // ends when both have, whichever fails
    return spilled;
  }

  /** A disk that has no room for both may have it when the large one is durable: it is, before this fails. */
  async #spillAhead(taken: Promise<void>): Promise<void> {
    try {
      await this.#reader.releaseDiscarded(); // they may be what fills the disk
      await this.#spillOpen();
    } catch (error) {
      await taken;
      if (!this.#stopping) this.#close();
      await this.#durable.all();
      throw error;
    }
  }

  #workOn(work: Promise<void>): Promise<void> {
    work.catch((error: unknown) => this.#fail(error));
    this.#work = work;
    return work;
  }

  #spillDue(): boolean {
    return this.#openBytes > this.#options.memoryBytes || this.#backlogDue();
  }

  /** Also of the one that is brought into its batch. */
  get #openBytes(): number {
    return this.#reader.openBytes + this.#largeBytes;
  }

  #backlogDue(): boolean {
    return this.#reader.spilledBacklogBytes > backlogBytes(this.#options);
  }

  /** Spills what is too much for memory, takes cuts for which something spilled is held, drops files of aborted ones. */
  async #relieve(): Promise<void> {
    await this.#spillOpen();
    if (!this.#reader.inTransaction && !this.#stopping) await this.#newCuts.take();
    await this.#reader.releaseDiscarded();
  }

  async #spillOpen(): Promise<void> {
    if (this.#backlogDue()) await this.#reader.spillBacklog(this.#spill);
    while (this.#openBytes > this.#options.memoryBytes && !this.#stopping) {
      if (!(await this.#reader.spillLargest(this.#spill))) break;
    }
  }

  #endPiece(): Promise<void> | undefined {
    this.#takeNewCuts();
    if (this.#open.due) {
      // One batch may be on its way while the next fills; with two, reading waits.
      if (this.#durable.busy) return this.#waitAndClose();
      this.#close();
    }
    if (this.#reader.arena.length < gatheredBytes(this.#open.batch.tableCount) || this.#open.batch.pendingRows === 0) {
      this.#resetArena();
      return undefined;
    }
    return this.#encode();
  }

  async #waitAndClose(): Promise<void> {
    await this.#durable.all();
    if (this.#ended) return; // meanwhile: what is open was closed or dropped
    this.#close();
    await this.#encode();
  }

  async #encode(): Promise<void> {
    await this.#open.batch.encodePending(this.#reader.arena);
    this.#resetArena();
  }

  #takeNewCuts(): void {
    if (!this.#newCuts.waiting || this.#reader.inTransaction || this.#large || this.#reader.holdingSpilled) return;
    this.#newCuts.take();
  }

  #resetArena(): void {
    if (this.#open.batch.pendingRows === 0 && !this.#durable.encoding) this.#reader.releaseCommitted();
  }

  #tick(): void {
    if (this.#failure !== null || this.#large !== null || this.#newCuts.taking) return;
    try {
      this.#takeNewCuts();
      if (this.#durable.busy) return;
      if (this.#open.due) this.#close();
      else if (this.#open.batch.empty) this.#noteIdlePosition();
    } catch (error) {
      this.#fail(error); // thrown out of a timer it would end the process
    }
  }

  /** Closes the open batch: what comes next belongs to another one. */
  #close(): void {
    const batch = this.#open.take();
    if (batch) this.#durable.finish(batch, this.#reader.arena, this.#reached, null);
  }

  #confirm(position: Lsn): void {
    notePosition(this.#options.progress, position);
    this.#idleSince = performance.now();
    this.#connection.confirm(lsn(position + 1n));
  }

  /** Nothing was written for a while and the log went on: the position follows, so that the server keeps no WAL. */
  #noteIdlePosition(): void {
    const { progress, flushIntervalMs } = this.#options;
    const position = this.#reached;
    const waitMs = this.#open.flushAsked ? 0 : Math.min(IDLE_POSITION_MS, flushIntervalMs);
    if (position <= progress.position || this.#reader.inTransaction || performance.now() - this.#idleSince < waitMs)
      return;
    this.#open.flushAsked = false;
    this.#durable.move(position);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.end();
  }

  async #settle(): Promise<void> {
    this.#ended = true;
    this.#stopping = true; // after a failure, too: nobody needs the rest of a large transaction
    this.#newCuts.end();
    await Promise.allSettled([this.#work]);
    await this.#durable.settle().catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#reader.close();
    await this.#large?.spilled?.release();
    await this.#reader.releaseDiscarded();
    // What is left of it is an orphan; what ended the stream matters more.
    await this.#open.batch
      .abort()
      .catch((error: unknown) => this.#options.log.warn("drop the open batch", errorFacts(error)));
  }
}
