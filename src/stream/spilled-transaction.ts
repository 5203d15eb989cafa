// A transaction that was too large for memory: its changes lie in a file, in parts by the hash of (table, identity).
// Each part holds all changes of its identities in their order, so that it can be brought together alone.
//
// A row that moves to another key changes its part. With a whole image it is told to both: a LEAVE to the one, an ARRIVE
// to the other (see consolidate.ts). With values that only its old place has (unchanged TOAST) the new key's changes
// go to the old key's part from then on, which a map remembers; what the new key's own part has of it has ended, for
// else the row could not have moved there.
//
// TRUNCATEs and aborted subtransactions are kept in memory and applied when the parts are read.
import type { Arena } from "./arena.ts";
import { hashIdentity, type KeyHash } from "./key-hash.ts";
import { MovedKeys } from "./moved-keys.ts";
import { RecordGroups, SpillParts } from "./spill-parts.ts";
import { emptyRecord, HEADER_BYTES, writeRecord } from "./spill-record.ts";
import type { StreamRelation } from "./stream-table.ts";
import {
  grown,
  OPERATION_ARRIVE,
  OPERATION_INSERT,
  OPERATION_LEAVE,
  OPERATION_TRUNCATE,
  OPERATION_UPDATE,
  type TransactionStore,
} from "./transaction-store.ts";
import { fillUnchanged, hasUnchanged, sameKey } from "./tuple-reader.ts";

/** What is sorted and written at once. */
const WRITE_BYTES = 8 * 1024 * 1024;
const WRITE_CHANGES = 64 * 1024;
/** The map of moved keys may always have so much. */
const MOVED_KEYS_BYTES = 1024 * 1024;

export interface SpillOptions {
  /** A folder that is there. */
  readonly folder: string;
  /** 2 to the power of it parts. */
  readonly partBits: number;
  /** Of a part that is brought together, and of the map of moved keys. */
  readonly memoryBytes: number;
  /** Told of transactions that are spilled for the first time, and of bytes. */
  readonly written?: (transactionCount: number, bytes: number) => void;
}

export interface SpilledTruncate {
  readonly relation: number;
  readonly sequence: number;
  readonly xid: number;
}

export class SpilledTransaction {
  readonly options: SpillOptions;
  readonly parts: SpillParts;
  readonly relations: StreamRelation[] = [];
  readonly truncates: SpilledTruncate[] = [];
  /** (Sub)transactions whose changes do not count. */
  readonly aborted: ReadonlySet<number>;
  /** Sequence number of the next change. */
  nextSequence = 0;
  readonly #indexOf = new Map<StreamRelation, number>();
  /** By index in the relations of the store that is being written: the one here. */
  #indexes: readonly number[] = [];
  readonly #moved: MovedKeys;
  readonly #groups = new RecordGroups();
  readonly #left: KeyHash = { a: 0, b: 0, c: 0 };
  readonly #right: KeyHash = { a: 0, b: 0, c: 0 };
  // Records that are being written: what SpillRecord tells of each, and its change.
  #changes = new Int32Array(1024);
  #operations = new Uint8Array(1024);
  #routes = new Int32Array(1024);
  #oldStarts = new Int32Array(1024);
  #newStarts = new Int32Array(1024);
  #newEnds = new Int32Array(1024);
  readonly #record = emptyRecord();
  #holders = 1;

  private constructor(options: SpillOptions, parts: SpillParts, aborted: ReadonlySet<number>) {
    this.options = options;
    this.parts = parts;
    this.aborted = aborted;
    this.#moved = new MovedKeys(Math.max(options.memoryBytes, MOVED_KEYS_BYTES));
  }

  static async create(options: SpillOptions, aborted: ReadonlySet<number>): Promise<SpilledTransaction> {
    options.written?.(1, 0);
    return new SpilledTransaction(options, await SpillParts.create(options.folder, options.partBits), aborted);
  }

  get sizeBytes(): number {
    return this.parts.file.sizeBytes;
  }

