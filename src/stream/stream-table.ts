// How the tuples of one Relation message become rows of one mirrored table.
import type { Lsn } from "../base/lsn.ts";
import type { ReplicaIdentity, SourceColumn } from "../postgres/catalog.ts";
import type { Relation } from "../postgres/relation.ts";
import { tupleKind } from "../postgres/tuple.ts";
import type { ColumnPlan } from "../types/registry.ts";
import { layoutOf } from "./relation-layout.ts";

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
  /** See KnownColumns. */
  readonly versions?: readonly (readonly SourceColumn[])[];
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
  /** Per kept column that is not sent: what it has then, as a tuple has it. Null when no column has anything. */
  readonly fills: readonly (Uint8Array | null)[] | null;
  /** Why it fits no definition that is registered, or null. Only a change that counts makes it matter. */
  readonly mismatch: string | null;
  readonly message: Relation;
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
  const layout = layoutOf(message, table);
  const told = { relation, message, columnCount: message.columns.length };
  if ("mismatch" in layout) return { ...told, projection: NOTHING, fills: null, mismatch: layout.mismatch };
  const { projection } = layout;
  const same = projection.length === message.columns.length && projection.every((from, index) => from === index);
  const fills = table.columns.map(({ source }, index) => (projection[index]! < 0 ? filling(source.missing) : null));
  return {
    ...told,
    projection: same ? null : projection,
    fills: fills.some((fill) => fill !== null) ? fills : null,
    mismatch: identityMismatch(message, table, projection),
  };
}

const NOTHING = new Int32Array(0);

/** A value as it stands in a tuple, in text. Null: none. */
function filling(text: string | undefined): Uint8Array | null {
  if (text === undefined) return null;
  const bytes = new TextEncoder().encode(text);
  const value = new Uint8Array(5 + bytes.length);
  value[0] = tupleKind.text;
  new DataView(value.buffer).setInt32(1, bytes.length);
  value.set(bytes, 5);
  return value;
}

/**
 * The columns that the server marks are the ones by which old tuples name a row; under FULL it marks all. Without any
 * mark the server refuses updates and deletes, and inserts are right under every identity.
 */
function identityMismatch(message: Relation, table: StreamTable, projection: Int32Array): string | null {
  const { identity, columns } = table;
  const names = identity.kind === "none" ? [] : identity.columns;
  const places = names.map((name) => projection[columns.findIndex(({ source }) => source.name === name)] ?? -1);
  const unsent = places.indexOf(-1);
  if (unsent >= 0) return `identity column ${JSON.stringify(names[unsent])} is not published`;
  const changed = "its replica identity changed";
  const full = message.replicaIdentity === "f";
  if (full || identity.kind !== "key") return full === (identity.kind === "full") ? null : changed;
  const marked = message.columns.flatMap(({ flags }, place) => ((flags & 1) !== 0 ? [place] : []));
  if (marked.length === 0) return null;
  return marked.length === places.length && marked.every((place) => places.includes(place)) ? null : changed;
}
