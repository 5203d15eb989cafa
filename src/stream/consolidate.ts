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
//
// Of a transaction that was spilled this sees a part of the identities at a time. A row that moves between two parts is
// told by a LEAVE in the one and an ARRIVE in the other, which has the whole image. The part in which it ends tells
// where it came from (`_old_`), or takes that out when it is not there to the end. So a row that left its origin needs
// no word there, and one that left from another place than its origin needs a DELETE of that.
import { failpoint } from "../base/failpoints.ts";
import type { StreamRelation } from "./stream-table.ts";
import {
  OPERATION_ARRIVE,
  OPERATION_DELETE,
  OPERATION_INSERT,
  OPERATION_LEAVE,
  OPERATION_TRUNCATE,
  OPERATION_UPDATE,
  resized,
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
/** Up to so many changes need no index. */
const SEARCHED_CHANGES = 12;
/** What is kept of grown arrays after a large transaction. */
const KEPT_ENTRIES = 256 * 1024;

export class Consolidator {
  // Places.
  #placeCount = 0;
  #placeTuple = new Int32Array(FIRST_ENTRIES); // a tuple that has the identity
  #placeHash = new Int32Array(FIRST_ENTRIES);
  #placeRow = new Int32Array(FIRST_ENTRIES); // the row that stands there now, or NONE
  #placeBefore = new Int32Array(FIRST_ENTRIES); // the row that stood there before the transaction, or NONE
  #placeSequence = new Int32Array(FIRST_ENTRIES);
  #placeRelation = new Int32Array(FIRST_ENTRIES); // index in the store's relations
  // Rows.
  #rowCount = 0;
  #rowOrigin = new Int32Array(FIRST_ENTRIES); // its place before the transaction, or NONE
  #rowPlace = new Int32Array(FIRST_ENTRIES); // its place now, or NONE
  #rowImage = new Int32Array(FIRST_ENTRIES); // its newest image, or NONE
  #rowOld = new Int32Array(FIRST_ENTRIES); // its first old tuple, or NONE
  #rowCameFrom = new Int32Array(FIRST_ENTRIES); // the old tuple with which it arrived, or NONE
  #rowLeft = new Int32Array(FIRST_ENTRIES); // the place from which it went elsewhere, or NONE
  #rowSequence = new Int32Array(FIRST_ENTRIES); // the change that took it away
  // Hash index over places; rebuilt for each transaction that is large enough to need one.
  #index = new Int32Array(0);
  /** By relation index: the last TRUNCATE, or NONE. */
  readonly #truncated: number[] = [];

  /**
   * Gives the rows of the store's transaction. Tables come mixed: first TRUNCATEs, then rows without an identity as they
   * came, then those of places in order of first touch. May append to the store's arena.
   */
  consolidate(store: TransactionStore, output: ConsolidatedRows): void {
    this.#reset(store.count);
    this.#findTruncates(store, output);
    for (let change = 0; change < store.count; change++) {
      const relation = store.relationOf(change);
      if (store.truncates && change <= this.#truncated[store.relationIndexes[change]!]!) continue;
      if (relation.consolidation === "identity") this.#apply(store, change, relation);
      else this.#passOn(store, change, relation, output);
    }
    this.#emit(store, output);
    failpoint("consolidate.done");
  }

  // A single truncate per table counts: the last one.
  #findTruncates(store: TransactionStore, output: ConsolidatedRows): void {
    if (!store.truncates) return;
    this.#truncated.length = 0;
    for (const _ of store.relations) this.#truncated.push(NONE);
    for (let change = 0; change < store.count; change++) {
      if (store.operations[change] === OPERATION_TRUNCATE) this.#truncated[store.relationIndexes[change]!] = change;
    }
    for (const change of this.#truncated) {
      if (change === NONE) continue;
      output.row(store.relationOf(change), OPERATION_TRUNCATE, NONE, NONE, store.sequenceOf(change));
    }
  }

  #passOn(store: TransactionStore, change: number, relation: StreamRelation, output: ConsolidatedRows): void {
    let newTuple = store.newTuples[change]!;
    const oldTuple = store.oldTuples[change]!;
    if (newTuple >= 0 && oldTuple >= 0 && hasUnchanged(store.arena.view, newTuple)) {
      newTuple = fillUnchanged(store.arena, newTuple, oldTuple);
    }
    output.row(relation, store.operations[change]!, newTuple, oldTuple, store.sequenceOf(change));
  }

  #apply(store: TransactionStore, change: number, relation: StreamRelation): void {
    const newTuple = store.newTuples[change]!;
    const oldTuple = store.oldTuples[change]!;
    switch (store.operations[change]) {
      case OPERATION_INSERT: {
        const place = this.#place(store, change, relation, newTuple, false);
        this.#stand(this.#newRow(NONE, newTuple), place, change);
        return;
      }
      case OPERATION_UPDATE:
        this.#update(store, change, relation, newTuple, oldTuple);
        return;
      case OPERATION_DELETE:
        this.#leave(this.#place(store, change, relation, oldTuple, true), change, oldTuple);
        return;
      case OPERATION_LEAVE: {
        const place = this.#place(store, change, relation, oldTuple, true);
        const row = this.#placeRow[place]!;
        this.#leave(place, change, oldTuple);
        if (row !== NONE) this.#rowLeft[row] = place;
        return;
      }
      case OPERATION_ARRIVE: {
        const filled = hasUnchanged(store.arena.view, newTuple);
        const row = this.#newRow(NONE, filled ? fillUnchanged(store.arena, newTuple, oldTuple) : newTuple);
        this.#rowCameFrom[row] = oldTuple;
        this.#stand(row, this.#place(store, change, relation, this.#rowImage[row]!, false), change);
      }
    }
  }

  #update(store: TransactionStore, change: number, relation: StreamRelation, newTuple: number, oldTuple: number): void {
    const from = this.#place(store, change, relation, oldTuple >= 0 ? oldTuple : newTuple, true);
    let row = this.#placeRow[from]!;
    let image = newTuple;
    if (hasUnchanged(store.arena.view, image)) {
      if (oldTuple >= 0) image = fillUnchanged(store.arena, image, oldTuple);
      const known = row === NONE ? NONE : this.#rowImage[row]!;
      if (known !== NONE) image = fillUnchanged(store.arena, image, known);
    }
    const moved = oldTuple >= 0 && !sameKey(store.arena, oldTuple, image, relation.keyColumns);
    const to = moved ? this.#place(store, change, relation, image, false) : from;
    // A row that is not known at its old place cannot be in a well-formed log; its image still counts.
    if (row === NONE) row = this.#newRow(NONE, image);
    else if (moved) this.#leave(from, change, oldTuple);
    if (this.#rowOld[row] === NONE) this.#rowOld[row] = oldTuple;
    this.#rowImage[row] = image;
    this.#stand(row, to, change);
  }

  /** The row is at the place from now on. One that stands there cannot be in a well-formed log; it is gone. */
  #stand(row: number, place: number, change: number): void {
    const other = this.#placeRow[place]!;
    if (other !== NONE) {
      this.#rowPlace[other] = NONE;
      this.#rowSequence[other] = change;
    }
    this.#placeRow[place] = row;
    this.#rowPlace[row] = place;
    this.#placeSequence[place] = change;
  }

  /** The row at the place, if any, is nowhere. */
  #leave(place: number, change: number, oldTuple: number): void {
    const row = this.#placeRow[place]!;
    this.#placeSequence[place] = change;
    this.#placeRow[place] = NONE;
    if (row === NONE) return;
    this.#rowPlace[row] = NONE;
    this.#rowSequence[row] = change;
    if (this.#rowOld[row] === NONE) this.#rowOld[row] = oldTuple;
  }

  #emit(store: TransactionStore, output: ConsolidatedRows): void {
    for (let place = 0; place < this.#placeCount; place++) {
      const relation = store.relations[this.#placeRelation[place]!]!;
      const row = this.#placeRow[place]!;
      const before = this.#placeBefore[place]!;
      const sequence = store.sequenceOf(this.#placeSequence[place]!);
      if (row === NONE) {
        if (before === NONE || this.#rowPlace[before] !== NONE || this.#rowLeft[before] === place) continue;
        const old = relation.full && this.#rowOld[before] !== NONE ? this.#rowOld[before]! : this.#placeTuple[place]!;
        output.row(relation, OPERATION_DELETE, NONE, old, sequence);
        continue;
      }
      const origin = this.#rowOrigin[row]!;
      const isNew = origin === NONE && before === NONE && this.#rowCameFrom[row] === NONE;
      const operation = isNew ? OPERATION_INSERT : OPERATION_UPDATE;
      output.row(relation, operation, this.#rowImage[row]!, this.#oldOf(relation, row, place), sequence);
    }
    for (let row = 0; row < this.#rowCount; row++) {
      const cameFrom = this.#rowCameFrom[row]!;
      if (cameFrom === NONE || this.#rowPlace[row] !== NONE) continue;
      const relation = store.relationOf(this.#rowSequence[row]!);
      output.row(relation, OPERATION_DELETE, NONE, cameFrom, store.sequenceOf(this.#rowSequence[row]!));
    }
  }

  /** The old tuple to tell with the row that now stands at `place`. */
  #oldOf(relation: StreamRelation, row: number, place: number): number {
    const origin = this.#rowOrigin[row]!;
    if (this.#rowCameFrom[row] !== NONE) return this.#rowCameFrom[row]!;
    if (relation.full) return origin === NONE ? this.#oldImageAt(place) : this.#rowOld[row]!;
    return origin === NONE || origin === place ? NONE : this.#placeTuple[origin]!;
  }

  // Deleted and inserted again under FULL: the UPDATE tells the row that stood here before, if it is gone.
  #oldImageAt(place: number): number {
    const before = this.#placeBefore[place]!;
    return before === NONE || this.#rowPlace[before] !== NONE ? NONE : this.#rowOld[before]!;
  }

  /** The place of the tuple's identity, made when it is new: with a row from before the transaction, or empty. */
  #place(
    store: TransactionStore,
    change: number,
    { keyColumns }: StreamRelation,
    tuple: number,
    rowStoodThere: boolean,
  ): number {
    const relation = store.relationIndexes[change]!;
    const hash = hashKey(store.arena, tuple, keyColumns) ^ Math.imul(relation, 0x9e3779b1);
    const indexed = this.#index.length > 0;
    const mask = this.#index.length - 1;
    let slot = hash & mask;
    if (indexed) {
      for (; this.#index[slot] !== NONE; slot = (slot + 1) & mask) {
        const place = this.#index[slot]!;
        if (this.#isPlace(store, place, relation, keyColumns, tuple, hash)) return place;
      }
    } else {
      for (let place = 0; place < this.#placeCount; place++) {
        if (this.#isPlace(store, place, relation, keyColumns, tuple, hash)) return place;
      }
    }
    const place = this.#newPlace(relation, tuple, hash);
    if (indexed) this.#index[slot] = place;
    if (rowStoodThere) {
      const row = this.#newRow(place, NONE);
      this.#rowPlace[row] = place;
      this.#placeRow[place] = row;
      this.#placeBefore[place] = row;
    }
    return place;
  }

  #isPlace(
    store: TransactionStore,
    place: number,
    relation: number,
    keyColumns: Int32Array,
    tuple: number,
    hash: number,
  ): boolean {
    return (
      this.#placeHash[place] === hash &&
      this.#placeRelation[place] === relation &&
      sameKey(store.arena, tuple, this.#placeTuple[place]!, keyColumns)
    );
  }

  #newPlace(relation: number, tuple: number, hash: number): number {
    const place = this.#placeCount++;
    if (place === this.#placeTuple.length) this.#resizePlaces(place * 2);
    this.#placeTuple[place] = tuple;
    this.#placeHash[place] = hash;
    this.#placeRow[place] = NONE;
    this.#placeBefore[place] = NONE;
    this.#placeRelation[place] = relation;
    return place;
  }

  #newRow(origin: number, image: number): number {
    const row = this.#rowCount++;
    if (row === this.#rowOrigin.length) this.#resizeRows(row * 2);
    this.#rowOrigin[row] = origin;
    this.#rowPlace[row] = NONE;
    this.#rowImage[row] = image;
    this.#rowOld[row] = NONE;
    this.#rowCameFrom[row] = NONE;
    this.#rowLeft[row] = NONE;
    return row;
  }

  /** A few changes are found by looking at each; more of them by a hash index, which is at most half full. */
  #reset(changeCount: number): void {
    this.#placeCount = 0;
    this.#rowCount = 0;
    // Parts of one transaction come one after the other, and are about as large.
    const kept = Math.max(KEPT_ENTRIES, changeCount * 4);
    if (this.#placeTuple.length > kept) this.#resizePlaces(FIRST_ENTRIES);
    if (this.#rowOrigin.length > kept) this.#resizeRows(FIRST_ENTRIES);
    if (this.#index.buffer.byteLength > kept * 8) this.#index = new Int32Array(0);
    // An update can touch two places.
    const size = changeCount <= SEARCHED_CHANGES ? 0 : 2 ** Math.ceil(Math.log2(changeCount * 4));
    const { buffer } = this.#index;
    this.#index = buffer.byteLength >= size * 4 ? new Int32Array(buffer, 0, size) : new Int32Array(size);
    this.#index.fill(NONE);
  }

  #resizePlaces(size: number): void {
    const count = Math.min(this.#placeCount, this.#placeTuple.length);
    this.#placeTuple = resized(this.#placeTuple, count, size);
    this.#placeHash = resized(this.#placeHash, count, size);
    this.#placeRow = resized(this.#placeRow, count, size);
    this.#placeBefore = resized(this.#placeBefore, count, size);
    this.#placeSequence = resized(this.#placeSequence, count, size);
    this.#placeRelation = resized(this.#placeRelation, count, size);
  }

  #resizeRows(size: number): void {
    const count = Math.min(this.#rowCount, this.#rowOrigin.length);
    this.#rowOrigin = resized(this.#rowOrigin, count, size);
    this.#rowPlace = resized(this.#rowPlace, count, size);
    this.#rowImage = resized(this.#rowImage, count, size);
    this.#rowOld = resized(this.#rowOld, count, size);
    this.#rowCameFrom = resized(this.#rowCameFrom, count, size);
    this.#rowLeft = resized(this.#rowLeft, count, size);
    this.#rowSequence = resized(this.#rowSequence, count, size);
  }
}