  /** Writes all changes of the store, which begin at `nextSequence`. One call at a time; the store is the caller's to clear. */
  async add(store: TransactionStore): Promise<void> {
    const arenaEnd = store.arena.length;
    this.#indexes = store.relations.map((relation) => this.#indexOfRelation(relation));
    for (let from = 0; from < store.count; ) {
      const to = this.#route(store, from, arenaEnd);
      await this.parts.write(this.#groups);
      this.options.written?.(0, this.#groups.sizeBytes);
      from = to;
    }
    this.#groups.reset(this.parts.partCount); // a huge value leaves its buffer behind
    this.nextSequence = store.firstSequence + store.count;
  }

  /** More subtransactions were aborted. */
  undoAborted(): void {
    this.#moved.undo(this.aborted);
  }

  /** Whoever needs the file longer; each one releases it. */
  hold(): void {
    this.#holders++;
  }

  async release(): Promise<void> {
    if (--this.#holders === 0) await this.parts.close();
  }

  /** Groups the records of changes from `from` on and gives where it stopped. */
  #route(store: TransactionStore, from: number, arenaEnd: number): number {
    const groups = this.#groups;
    groups.reset(this.parts.partCount);
    let change = from;
    for (; change < store.count && change - from < WRITE_CHANGES && groups.sizeBytes < WRITE_BYTES; change++) {
      const xid = store.xids === null ? null : store.xids[change]!;
      if (xid !== null && this.aborted.has(xid >>> 0)) continue;
      const relation = this.#indexes[store.relationIndexes[change]!]!;
      this.#routeChange(store, change, relation, xid, arenaEnd);
      store.arena.truncateTo(arenaEnd);
    }
    groups.layOut();
    for (let index = 0; index < groups.count; index++) this.#write(store, index);
    return change;
  }

  #routeChange(store: TransactionStore, change: number, relation: number, xid: number | null, arenaEnd: number): void {
    const { arena } = store;
    const operation = store.operations[change]!;
    const { consolidation, keyColumns } = this.relations[relation]!;
    if (operation === OPERATION_TRUNCATE) {
      this.truncates.push({ relation, sequence: store.sequenceOf(change), xid: xid ?? 0 });
      return;
    }
    if (consolidation === "none") {
      this.#add(store, change, operation, 0, this.parts.plain, arenaEnd);
      return;
    }
    const newTuple = store.newTuples[change]!;
    const oldTuple = store.oldTuples[change]!;
    const route = this.#routeOf(this.#left, arena, oldTuple >= 0 ? oldTuple : newTuple, keyColumns, relation);
    if (operation !== OPERATION_UPDATE || oldTuple < 0) {
      this.#add(store, change, operation, route, this.parts.partOf(route), arenaEnd);
      return;
    }
    const unchanged = hasUnchanged(arena.view, newTuple);
    const image = unchanged ? fillUnchanged(arena, newTuple, oldTuple) : newTuple;
    if (sameKey(arena, oldTuple, image, keyColumns)) {
      this.#add(store, change, operation, route, this.parts.partOf(route), arenaEnd);
      return;
    }
    const target = this.#routeOf(this.#right, arena, image, keyColumns, relation);
    if (target !== route && (!unchanged || !hasUnchanged(arena.view, image))) {
      this.#add(store, change, OPERATION_LEAVE, route, this.parts.partOf(route), arenaEnd);
      this.#add(store, change, OPERATION_ARRIVE, target, this.parts.partOf(target), arenaEnd);
      return;
    }
    if (target !== route) this.#moved.set(this.#right, route, xid === null ? null : xid >>> 0);
    this.#add(store, change, operation, route, this.parts.partOf(route), arenaEnd);
  }

  #routeOf(key: KeyHash, arena: Arena, tuple: number, keyColumns: Int32Array, relation: number): number {
    hashIdentity(key, arena, tuple, keyColumns, relation);
    return this.#moved.get(key) ?? key.a;
  }

  #add(
    store: TransactionStore,
    change: number,
    operation: number,
    route: number,
    part: number,
    arenaEnd: number,
  ): void {
    const index = this.#groups.count;
    if (index === this.#changes.length) this.#grow();
    const newTuple = operation === OPERATION_LEAVE ? -1 : store.newTuples[change]!;
    const oldTuple = operation === OPERATION_INSERT ? -1 : store.oldTuples[change]!;
    const end = operation === OPERATION_LEAVE ? store.newTuples[change]! : nextStart(store, change, arenaEnd);
    const newStart = newTuple < 0 ? end : newTuple;
    const oldStart = oldTuple < 0 ? newStart : oldTuple;
    this.#changes[index] = change;
    this.#operations[index] = operation;
    this.#routes[index] = route;
    this.#oldStarts[index] = oldStart;
    this.#newStarts[index] = newStart;
    this.#newEnds[index] = end;
    this.#groups.add(part, HEADER_BYTES + end - oldStart);
  }

  #write(store: TransactionStore, index: number): void {
    const record = this.#record;
    const change = this.#changes[index]!;
    record.sequence = store.sequenceOf(change);
    record.xid = store.xids === null ? 0 : store.xids[change]!;
    record.route = this.#routes[index]!;
    record.relation = this.#indexes[store.relationIndexes[change]!]!;
    record.operation = this.#operations[index]!;
    record.oldStart = this.#oldStarts[index]!;
    record.newStart = this.#newStarts[index]!;
    record.newEnd = this.#newEnds[index]!;
    const position = this.#groups.position(index, HEADER_BYTES + record.newEnd - record.oldStart);
    writeRecord(this.#groups.buffer, position, record, store.arena.bytes);
  }

  #indexOfRelation(relation: StreamRelation): number {
    let index = this.#indexOf.get(relation);
    if (index === undefined) {
      index = this.relations.push(relation) - 1;
      this.#indexOf.set(relation, index);
    }
    return index;
  }

  #grow(): void {
    const size = this.#changes.length * 2;
    const operations = new Uint8Array(size);
    operations.set(this.#operations);
    this.#operations = operations;
    this.#changes = grown(this.#changes, size);
    this.#routes = grown(this.#routes, size);
    this.#oldStarts = grown(this.#oldStarts, size);
    this.#newStarts = grown(this.#newStarts, size);
    this.#newEnds = grown(this.#newEnds, size);
  }
}

/** Where the change's last tuple ends: tuples lie one after the other, in the order of changes. */
function nextStart(store: TransactionStore, change: number, arenaEnd: number): number {
  for (let next = change + 1; next < store.count; next++) {
    if (store.oldTuples[next]! >= 0) return store.oldTuples[next]!;
    if (store.newTuples[next]! >= 0) return store.newTuples[next]!;
  }
  return arenaEnd;
}
