// What the server told of relations, over the tables that are mirrored now. The server tells a relation once and then
// relies on its being known, so it is kept for tables that are not mirrored too: they may be, a moment later.
import type { Relation } from "../postgres/relation.ts";
import {
  mapRelation,
  type RelationMapping,
  type StreamRelation,
  type StreamTable,
  streamRelation,
} from "./stream-table.ts";

export interface ToldRelation {
  readonly message: Relation;
  /** Null for a relation that is not mirrored: a publication of a DBA may have more tables. */
  mapping: RelationMapping | null;
}

export class RelationMappings {
  readonly #tables: ReadonlyMap<number, StreamTable>;
  readonly #relations = new WeakMap<StreamTable, StreamRelation>();
  /** By OID, as every transaction sees them. */
  readonly #told = new Map<number, ToldRelation>();

  /** `tables` by relation OID. When they changed, `remap` must be called before the next message is parsed. */
  constructor(tables: ReadonlyMap<number, StreamTable>) {
    this.#tables = tables;
  }

  get(oid: number): ToldRelation | undefined {
    return this.#told.get(oid);
  }

  set(oid: number, told: ToldRelation): void {
    this.#told.set(oid, told);
  }

  tell(message: Relation): ToldRelation {
    return { message, mapping: this.#map(message) };
  }

  /** Other tables stand for these relations now. `further`: what only open transactions were told. */
  remap(oids: ReadonlySet<number>, further: Iterable<ToldRelation>): void {
    for (const told of [...this.#told.values(), ...further]) {
      if (oids.has(told.message.oid)) told.mapping = this.#map(told.message);
    }
  }

  #map(message: Relation): RelationMapping | null {
    const table = this.#tables.get(message.oid);
    return table ? mapRelation(message, this.#relationOf(table)) : null;
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
}
