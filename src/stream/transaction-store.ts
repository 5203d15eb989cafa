// Changes of one transaction, in memory: all of it, what was not spilled yet, or what was read back.
import { OLD_NONE, type OldKind } from "../postgres/pgoutput-handler.ts";
import type { Arena } from "./arena.ts";
import type { RelationMapping, StreamRelation } from "./stream-table.ts";
import { appendProjected, tupleEnd } from "./tuple-reader.ts";

export const OPERATION_INSERT = 0;
export const OPERATION_UPDATE = 1;
export const OPERATION_DELETE = 2;
export const OPERATION_TRUNCATE = 3;
/** Only in what was spilled: a row leaves its place for one whose changes lie elsewhere … */
export const OPERATION_LEAVE = 4;
/** … and a row comes from such a place, which its old tuple tells. */
export const OPERATION_ARRIVE = 5;

const FIRST_CHANGES = 1024;
/** What is kept of grown arrays after a large transaction. */
const KEPT_CHANGES = 256 * 1024;

/**
 * Parallel arrays, one entry per change in order of arrival. Tuples are positions in the arena, -1 for none, and have
 * the table's kept columns. Given tuples are the server's, checked, with the mapping's count of columns.
 */
export class TransactionStore {
  arena: Arena;
  count = 0;
  /** Sequence number of the first change, where `sequences` does not tell each one's. */
  firstSequence = 0;
  /** The transaction or subtransaction of the changes to come, and of each change where that can be several. */
  xid = 0;
  xids: Int32Array | null = null;
  /** Of changes that were read back. */
  sequences: Int32Array | null = null;
  /** Whether some change is a TRUNCATE. */
  truncates = false;
  operations: Uint8Array;
  newTuples: Int32Array;
  oldTuples: Int32Array;
  /** Index in `relations` of each change's. */
  relationIndexes: Int32Array;
  /** Each relation of the transaction once. */
  readonly relations: StreamRelation[] = [];
  readonly #indexOf = new Map<StreamRelation, number>();
  #lastRelation: StreamRelation | null = null;
  #lastIndex = -1;

  readonly #firstChanges: number;
  #replayed = false;

  constructor(arena: Arena, firstChanges = FIRST_CHANGES) {
    this.arena = arena;
    this.#firstChanges = firstChanges;
    this.operations = new Uint8Array(firstChanges);
    this.newTuples = new Int32Array(firstChanges);
    this.oldTuples = new Int32Array(firstChanges);
    this.relationIndexes = new Int32Array(firstChanges);
  }

  /** A store whose changes can belong to several subtransactions. */
  static streamed(arena: Arena, firstChanges: number): TransactionStore {
    const store = new TransactionStore(arena, firstChanges);
    store.xids = new Int32Array(firstChanges);
    return store;
  }

  /** A store for changes that are read back. */
  static replayed(arena: Arena): TransactionStore {
    const store = new TransactionStore(arena);
    store.sequences = new Int32Array(FIRST_CHANGES);
    store.#replayed = true;
    return store;
  }

  /** Bytes of the arrays. */
  get arrayBytes(): number {
    return this.operations.length * (13 + (this.xids ? 4 : 0) + (this.sequences ? 4 : 0));
  }

  get memoryBytes(): number {
    return this.arena.heldBytes + this.arrayBytes;
  }

  sequenceOf(change: number): number {
    return this.sequences === null ? this.firstSequence + change : this.sequences[change]!;
  }

  insert(mapping: RelationMapping, bytes: Uint8Array, newStart: number, newEnd: number): void {
    this.#add(OPERATION_INSERT, mapping.relation, this.#keep(mapping, bytes, newStart, newEnd), -1);
  }

  update(
    mapping: RelationMapping,
    bytes: Uint8Array,
    oldKind: OldKind,
    oldStart: number,
    oldEnd: number,
    newStart: number,
    newEnd: number,
  ): void {
    const oldTuple = oldKind === OLD_NONE ? -1 : this.#keep(mapping, bytes, oldStart, oldEnd);
    this.#add(OPERATION_UPDATE, mapping.relation, this.#keep(mapping, bytes, newStart, newEnd), oldTuple);
  }

  delete(mapping: RelationMapping, bytes: Uint8Array, oldStart: number, oldEnd: number): void {
    this.#add(OPERATION_DELETE, mapping.relation, -1, this.#keep(mapping, bytes, oldStart, oldEnd));
  }

  truncate(mapping: RelationMapping): void {
    this.truncates = true;
    this.#add(OPERATION_TRUNCATE, mapping.relation, -1, -1);
  }

