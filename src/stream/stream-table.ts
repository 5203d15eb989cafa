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
  readonly generation: number;
  readonly schemaVersion: number;
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly identity: ReplicaIdentity;
  readonly columns: readonly ColumnPlan[];
  cut: TableCut;
}

/** How the changes of one transaction are brought together. */
export type Consolidation =
  /** By identity, to the net effect. */
  | "identity"
  /** Every change in order: rows have no identity, or (REPLICA IDENTITY FULL without a key) only their whole image. */
  | "none";

/** A relation as the stream sends it now, over the table that it belongs to. */
export interface StreamRelation {
  readonly table: StreamTable;
  readonly consolidation: Consolidation;
  readonly columnCount: number;
  /** Relation column to index in `table.columns`; -1: not mirrored. */
  readonly planOf: Int32Array;
  /** Relation columns of the identity, ascending. Empty without one. */
  readonly keyColumns: Int32Array;
  /** Old tuples carry every column. */
  readonly full: boolean;
  /** What differs from the registered columns, or null. Only a change that counts makes it an error. */
  readonly mismatch: string | null;
}

/** Maps a Relation message to its table. */
export function mapRelation(relation: Relation, table: StreamTable): StreamRelation {
  const planIndexes = new Map(table.columns.map((plan, index) => [plan.source.name, index]));
  const keys = new Set(table.identity.kind === "none" ? [] : table.identity.columns);
  const keyColumns = relation.columns.flatMap((column, index) => (keys.has(column.name) ? [index] : []));
  return {
    table,
    consolidation: keyColumns.length > 0 ? "identity" : "none",
    columnCount: relation.columns.length,
    planOf: Int32Array.from(relation.columns, (column) => planIndexes.get(column.name) ?? -1),
    keyColumns: Int32Array.from(keyColumns),
    full: relation.replicaIdentity === "f",
    mismatch: findMismatch(relation, table, keys),
  };
}

// Columns that the relation has and the table does not are columns that the config leaves out, or new ones: which of
// the two is told by the registered columns being all there or not, and new ones by discovery.
function findMismatch(relation: Relation, table: StreamTable, keys: ReadonlySet<string>): string | null {
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
  for (const key of keys) if (!byName.has(key)) return `identity column ${JSON.stringify(key)} is not published`;
  const full = relation.replicaIdentity === "f";
  if (full !== (table.identity.kind === "full")) return "its replica identity changed";
  return null;
}
