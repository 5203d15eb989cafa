// Whether the rest of a table's ranges may be read under a later snapshot than the first ones. Pure.
//
// The stream's changes since the first cut are applied over all ranges, so it takes an identity to tell which row a
// change means. A row that moved between ranges must be whole in the log, or be read again by its identity where it has
// TOASTed values that were not touched (complete-unchanged.ts).
import type { MeasuredHeap } from "../copy/plan.ts";
import type { Table } from "../metadata/tables.ts";
import type { HeapRelation, PgType, SourceColumn } from "../postgres/catalog.ts";
import { baseType } from "../types/registry.ts";
import type { StoredHeap } from "./copy-plan.ts";

/** Null when a table's ranges may be read under several snapshots, else why not. */
export function oneSnapshotReason(
  table: Pick<Table, "stream" | "identity" | "columns">,
  heaps: readonly HeapRelation[],
  types: ReadonlyMap<number, PgType>,
): string | null {
  const { identity } = table;
  if (table.stream === null) return "no changes follow its copy";
  if (identity.kind === "none" || identity.columns.length === 0) return "it has no key";
  if (!heaps.some(({ hasToast }) => hasToast)) return null;
  const key = new Set(identity.columns);
  const strange = table.columns.find((column) => key.has(column.name) && !canLookUp(column, types));
  return strange ? `it has TOASTed values, and rows cannot be looked up by a key of type ${strange.typeName}` : null;
}

/** Null when the heaps are those that the ranges were planned for. */
export function changedHeaps(
  table: Pick<Table, "rangesTotal">,
  measured: readonly MeasuredHeap[],
  planned: readonly StoredHeap[],
): string | null {
  if (table.rangesTotal === null) return null; // nothing was read yet
  const now = new Map(measured.map((heap) => [heap.oid, heap.relfilenode]));
  if (planned.some((heap) => now.get(heap.oid) !== heap.relfilenode)) return "it was rewritten since";
  if (planned.length !== measured.length) return "its partitions changed";
  return null;
}

/**
 * Types whose value in a file, as text, is what the source's input function takes, and whose `=` is found whatever the
 * search_path: bool, bytea, name, int8, int2, int4, text, oid, real, double precision, macaddr8, macaddr, cidr, inet,
 * char(n), varchar, date, time, timestamp, timestamptz, interval, timetz, bit, varbit, numeric, uuid. Enums too.
 */
const lookedUpBy: ReadonlySet<number> = new Set([
  ...[16, 17, 19, 20, 21, 23, 25, 26, 700, 701, 774, 829, 650, 869],
  ...[1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950],
]);

function canLookUp(column: SourceColumn, types: ReadonlyMap<number, PgType>): boolean {
  if (column.anyBytes) return false; // bytes that are no UTF-8 cannot be asked for in a text
  const { oid, type } = baseType(column.typeOid, column.typmod, types);
  // The native profile's INTERVAL is a struct.
  if (column.writtenAs === "native" && [1186].includes(oid)) return false;
  return type?.kind === "e" || lookedUpBy.has(oid);
}
