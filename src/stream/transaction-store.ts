// The changes of one transaction, kept until its COMMIT: nothing of it is visible before.
// Now in memory; a store that spills offers the same calls.
import { OLD_NONE, type OldKind } from "../postgres/pgoutput-handler.ts";
import type { Arena } from "./arena.ts";
import type { StreamRelation } from "./stream-table.ts";

export const OPERATION_INSERT = 0;
export const OPERATION_UPDATE = 1;
export const OPERATION_DELETE = 2;
export const OPERATION_TRUNCATE = 3;

const FIRST_CHANGES = 1024;

/** Parallel arrays, one entry per change in order of arrival. Tuples are positions in the arena, -1 for none. */
export class TransactionStore {
  readonly arena: Arena;
  count = 0;
  operations = new Uint8Array(FIRST_CHANGES);
  newTuples = new Int32Array(FIRST_CHANGES);
  oldTuples = new Int32Array(FIRST_CHANGES);
  readonly relations: StreamRelation[] = [];

  constructor(arena: Arena) {
    this.arena = arena;
  }

  insert(relation: StreamRelation, bytes: Uint8Array, newStart: number, newEnd: number): void {
    this.#add(OPERATION_INSERT, relation, this.arena.append(bytes, newStart, newEnd), -1);
  }

  update(
    relation: StreamRelation,
    bytes: Uint8Array,
    oldKind: OldKind,
    oldStart: number,
    oldEnd: number,
    newStart: number,
    newEnd: number,
  ): void {
    const oldTuple = oldKind === OLD_NONE ? -1 : this.arena.append(bytes, oldStart, oldEnd);
    this.#add(OPERATION_UPDATE, relation, this.arena.append(bytes, newStart, newEnd), oldTuple);
  }

  delete(relation: StreamRelation, bytes: Uint8Array, oldStart: number, oldEnd: number): void {
    this.#add(OPERATION_DELETE, relation, -1, this.arena.append(bytes, oldStart, oldEnd));
  }

  truncate(relation: StreamRelation): void {
    this.#add(OPERATION_TRUNCATE, relation, -1, -1);
  }

  /** Forgets the changes; the arena is its owner's to reset. */
  clear(): void {
    this.count = 0;
    this.relations.length = 0;
  }

  #add(operation: number, relation: StreamRelation, newTuple: number, oldTuple: number): void {
    const index = this.count;
    if (index === this.operations.length) this.#grow();
    this.operations[index] = operation;
    this.newTuples[index] = newTuple;
    this.oldTuples[index] = oldTuple;
    this.relations.push(relation);
    this.count = index + 1;
  }

  #grow(): void {
    const size = this.operations.length * 2;
    const operations = new Uint8Array(size);
    operations.set(this.operations);
    this.operations = operations;
    this.newTuples = grown(this.newTuples, size);
    this.oldTuples = grown(this.oldTuples, size);
  }
}

export function grown(array: Int32Array, size: number): Int32Array<ArrayBuffer> {
  const result = new Int32Array(size);
  result.set(array);
  return result;
}
