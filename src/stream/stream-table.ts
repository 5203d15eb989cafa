// How the tuples of one Relation message become rows of one mirrored table.
import type { Lsn } from "../base/lsn.ts";
import type { ReplicaIdentity } from "../postgres/catalog.ts";
import type { Relation } from "../postgres/relation.ts";
import type { ColumnPlan } from "../types/registry.ts";

/**
 * From which commit LSN on a table's changes count. `unknown`: they committed before any cut still to come.
 * `awaited`: the slot that decides is being created; changes are held until it is there.
 */
export type TableCut = Lsn | "unknown" | "awaited";

/** A table of the stream, as it is registered in the metadata. */
export interface StreamTable {
  readonly tableId: number;
  /** Changed when the table is copied again. */
  generation: number;
  readonly schemaVersion: number;
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly identity: ReplicaIdentity;
  readonly columns: readonly ColumnPlan[];
  /** Whether the config wants a column of this name: one that is not in `columns` then is a new one. */
  wants: (column: string) => boolean;
  /** A value that its column cannot hold exactly stops the table. */
  exactOnly?: boolean;
  cut: TableCut;
}

/** How the changes of one transaction are brought together. */
export type Consolidation =
  /** By identity, to the net effect. */
  | "identity"
  /** Every change in order: rows have no identity, or (REPLICA IDENTITY FULL without a key) only their whole image. */
  | "none";

/**
 * How the stream keeps the rows of a table: tuples with one column per entry of `table.columns`, in that order, whatever
 * the server's Relation message looks like at the moment. One object per table.
 */
export interface StreamRelation {
  readonly table: StreamTable;
  readonly consolidation: Consolidation;
  /** Columns of the identity, ascending. Empty without one. */
  readonly keyColumns: Int32Array;
  /** Old tuples carry every column. */
  readonly full: boolean;
}

/** A Relation message over the table that it belongs to. */
export interface RelationMapping {
  readonly relation: StreamRelation;
  /** Columns of the server's tuples. */
  readonly columnCount: number;
  /** Per kept column the server's; -1: not sent. Null when both are the same. */
  readonly projection: Int32Array | null;
  /** What differs from the registered columns, or null. Only a change that counts makes it an error. */
  readonly mismatch: string | null;
}

export function streamRelation(table: StreamTable): StreamRelation {
  const { identity } = table;
  const keys = new Set(identity.kind === "none" ? [] : identity.columns);
  const keyColumns = table.columns.flatMap(({ source }, index) => (keys.has(source.name) ? [index] : []));
  return {
    table,
    consolidation: keyColumns.length > 0 ? "identity" : "none",
    keyColumns: Int32Array.from(keyColumns),
    full: identity.kind === "full",
  };
}

/** Maps a Relation message to its table. */
export function mapRelation(message: Relation, relation: StreamRelation): RelationMapping {
  const { table } = relation;
  const indexes = new Map(message.columns.map((column, index) => [column.name, index]));
  const projection = Int32Array.from(table.columns, ({ source }) => indexes.get(source.name) ?? -1);
  const same = projection.length === message.columns.length && projection.every((from, index) => from === index);
  return {
    relation,
    columnCount: message.columns.length,
    projection: same ? null : projection,
    mismatch: findMismatch(message, table),
  };
}

// Columns that the relation has and the table does not are columns that the config leaves out, or new ones.
function findMismatch(relation: Relation, table: StreamTable): string | null {
  const byName = new Map(relation.columns.map((column) => [column.name, column]));
  for (const { source } of table.columns) {
    const column = byName.get(source.name);
    if (!column) {
      // pgoutput leaves generated columns out on servers that cannot send them.
      if (source.generated === "") return `column ${JSON.stringify(source.name)} is gone`;
      continue;
    }
    if (column.typeOid !== source.typeOid || column.typmod !== source.typmod) {
      return `column ${JSON.stringify(source.name)} has another type`;
    }
  }
  const kept = new Set(table.columns.map(({ source }) => source.name));
  for (const key of table.identity.kind === "none" ? [] : table.identity.columns) {
    if (!byName.has(key) || !kept.has(key)) return `identity column ${JSON.stringify(key)} is not published`;
  }
  for (const { name } of relation.columns) {
    if (!kept.has(name) && table.wants(name)) return `column ${JSON.stringify(name)} is new`;
  }
  return sameIdentity(relation, table) ? null : "its replica identity changed";
}

/**
 * The columns that the server marks are the ones by which old tuples name a row; under FULL it marks all. Without any
 * mark the server refuses updates and deletes, and inserts are right under every identity.
 */
function sameIdentity(relation: Relation, { identity }: StreamTable): boolean {
  const full = relation.replicaIdentity === "f";
  if (full || identity.kind !== "key") return full === (identity.kind === "full");
  const marked = relation.columns.filter(({ flags }) => (flags & 1) !== 0).map(({ name }) => name);
  if (marked.length === 0) return true;
  return marked.length === identity.columns.length && marked.every((name) => identity.columns.includes(name));
}