  /** Adds a change that lies in the arena already. */
  place(operation: number, relation: StreamRelation, newTuple: number, oldTuple: number, sequence: number): void {
    if (operation === OPERATION_TRUNCATE) this.truncates = true;
    this.#add(operation, relation, newTuple, oldTuple);
    if (this.sequences) this.sequences[this.count - 1] = sequence;
  }

  /** Copies a change of another store. */
  copy(from: TransactionStore, change: number): void {
    const { bytes, view } = from.arena;
    const tuple = (at: number) => (at < 0 ? -1 : this.arena.append(bytes, at, tupleEnd(view, at)));
    const oldTuple = tuple(from.oldTuples[change]!);
    const newTuple = tuple(from.newTuples[change]!);
    this.place(from.operations[change]!, from.relationOf(change), newTuple, oldTuple, 0);
  }

  /** Drops the changes that are not wanted. The others keep their order and their sequence numbers. */
  retain(wanted: (change: number) => boolean): void {
    this.sequences ??= Int32Array.from({ length: this.operations.length }, (_, change) => this.firstSequence + change);
    let kept = 0;
    this.truncates = false;
    for (let change = 0; change < this.count; change++) {
      if (!wanted(change)) continue;
      this.operations[kept] = this.operations[change]!;
      this.newTuples[kept] = this.newTuples[change]!;
      this.oldTuples[kept] = this.oldTuples[change]!;
      this.relationIndexes[kept] = this.relationIndexes[change]!;
      this.sequences[kept] = this.sequences[change]!;
      if (this.operations[kept] === OPERATION_TRUNCATE) this.truncates = true;
      kept++;
    }
    this.count = kept;
  }

  relationOf(change: number): StreamRelation {
    return this.relations[this.relationIndexes[change]!]!;
  }

  /** The arena's bytes were moved towards its start by so many. */
  moveTuples(byteCount: number): void {
    for (const tuples of [this.newTuples, this.oldTuples]) {
      for (let change = 0; change < this.count; change++) if (tuples[change]! >= 0) tuples[change]! -= byteCount;
    }
  }

  /** Copies all tuples to another arena, where they lie from now on. */
  moveTo(arena: Arena): void {
    const from = this.arena;
    const at = arena.append(from.bytes, 0, from.length);
    this.arena = arena;
    this.moveTuples(-at);
  }

  /** Forgets the changes; the arena is its owner's to reset. */
  clear(): void {
    this.count = 0;
    this.firstSequence = 0;
    if (!this.#replayed) this.sequences = null;
    this.truncates = false;
    this.relations.length = 0;
    this.#indexOf.clear();
    this.#lastRelation = null;
    if (this.operations.length > KEPT_CHANGES && !this.#replayed) this.#resize(this.#firstChanges);
  }

  #keep(mapping: RelationMapping, bytes: Uint8Array, start: number, end: number): number {
    if (mapping.projection === null) return this.arena.append(bytes, start, end);
    return appendProjected(this.arena, bytes, start, end, mapping.projection, mapping.fills);
  }

  #add(operation: number, relation: StreamRelation, newTuple: number, oldTuple: number): void {
    const index = this.count;
    if (index === this.operations.length) this.#resize(index * 2);
    if (relation !== this.#lastRelation) this.#findRelation(relation);
    this.operations[index] = operation;
    this.newTuples[index] = newTuple;
    this.oldTuples[index] = oldTuple;
    this.relationIndexes[index] = this.#lastIndex;
    if (this.xids !== null) this.xids[index] = this.xid;
    this.count = index + 1;
  }

  #findRelation(relation: StreamRelation): void {
    let index = this.#indexOf.get(relation);
    if (index === undefined) {
      index = this.relations.push(relation) - 1;
      this.#indexOf.set(relation, index);
    }
    this.#lastRelation = relation;
    this.#lastIndex = index;
  }

  #resize(size: number): void {
    const operations = new Uint8Array(size);
    operations.set(this.operations.subarray(0, this.count));
    this.operations = operations;
    this.newTuples = resized(this.newTuples, this.count, size);
    this.oldTuples = resized(this.oldTuples, this.count, size);
    this.relationIndexes = resized(this.relationIndexes, this.count, size);
    if (this.xids) this.xids = resized(this.xids, this.count, size);
    if (this.sequences) this.sequences = resized(this.sequences, this.count, size);
  }
}

/** The first `count` entries, in an array of `size`. */
export function resized(array: Int32Array, count: number, size: number): Int32Array<ArrayBuffer> {
  const result = new Int32Array(size);
  result.set(array.subarray(0, count));
  return result;
}

export function grown(array: Int32Array, size: number): Int32Array<ArrayBuffer> {
  return resized(array, array.length, size);
}
