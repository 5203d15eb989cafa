// The net effect of one transaction, per table and identity.
//
// Two things are told apart: a *place* is an identity (a key), a *row* is what moves between places. A row that stood
// at a place before the transaction has that place as its origin; one that was inserted in it has none. At the end:
//   place with a row of another origin  UPDATE with `_old_` = that origin (the row moved here)
//   place with its own row              UPDATE
//   place with a new row                UPDATE if a row stood here before, else INSERT
//   place without a row, but with one before: DELETE, unless that row moved: its `_old_` says so
// So chains and swaps of keys come out right whatever their order. TRUNCATE is a barrier: what came before it in the
// transaction has no effect on that table.

import type { StreamRelation } from "./stream-table.ts";
import {
  grown,
  OPERATION_DELETE,
  OPERATION_INSERT,
  OPERATION_TRUNCATE,
  OPERATION_UPDATE,
  type TransactionStore,
} from "./transaction-store.ts";
import { fillUnchanged, hashKey, hasUnchanged, sameKey } from "./tuple-reader.ts";

/** Takes the rows of the result. Tuples are positions in the store's arena; -1 for none. */
export interface ConsolidatedRows {
  /**
   * `newTuple`: the image of an INSERT or UPDATE. `oldTuple`: the identity that a DELETE takes out, that an UPDATE moved
   * from, or (REPLICA IDENTITY FULL) the whole row before. `sequence`: the change that made it so.
   */
  row(relation: StreamRelation, operation: number, newTuple: number, oldTuple: number, sequence: number): void;
}

const NONE = -1;
const FIRST_ENTRIES = 256;

export class Consolidator {
  // Places.
  #placeCount = 0;
  #placeTuple = new Int32Array(FIRST_ENTRIES); // a tuple that has the identity
  #placeHash = new Int32Array(FIRST_ENTRIES);
  #placeRow = new Int32Array(FIRST_ENTRIES); // the row that stands there now, or NONE
  #placeBefore = new Int32Array(FIRST_ENTRIES); // the row that stood there before the transaction, or NONE
  #placeSequence = new Int32Array(FIRST_ENTRIES);
  readonly #placeRelation: StreamRelation[] = [];
  // Rows.
  #rowCount = 0;
  #rowOrigin = new Int32Array(FIRST_ENTRIES); // its place before the transaction, or NONE
  #rowPlace = new Int32Array(FIRST_ENTRIES); // its place now, or NONE
  #rowImage = new Int32Array(FIRST_ENTRIES); // its newest image, or NONE
  #rowOld = new Int32Array(FIRST_ENTRIES); // its first old tuple, or NONE
  // Hash index over places; rebuilt for each transaction that is large enough to need one.
  #index = new Int32Array(0);
  readonly #truncated = new Map<StreamRelation["table"], number>();

  /** Gives the rows of the store's transaction. Tables come mixed, rows of a place in order of first touch. */
  consolidate(store: TransactionStore, output: ConsolidatedRows): void {
    this.#reset(store.count);
    this.#findTruncates(store, output);
    for (let change = 0; change < store.count; change++) {
      const relation = store.relations[change]!;
      if (this.#truncated.size > 0 && change <= (this.#truncated.get(relation.table) ?? NONE)) continue;
      if (relation.consolidation === "identity") this.#apply(store, change, relation);
      else this.#passOn(store, change, relation, output);
    }
    this.#emit(output);
  }

  // A single truncate per table counts: the last one.
  #findTruncates(store: TransactionStore, output: ConsolidatedRows): void {
    this.#truncated.clear();
    for (let change = 0; change < store.count; change++) {
      if (store.operations[change] === OPERATION_TRUNCATE) this.#truncated.set(store.relations[change]!.table, change);
    }
    for (const change of this.#truncated.values()) {
      output.row(store.relations[change]!, OPERATION_TRUNCATE, NONE, NONE, change);
    }
  }

