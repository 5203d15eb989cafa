// Brings the tables of a running stream in line with those that are registered now: what came is dropped until it has a
// cut, what went is dropped from now on, and the others go on as if nothing had happened.
import type { StreamTable } from "./stream-table.ts";

/**
 * Changes `tables` (by relation OID) to `wanted`, which may be older than what the stream knows by itself: a cut that it
 * took, a generation that it was told. A table that goes on keeps its definition: another one holds from a place in the
 * log on, not from now. Files for a table that is gone from here are refused by the metadata. Gives the relations that
 * another table, or none, stands for now.
 */
export function changeTables(
  tables: Map<number, StreamTable>,
  wanted: ReadonlyMap<number, StreamTable>,
): ReadonlySet<number> {
  const oids = new Set<number>();
  for (const [oid, table] of tables) {
    const now = wanted.get(oid);
    if (now && now.tableId === table.tableId && now.generation <= table.generation) {
      if (now.generation === table.generation)
        Object.assign(table, { wants: now.wants, exactOnly: now.exactOnly === true });
      continue;
    }
    table.cut = "unknown"; // for what is under way, and for a cut that is about to be taken
    tables.delete(oid);
    oids.add(oid);
  }
  for (const [oid, table] of wanted) {
    if (tables.has(oid)) continue;
    tables.set(oid, table);
    oids.add(oid);
  }
  return oids;
}
