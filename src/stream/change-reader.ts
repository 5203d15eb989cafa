// Takes the parsed messages of the log and sorts each change: to the open transaction, to those that are held until
// their table's cut is known, or away. A transaction comes out whole, at its COMMIT, or not at all.
import { PgFloError } from "../base/errors.ts";
import { LSN_ZERO, type Lsn, lsn } from "../base/lsn.ts";
import { OLD_NONE, type OldKind, type PgoutputHandler } from "../postgres/pgoutput-handler.ts";
import type { Relation } from "../postgres/relation.ts";
import { Arena } from "./arena.ts";
import {
  mapRelation,
  type RelationMapping,
  type StreamRelation,
  type StreamTable,
  streamRelation,
} from "./stream-table.ts";
import { TransactionStore } from "./transaction-store.ts";

/** A committed transaction. `store` is only good until `committed` returns, unless it is held. */
export interface CommittedTransaction {
  readonly store: TransactionStore;
  readonly commitLsn: Lsn;
  readonly xid: number;
  /** Microseconds since 2000-01-01. */
  readonly commitTimeUs: bigint;
}

export interface ChangeReaderEvents {
  /** Changes that count, in one transaction. */
  committed(transaction: CommittedTransaction): void;
  /** Every commit up to here has been seen, whether it had changes for us or not. */
  reached(position: Lsn): void;
  /** A change that counts does not fit the table's registered columns; its changes are dropped from now on. */
  tableFailed(table: StreamTable, reason: string): void;
}

export class ChangeReader implements PgoutputHandler {
  bytes: Uint8Array = new Uint8Array(0);
  readonly arena = new Arena();
  /** Where held changes lie. */
  readonly heldArena = new Arena();
  readonly #events: ChangeReaderEvents;
  readonly #tables: ReadonlyMap<number, StreamTable>;
  readonly #position: Lsn;
  readonly #store = new TransactionStore(this.arena);
  readonly #relations = new Map<StreamTable, StreamRelation>();
  /** By OID. Null for a relation that is not mirrored: a publication of a DBA may have more tables. */
  readonly #mappings = new Map<number, RelationMapping | null>();
  #heldStore: TransactionStore | null = null;
  /** The newest change of an awaited table that did not fit. */
  readonly #misfits = new Map<StreamTable, { readonly commitLsn: Lsn; readonly reason: string }>();
  #held: CommittedTransaction[] = [];
  #open = false;
  #skip = false;
  /** Where the open transaction starts in the arena; what is before it belongs to committed ones. */
  #openStart = 0;
  #commitLsn: Lsn = LSN_ZERO;
  #xid = 0;

  /** `tables` by relation OID; transactions up to `position` are durable and skipped. */
  constructor(tables: ReadonlyMap<number, StreamTable>, position: Lsn, events: ChangeReaderEvents) {
    this.#tables = tables;
    this.#position = position;
    this.#events = events;
  }

  /** Between Begin and Commit: the arena holds changes that are not committed. */
  get inTransaction(): boolean {
    return this.#open;
  }

  /** Whether some transaction is held. */
  get holding(): boolean {
    return this.#held.length > 0 || this.#heldStore !== null;
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
    this.#held = [];
    this.#heldStore = null;
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
    if (this.#open) throw violation("a transaction begins inside of another one");
    this.#open = true;
    this.#openStart = this.arena.length;
    this.#commitLsn = finalLsn;
    this.#xid = xid;
    this.#skip = finalLsn <= this.#position;
  }

  commit(commitLsn: Lsn, endLsn: Lsn, commitTimeUs: bigint): void {
    if (!this.#open) throw violation("a transaction ends that did not begin");
    if (commitLsn !== this.#commitLsn || endLsn <= commitLsn) throw violation("a transaction ends where it should not");
    const transaction = { commitLsn, xid: this.#xid, commitTimeUs };
    this.#open = false;
    if (this.#store.count > 0) {
      this.#events.committed({ store: this.#store, ...transaction });
      this.#store.clear();
    }
    if (this.#heldStore) {
      this.#held.push({ store: this.#heldStore, ...transaction });
      this.#heldStore = null;
    }
    // The next commit record starts at the end of this one or later.
    if (!this.#skip) this.#events.reached(lsn(endLsn - 1n));
  }

  relation(relation: Relation): void {
    const table = this.#tables.get(relation.oid);
    this.#mappings.set(relation.oid, table ? mapRelation(relation, this.#relationOf(table)) : null);
  }

  insert(relationOid: number, newStart: number, newEnd: number): void {
    const mapping = this.#mapping(relationOid);
    if (mapping === null) return;
    this.#checkTuple(mapping, newStart);
    this.#storeFor(mapping)?.insert(mapping, this.bytes, newStart, newEnd);
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
    this.#storeFor(mapping)?.update(mapping, this.bytes, oldKind, oldStart, oldEnd, newStart, newEnd);
  }

  delete(relationOid: number, _oldKind: OldKind, oldStart: number, oldEnd: number): void {
    const mapping = this.#mapping(relationOid);
    if (mapping === null) return;
    this.#checkTuple(mapping, oldStart);
    this.#storeFor(mapping)?.delete(mapping, this.bytes, oldStart, oldEnd);
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

  streamStart(): void {
    throw violation("a stream start was not asked for");
  }
  streamStop(): void {
    throw violation("a stream stop was not asked for");
  }
  streamCommit(): void {
    throw violation("a stream commit was not asked for");
  }
  streamAbort(): void {
    throw violation("a stream abort was not asked for");
  }

  /** The same object whatever the server tells of the table: so its rows stay in one file. */
  #relationOf(table: StreamTable): StreamRelation {
    let relation = this.#relations.get(table);
    if (!relation) {
      relation = streamRelation(table);
      this.#relations.set(table, relation);
    }
    return relation;
  }

  #mapping(oid: number): RelationMapping | null {
    if (!this.#open) throw violation(`a change of relation ${oid} came outside of a transaction`);
    const mapping = this.#mappings.get(oid);
    if (mapping === undefined) throw violation(`relation ${oid} changed before it was described`);
    return mapping;
  }

  #checkTuple({ columnCount }: RelationMapping, at: number): void {
    const count = this.bytes[at]! * 256 + this.bytes[at + 1]!;
    if (count !== columnCount) throw violation(`a tuple has ${count} columns, its relation ${columnCount}`, at);
  }

  #storeFor({ relation, mismatch }: RelationMapping): TransactionStore | null {
    const { table } = relation;
    const { cut } = table;
    if (this.#skip || cut === "unknown") return null;
    if (cut !== "awaited" && this.#commitLsn < cut) return null;
    if (mismatch !== null) {
      if (cut === "awaited") {
        this.#misfits.set(table, { commitLsn: this.#commitLsn, reason: mismatch });
        return null;
      }
      table.cut = "unknown";
      this.#events.tableFailed(table, mismatch);
      return null;
    }
    if (cut !== "awaited") return this.#store;
    this.#heldStore ??= new TransactionStore(this.heldArena);
    return this.#heldStore;
  }
}

function violation(what: string, offset?: number): PgFloError {
  const facts = offset === undefined ? {} : { facts: { offset } };
  return new PgFloError("PROTOCOL_VIOLATION", `stream, message, ${what}`, facts);
}
