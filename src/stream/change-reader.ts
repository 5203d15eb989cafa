// Parses the messages of the log and sorts each change: to its open transaction, or away. A transaction comes out whole,
// at its COMMIT, or not at all; changes of tables whose cut is awaited are held apart. One transaction at a time comes
// between Begin and Commit; any number of others is streamed, in blocks, while they run: only their COMMIT tells whether
// their changes count.
import { PgFloError } from "../base/errors.ts";
import { LSN_ZERO, type Lsn, lsn } from "../base/lsn.ts";
import { PgoutputParser } from "../postgres/pgoutput.ts";
import { OLD_NONE, type OldKind, type PgoutputHandler } from "../postgres/pgoutput-handler.ts";
import type { Relation } from "../postgres/relation.ts";
import { Arena } from "./arena.ts";
import type { ChangeReaderEvents, Misfit } from "./change-events.ts";
import {
  type CommitFacts,
  type CommittedTransaction,
  inMemory,
  isCounted,
  relationsByCuts,
  sortByCuts,
} from "./committed-transaction.ts";
import { RelationMappings } from "./relation-mappings.ts";
import { SpilledTransaction, type SpillOptions } from "./spilled-transaction.ts";
import type { RelationMapping, StreamTable } from "./stream-table.ts";
import { StreamedTransactions } from "./streamed-transactions.ts";
import { TransactionStore } from "./transaction-store.ts";

/** A streamed transaction up to this size is copied to the others. */
const COPIED_BYTES = 2 * 1024 * 1024;
const NO_BYTES = new Uint8Array(0);

export class ChangeReader implements PgoutputHandler {
  readonly arena = new Arena();
  /** Where held changes lie. */
  readonly heldArena = new Arena();
  readonly #parser = new PgoutputParser(this);
  #bytes: Uint8Array = NO_BYTES;
  readonly #events: ChangeReaderEvents;
  readonly #position: Lsn;
  readonly #store = new TransactionStore(this.arena);
  readonly #relations: RelationMappings;
  readonly #streamed = new StreamedTransactions();
  /** The open transaction's file. */
  #spilled: SpilledTransaction | null = null;
  #discarded: SpilledTransaction[] = [];
  /** The newest change of an awaited table that did not fit. */
  readonly #misfits = new Map<StreamTable, { readonly commitLsn: Lsn; readonly reason: string }>();
  #held: CommittedTransaction[] = [];
  #open = false;
  #halted = false;
  #skip = false;
  #touchesAwaited = false;
  /** Where the open transaction starts in the arena; what is before it belongs to committed ones. */
  #openStart = 0;
  #commitLsn: Lsn = LSN_ZERO;
  #xid = 0;

  /** `tables` by relation OID, see `tablesChanged`; transactions up to `position` are durable and skipped. */
  constructor(tables: ReadonlyMap<number, StreamTable>, position: Lsn, events: ChangeReaderEvents) {
    this.#relations = new RelationMappings(tables);
    this.#position = position;
    this.#events = events;
  }

  /** Parses the one message between `start` and `end`. */
  parse(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    if (this.#halted) return;
    this.#bytes = bytes;
    this.#parser.parse(bytes, view, start, end);
  }

  /** The tables of these relations are others now. Between two messages, also in the middle of a transaction. */
  tablesChanged(oids: ReadonlySet<number>): void {
    this.#relations.remap(oids, this.#streamed.told());
  }

  /** Lets go of the bytes that were parsed last: they can be hundreds of megabytes. */
  release(): void {
    this.#bytes = NO_BYTES;
    this.#parser.release();
  }

  /** Between Begin and Commit, or inside of a stream block; or it halted, and never comes out of a transaction. */
  get inTransaction(): boolean {
    return this.#halted || this.#open || this.#streamed.block !== null;
  }

  /** Inside of a stream block. */
  get inBlock(): boolean {
    return this.#streamed.block !== null;
  }

  get hasDiscarded(): boolean {
    return this.#discarded.length > 0;
  }

  /** Streamed transactions that run. */
  get openCount(): number {
    return this.#streamed.count;
  }

  /** Whether some transaction is held, and whether one of them is spilled. */
  get holding(): boolean {
    return this.#held.length > 0;
  }
  get holdingSpilled(): boolean {
    return this.#held.some(({ spilled }) => spilled !== null);
  }

  /** Memory of the transactions that are not committed. */
  get openBytes(): number {
    return this.#streamed.memoryBytes + this.#ownBytes;
  }

  get #ownBytes(): number {
    return this.#open ? this.arena.length - this.#openStart + this.#store.arrayBytes : 0;
  }

  /** What gathered in memory of the transaction that is being read, if that is spilled already. */
  get spilledBacklogBytes(): number {
    const { block } = this.#streamed;
    if (block?.spilled) return block.store.arena.length;
    return this.#spilled ? this.arena.length - this.#openStart : 0;
  }

