// The changes of one transaction, kept until its COMMIT: nothing of it is visible before.
// Now in memory; a store that spills offers the same calls.
import { OLD_NONE, type OldKind } from "../postgres/pgoutput-handler.ts";
import type { Arena } from "./arena.ts";
import type { RelationMapping, StreamRelation } from "./stream-table.ts";
import { appendProjected } from "./tuple-reader.ts";

export const OPERATION_INSERT = 0;
export const OPERATION_UPDATE = 1;
export const OPERATION_DELETE = 2;
export const OPERATION_TRUNCATE = 3;

const FIRST_CHANGES = 1024;
/** What is kept of grown arrays after a large transaction. */
const KEPT_CHANGES = 256 * 1024;

/**
 * Parallel arrays, one entry per change in order of arrival. Tuples are positions in the arena, -1 for none, and have
 * the table's kept columns. Given tuples are the server's, checked, with the mapping's count of columns.
 */
export class TransactionStore {
  readonly arena: Arena;
  count = 0;
  /** Whether some change is a TRUNCATE. */
  truncates = false;
  operations = new Uint8Array(FIRST_CHANGES);
  newTuples = new Int32Array(FIRST_CHANGES);
  oldTuples = new Int32Array(FIRST_CHANGES);
  /** Index in `relations` of each change's. */
  relationIndexes = new Int32Array(FIRST_CHANGES);
  /** Each relation of the transaction once. */
  readonly relations: StreamRelation[] = [];
  readonly #indexOf = new Map<StreamRelation, number>();
  #lastRelation: StreamRelation | null = null;
  #lastIndex = -1;

  constructor(arena: Arena) {
    this.arena = arena;
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

  relationOf(change: number): StreamRelation {
    return this.relations[this.relationIndexes[change]!]!;
  }

  /** The arena's bytes were moved towards its start by so many. */
  moveTuples(byteCount: number): void {
    for (const tuples of [this.newTuples, this.oldTuples]) {
      for (let change = 0; change < this.count; change++) if (tuples[change]! >= 0) tuples[change]! -= byteCount;
    }
  }

  /** Forgets the changes; the arena is its owner's to reset. */
  clear(): void {
    this.count = 0;
    this.truncates = false;
    this.relations.length = 0;
    this.#indexOf.clear();
    this.#lastRelation = null;
    if (this.operations.length > KEPT_CHANGES) this.#resize(FIRST_CHANGES);
  }

  #keep(mapping: RelationMapping, bytes: Uint8Array, start: number, end: number): number {
    if (mapping.projection === null) return this.arena.append(bytes, start, end);
    return appendProjected(this.arena, bytes, start, end, mapping.projection);
  }

  #add(operation: number, relation: StreamRelation, newTuple: number, oldTuple: number): void {
    const index = this.count;
    if (index === this.operations.length) this.#resize(index * 2);
    if (relation !== this.#lastRelation) this.#findRelation(relation);
    this.operations[index] = operation;
    this.newTuples[index] = newTuple;
    this.oldTuples[index] = oldTuple;
    this.relationIndexes[index] = this.#lastIndex;
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