  #passOn(store: TransactionStore, change: number, relation: StreamRelation, output: ConsolidatedRows): void {
    let newTuple = store.newTuples[change]!;
    const oldTuple = store.oldTuples[change]!;
    if (newTuple >= 0 && oldTuple >= 0 && hasUnchanged(store.arena.view, newTuple)) {
      newTuple = fillUnchanged(store.arena, newTuple, oldTuple);
    }
    output.row(relation, store.operations[change]!, newTuple, oldTuple, change);
  }

  #apply(store: TransactionStore, change: number, relation: StreamRelation): void {
    const newTuple = store.newTuples[change]!;
    const oldTuple = store.oldTuples[change]!;
    switch (store.operations[change]) {
      case OPERATION_INSERT: {
        const place = this.#place(store, relation, newTuple, false);
        this.#placeSequence[place] = change;
        this.#placeRow[place] = this.#newRow(NONE, place, newTuple, NONE);
        return;
      }
      case OPERATION_UPDATE:
        this.#update(store, change, relation, newTuple, oldTuple);
        return;
      case OPERATION_DELETE: {
        const place = this.#place(store, relation, oldTuple, true);
        this.#placeSequence[place] = change;
        const row = this.#placeRow[place]!;
        if (row !== NONE) {
          this.#rowPlace[row] = NONE;
          if (this.#rowOld[row] === NONE) this.#rowOld[row] = oldTuple;
        }
        this.#placeRow[place] = NONE;
      }
    }
  }

  #update(store: TransactionStore, change: number, relation: StreamRelation, newTuple: number, oldTuple: number): void {
    const from = this.#place(store, relation, oldTuple >= 0 ? oldTuple : newTuple, true);
    const row = this.#placeRow[from]!;
    let image = newTuple;
    if (hasUnchanged(store.arena.view, image)) {
      if (oldTuple >= 0) image = fillUnchanged(store.arena, image, oldTuple);
      const known = row === NONE ? NONE : this.#rowImage[row]!;
      if (known !== NONE) image = fillUnchanged(store.arena, image, known);
    }
    this.#placeRow[from] = NONE;
    this.#placeSequence[from] = change;
    const moved = oldTuple >= 0 && !sameKey(store.arena, oldTuple, image, relation.keyColumns);
    const to = moved ? this.#place(store, relation, image, false) : from;
    this.#placeSequence[to] = change;
    // A row that is not known at its old place cannot be in a well-formed log; its image still counts.
    const mover = row === NONE ? this.#newRow(NONE, to, image, NONE) : row;
    this.#placeRow[to] = mover;
    this.#rowPlace[mover] = to;
    this.#rowImage[mover] = image;
    if (this.#rowOld[mover] === NONE && oldTuple >= 0) this.#rowOld[mover] = oldTuple;
  }

  #emit(output: ConsolidatedRows): void {
    for (let place = 0; place < this.#placeCount; place++) {
      const relation = this.#placeRelation[place]!;
      const row = this.#placeRow[place]!;
      const before = this.#placeBefore[place]!;
      const sequence = this.#placeSequence[place]!;
      if (row === NONE) {
        if (before === NONE || this.#rowPlace[before] !== NONE) continue;
        const old = relation.full && this.#rowOld[before] !== NONE ? this.#rowOld[before]! : this.#placeTuple[place]!;
        output.row(relation, OPERATION_DELETE, NONE, old, sequence);
        continue;
      }
      const origin = this.#rowOrigin[row]!;
      const operation = origin === NONE && before === NONE ? OPERATION_INSERT : OPERATION_UPDATE;
      output.row(relation, operation, this.#rowImage[row]!, this.#oldOf(relation, row, place), sequence);
    }
  }

  /** The old tuple to tell with the row that now stands at `place`. */
  #oldOf(relation: StreamRelation, row: number, place: number): number {
    const origin = this.#rowOrigin[row]!;
    if (relation.full) return origin === NONE ? this.#oldImageAt(place) : this.#rowOld[row]!;
    return origin === NONE || origin === place ? NONE : this.#placeTuple[origin]!;
  }

  // Deleted and inserted again under FULL: the UPDATE tells the row that stood here before, if it is gone.
  #oldImageAt(place: number): number {
    const before = this.#placeBefore[place]!;
    return before === NONE || this.#rowPlace[before] !== NONE ? NONE : this.#rowOld[before]!;
  }

  /** The place of the tuple's identity, made when it is new: with a row from before the transaction, or empty. */
  #place(store: TransactionStore, relation: StreamRelation, tuple: number, rowStoodThere: boolean): number {
    const hash = hashKey(store.arena, tuple, relation.keyColumns) ^ Math.imul(relation.table.oid, 0x9e3779b1);
    const indexed = this.#index.length > 0;
    const mask = this.#index.length - 1;
    let slot = hash & mask;
    if (indexed) {
      for (; this.#index[slot] !== NONE; slot = (slot + 1) & mask) {
        const place = this.#index[slot]!;
        if (this.#placeHash[place] === hash && this.#isPlace(store, relation, tuple, place)) return place;
      }
    } else {
      for (let place = 0; place < this.#placeCount; place++) {
        if (this.#placeHash[place] === hash && this.#isPlace(store, relation, tuple, place)) return place;
      }
    }
    const place = this.#newPlace(relation, tuple, hash);
    if (indexed) this.#index[slot] = place;
    if (rowStoodThere) {
      const row = this.#newRow(place, place, NONE, NONE);
      this.#placeRow[place] = row;
      this.#placeBefore[place] = row;
    }
    return place;
  }

  #isPlace(store: TransactionStore, relation: StreamRelation, tuple: number, place: number): boolean {
    return (
      this.#placeRelation[place]!.table === relation.table &&
      sameKey(store.arena, tuple, this.#placeTuple[place]!, relation.keyColumns)
    );
  }

  #newPlace(relation: StreamRelation, tuple: number, hash: number): number {
    const place = this.#placeCount++;
    if (place === this.#placeTuple.length) this.#growPlaces();
    this.#placeTuple[place] = tuple;
    this.#placeHash[place] = hash;
    this.#placeRow[place] = NONE;
    this.#placeBefore[place] = NONE;
    this.#placeRelation.push(relation);
    return place;
  }

  #newRow(origin: number, place: number, image: number, old: number): number {
    const row = this.#rowCount++;
    if (row === this.#rowOrigin.length) this.#growRows();
    this.#rowOrigin[row] = origin;
    this.#rowPlace[row] = place;
    this.#rowImage[row] = image;
    this.#rowOld[row] = old;
    return row;
  }

  /** A few changes are found by looking at each; more of them by a hash index, which is at most half full. */
  #reset(changeCount: number): void {
    this.#placeCount = 0;
    this.#rowCount = 0;
    this.#placeRelation.length = 0;
    if (changeCount <= 12) {
      this.#index = this.#index.subarray(0, 0);
      return;
    }
    // An update can touch two places.
    const size = 2 ** Math.ceil(Math.log2(changeCount * 4));
    this.#index =
      this.#index.buffer.byteLength >= size * 4 ? new Int32Array(this.#index.buffer, 0, size) : new Int32Array(size);
    this.#index.fill(NONE);
  }

  #growPlaces(): void {
    const size = this.#placeTuple.length * 2;
    this.#placeTuple = grown(this.#placeTuple, size);
    this.#placeHash = grown(this.#placeHash, size);
    this.#placeRow = grown(this.#placeRow, size);
    this.#placeBefore = grown(this.#placeBefore, size);
    this.#placeSequence = grown(this.#placeSequence, size);
  }

  #growRows(): void {
    const size = this.#rowOrigin.length * 2;
    this.#rowOrigin = grown(this.#rowOrigin, size);
    this.#rowPlace = grown(this.#rowPlace, size);
    this.#rowImage = grown(this.#rowImage, size);
    this.#rowOld = grown(this.#rowOld, size);
  }
}