  /** Spills the transaction that is being read. */
  async spillBacklog(options: SpillOptions): Promise<void> {
    if (this.#streamed.block) await this.#streamed.spill(this.#streamed.block, options, true);
    else await this.#spillOwn(options);
  }

  /** Spills the transaction that needs most memory. False when there is nothing to spill. */
  async spillLargest(options: SpillOptions): Promise<boolean> {
    const largest = this.#streamed.largest();
    if (this.#open && this.#store.count > 0 && this.#ownBytes > (largest?.memoryBytes ?? 0)) {
      await this.#spillOwn(options);
      return true;
    }
    if (largest) await this.#streamed.spill(largest, options, false);
    return largest !== null;
  }

  async #spillOwn(options: SpillOptions): Promise<void> {
    this.#spilled ??= await SpilledTransaction.create(options, new Set());
    await this.#spilled.add(this.#store);
    this.#store.clear();
    this.#store.firstSequence = this.#spilled.nextSequence;
    this.arena.truncateTo(this.#openStart);
  }

  /** Files of aborted transactions; their receiver releases them. */
  takeDiscarded(): SpilledTransaction[] {
    return this.#discarded.splice(0);
  }

  async releaseDiscarded(): Promise<void> {
    for (const spilled of this.takeDiscarded()) await spilled.release();
  }

  /** Forgets every transaction, also those that are held. */
  close(): void {
    this.#discarded.push(...this.#streamed.clear());
    if (this.#spilled) this.#discarded.push(this.#spilled);
    this.#spilled = null;
    this.forgetHeld();
  }

  /** Held transactions in commit order; they are forgotten here, their bytes stay until `heldArena` is reset. */
  takeHeld(): CommittedTransaction[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }

  /**
   * Why an awaited table cannot go on from this cut, or null: a change that counts did not fit its columns. One before
   * the cut is none of its changes: a log that is read again tells of definitions that the table had long ago.
   */
  takeMisfit(table: StreamTable, cut: Lsn): string | null {
    const misfit = this.#misfits.get(table);
    this.#misfits.delete(table);
    return misfit !== undefined && misfit.commitLsn >= cut ? misfit.reason : null;
  }

  /** Drops what is held: a cut that is asked for now comes after all of it. Its bytes stay as with `takeHeld`. */
  forgetHeld(): void {
    for (const { spilled } of this.#held) if (spilled) this.#discarded.push(spilled);
    this.#held = [];
  }

  /**
   * Takes the bytes before the open transaction out of the arena, when nobody needs the committed ones any more: what
   * is received ends in the middle of a transaction nearly always, so a reset between two of them may never come.
   */
  releaseCommitted(): void {
    if (!this.#open) {
      this.arena.reset();
      return;
    }
    if (this.#openStart === 0) return;
    this.arena.dropFirst(this.#openStart);
    this.#store.moveTuples(this.#openStart);
    this.#openStart = 0;
  }

  begin(finalLsn: Lsn, _commitTimeUs: bigint, xid: number): void {
    if (this.inTransaction) throw violation("a transaction begins inside of another one");
    this.#open = true;
    this.#store.clear();
    this.#openStart = this.arena.length;
    this.#commitLsn = finalLsn;
    this.#xid = xid;
    this.#skip = finalLsn <= this.#position;
    this.#touchesAwaited = false;
  }

  commit(commitLsn: Lsn, endLsn: Lsn, commitTimeUs: bigint): void {
    if (!this.#open) throw violation("a transaction ends that did not begin");
    if (commitLsn !== this.#commitLsn || endLsn <= commitLsn) throw violation("a transaction ends where it should not");
    const facts = { commitLsn, xid: this.#xid, commitTimeUs };
    this.#open = false;
    const spilled = this.#spilled;
    this.#spilled = null;
    if (spilled) this.#endSpilled(this.#store, spilled, facts);
    else if (this.#touchesAwaited) this.#endSorted(this.#store, null, facts);
    else if (this.#store.count > 0) this.#events.committed(inMemory(this.#store, facts));
    // The next commit record starts at the end of this one or later.
    if (!this.#skip) this.#events.reached(lsn(endLsn - 1n));
  }

  streamStart(xid: number): void {
    if (this.inTransaction) throw violation("a stream block begins inside of a transaction");
    this.#streamed.startBlock(xid);
  }

  streamStop(): void {
    if (!this.inBlock) throw violation("a stream block ends that did not begin");
    this.#streamed.endBlock();
  }

  streamCommit(xid: number, commitLsn: Lsn, endLsn: Lsn, commitTimeUs: bigint): void {
    const transaction = this.#streamed.get(xid);
    if (this.inTransaction || !transaction) throw violation(`transaction ${xid} ends that was not streamed`);
    if (endLsn <= commitLsn) throw violation("a transaction ends where it should not");
    this.#streamed.remove(transaction);
    for (const [oid, told] of transaction.told) this.#relations.set(oid, told);
    const { store, spilled, aborted } = transaction;
    if (commitLsn <= this.#position) {
      if (spilled) this.#discarded.push(spilled);
      return;
    }
    const facts = { commitLsn, xid, commitTimeUs };
    for (const misfit of transaction.livingMisfits()) {
      if (isCounted(misfit.table.cut, commitLsn)) this.#misfit(misfit, commitLsn);
    }
    if (this.#halted) {
      if (spilled) this.#discarded.push(spilled);
      return;
    }
    if (spilled) this.#endSpilled(store, spilled, facts);
    else this.#endSorted(store, aborted, facts);
    this.#events.reached(lsn(endLsn - 1n));
  }

  streamAbort(xid: number, subXid: number): void {
    if (this.inTransaction) throw violation(`transaction ${xid} is aborted inside of another one`);
    const transaction = this.#streamed.get(xid);
    if (!transaction) return; // nothing of it came
    if (subXid !== xid) {
      transaction.abort(subXid);
      return;
    }
    this.#streamed.remove(transaction);
    if (transaction.spilled) this.#discarded.push(transaction.spilled);
  }

  relation(relation: Relation): void {
    (this.#streamed.block?.told ?? this.#relations).set(relation.oid, this.#relations.tell(relation));
  }

  insert(relationOid: number, newStart: number, newEnd: number): void {
    const mapping = this.#mapping(relationOid);
    if (mapping === null) return;
    this.#checkTuple(mapping, newStart);
    this.#storeFor(mapping)?.insert(mapping, this.#bytes, newStart, newEnd);
  }

  update(
    relationOid: number,
    oldKind: OldKind,
    oldStart: number,
    oldEnd: number,
    newStart: number,
    newEnd: number,
  ): void {
    const mapping = this.#mapping(relationOid);
    if (mapping === null) return;
    if (oldKind !== OLD_NONE) this.#checkTuple(mapping, oldStart);
    this.#checkTuple(mapping, newStart);
    this.#storeFor(mapping)?.update(mapping, this.#bytes, oldKind, oldStart, oldEnd, newStart, newEnd);
  }

  delete(relationOid: number, _oldKind: OldKind, oldStart: number, oldEnd: number): void {
    const mapping = this.#mapping(relationOid);
    if (mapping === null) return;
    this.#checkTuple(mapping, oldStart);
    this.#storeFor(mapping)?.delete(mapping, this.#bytes, oldStart, oldEnd);
  }

  truncate(relationOids: readonly number[]): void {
    for (const oid of relationOids) {
      const mapping = this.#mapping(oid);
      if (mapping !== null) this.#storeFor(mapping)?.truncate(mapping);
    }
  }

  // What these tell is of no use here: origins and types are looked up in the catalog, messages are heartbeats.
  origin(): void {}
  type(): void {}
  message(): void {}

  #mapping(oid: number): RelationMapping | null {
    if (!this.inTransaction) throw violation(`a change of relation ${oid} came outside of a transaction`);
    const told = this.#streamed.block?.told.get(oid) ?? this.#relations.get(oid);
    if (told === undefined) throw violation(`relation ${oid} changed before it was described`);
    return told.mapping;
  }

  #checkTuple({ columnCount }: RelationMapping, at: number): void {
    const count = this.#bytes[at]! * 256 + this.#bytes[at + 1]!;
    if (count !== columnCount) throw violation(`a tuple has ${count} columns, its relation ${columnCount}`, at);
  }

  #storeFor({ relation, mismatch, message }: RelationMapping): TransactionStore | null {
    const { table } = relation;
    const { block } = this.#streamed;
    if (this.#halted) return null;
    if (block) {
      const { xid } = this.#parser;
      block.store.xid = xid;
      if (mismatch === null) return block.store;
      block.misfit(xid, { table, reason: mismatch, message });
      return null;
    }
    const { cut } = table;
    if (this.#skip || !isCounted(cut, this.#commitLsn)) return null;
    if (mismatch !== null) {
      this.#misfit({ table, reason: mismatch, message }, this.#commitLsn);
      return null;
    }
    if (cut === "awaited") this.#touchesAwaited = true;
    return this.#store;
  }

  #misfit(misfit: Misfit, commitLsn: Lsn): void {
    const { table, reason } = misfit;
    if (table.cut === "awaited") {
      this.#misfits.set(table, { commitLsn, reason });
      return;
    }
    if (this.#halted) return;
    this.#halted = true;
    this.#events.halted(misfit);
  }

  #endSorted(store: TransactionStore, aborted: ReadonlySet<number> | null, facts: CommitFacts): void {
    const held = sortByCuts(store, aborted, facts.commitLsn, this.heldArena);
    if (held) this.#held.push(inMemory(held, facts));
    if (store.count === 0) return;
    if (store.arena !== this.arena && store.arena.length <= COPIED_BYTES) store.moveTo(this.arena);
    this.#events.committed(inMemory(store, facts));
  }

  #endSpilled(store: TransactionStore, spilled: SpilledTransaction, facts: CommitFacts): void {
    const { counted, held } = relationsByCuts(store, spilled, facts.commitLsn);
    if (held.size > 0) {
      spilled.hold();
      this.#held.push({ store, spilled, relations: held, ...facts });
    }
    this.#events.committed({ store, spilled, relations: counted, ...facts });
  }
}

function violation(what: string, offset?: number): PgFloError {
  const facts = offset === undefined ? {} : { facts: { offset } };
  return new PgFloError("PROTOCOL_VIOLATION", `stream, message, ${what}`, facts);
}
