// Takes the parsed messages of the log and sorts each change: to the open transaction, to those that are held until
// their table's cut is known, or away. A transaction comes out whole, at its COMMIT, or not at all.
import { isDeepStrictEqual } from "node:util";
import { PgFloError } from "../base/errors.ts";
import { LSN_ZERO, type Lsn, lsn } from "../base/lsn.ts";
import type { OldKind, PgoutputHandler } from "../postgres/pgoutput-handler.ts";
import type { Relation } from "../postgres/relation.ts";
import { Arena } from "./arena.ts";
import { mapRelation, type StreamRelation, type StreamTable } from "./stream-table.ts";
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
  readonly #relations = new Map<number, StreamRelation | null>();
  #heldStore: TransactionStore | null = null;
  #held: CommittedTransaction[] = [];
  #open = false;
  #skip = false;
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

  begin(finalLsn: Lsn, _commitTimeUs: bigint, xid: number): void {
    this.#open = true;
    this.#commitLsn = finalLsn;
    this.#xid = xid;
    this.#skip = finalLsn <= this.#position;
  }

  commit(commitLsn: Lsn, endLsn: Lsn, commitTimeUs: bigint): void {
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
    const mapped = table ? mapRelation(relation, table) : null;
    // The server repeats itself after every invalidation; the same relation stays the same object, and in one file.
    const known = this.#relations.get(relation.oid);
    if (mapped === null || !known || !isDeepStrictEqual(mapped, known)) this.#relations.set(relation.oid, mapped);
  }

  insert(relationOid: number, newStart: number, newEnd: number): void {
    const relation = this.#relation(relationOid);
    const store = relation && this.#storeFor(relation);
    if (store) store.insert(relation, this.bytes, newStart, newEnd);
  }

  update(
    relationOid: number,
    oldKind: OldKind,
    oldStart: number,
    oldEnd: number,
    newStart: number,
    newEnd: number,
  ): void {
    const relation = this.#relation(relationOid);
    const store = relation && this.#storeFor(relation);
    if (store) store.update(relation, this.bytes, oldKind, oldStart, oldEnd, newStart, newEnd);
  }

  delete(relationOid: number, _oldKind: OldKind, oldStart: number, oldEnd: number): void {
    const relation = this.#relation(relationOid);
    const store = relation && this.#storeFor(relation);
    if (store) store.delete(relation, this.bytes, oldStart, oldEnd);
  }

  truncate(relationOids: readonly number[]): void {
    for (const oid of relationOids) {
      const relation = this.#relation(oid);
      const store = relation && this.#storeFor(relation);
      if (store) store.truncate(relation);
    }
  }

  // What these tell is of no use here: origins and types are looked up in the catalog, messages are heartbeats.
  origin(): void {}
  type(): void {}
  message(): void {}

  streamStart(): void {
    throw unasked("stream start");
  }
  streamStop(): void {
    throw unasked("stream stop");
  }
  streamCommit(): void {
    throw unasked("stream commit");
  }
  streamAbort(): void {
    throw unasked("stream abort");
  }

  /** Null for a relation that is not mirrored: a publication of a DBA may have more tables. */
  #relation(oid: number): StreamRelation | null {
    const relation = this.#relations.get(oid);
    if (relation === undefined) {
      throw new PgFloError("PROTOCOL_VIOLATION", `stream, relation ${oid}, changed before it was described`);
    }
    return relation;
  }

  #storeFor(relation: StreamRelation): TransactionStore | null {
    const { table } = relation;
    const { cut } = table;
    if (this.#skip || cut === "unknown") return null;
    if (cut !== "awaited" && this.#commitLsn < cut) return null;
    if (relation.mismatch !== null) {
      table.cut = "unknown";
      this.#events.tableFailed(table, relation.mismatch);
      return null;
    }
    if (cut !== "awaited") return this.#store;
    this.#heldStore ??= new TransactionStore(this.heldArena);
    return this.#heldStore;
  }
}

function unasked(what: string): PgFloError {
  return new PgFloError("PROTOCOL_VIOLATION", `stream, ${what} message, was not asked for`);
}
