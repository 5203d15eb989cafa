// What a finished batch of a stream is for the metadata, and for the log.
import type { Batch } from "../metadata/batches.ts";
import type { FinishedFile } from "../stream/batch.ts";
import type { TakenCut } from "../stream/stream-options.ts";
import type { StreamTable } from "../stream/stream-table.ts";
import { InexactCounts } from "../types/inexact-counts.ts";

/** Of a batch, in its line of the log. */
const LOGGED_TABLES = 20;

export function batchContent(
  files: readonly FinishedFile[],
  cut: TakenCut | null,
  changes: ReadonlyMap<StreamTable, number>,
): Pick<Batch, "files" | "tableCounters" | "newVersions" | "cut"> {
  const counters = new Map<StreamTable, { rows: number; inexact: InexactCounts }>();
  for (const table of changes.keys()) counters.set(table, { rows: 0, inexact: new InexactCounts() });
  for (const { table, rowCount, inexact } of files) {
    const counter = counters.get(table) ?? { rows: 0, inexact: new InexactCounts() };
    counter.rows += rowCount;
    counter.inexact.add(inexact);
    counters.set(table, counter);
  }
  return {
    files: files.map(({ table, path, rowCount, sizeBytes, checksum, lsnStart, lsnEnd }) => {
      const { tableId, generation, schemaVersion } = table;
      return { tableId, generation, schemaVersion, path, rowCount, sizeBytes, checksum, lsnStart, lsnEnd };
    }),
    tableCounters: [...counters].map(([table, { rows, inexact }]) => ({
      tableId: table.tableId,
      generation: table.generation,
      operations: changes.get(table) ?? 0,
      rows,
      inexactColumns: inexact.byColumn,
    })),
    newVersions: [],
    ...(cut && { cut: { tables: cut.tables, lsn: cut.lsn } }),
  };
}

/** For the log: what came in and went out, by table, as `public.orders 1000 to 1`. */
export function batchFigures(files: readonly FinishedFile[], changes: ReadonlyMap<StreamTable, number>) {
  const rows = new Map<StreamTable, number>();
  for (const { table, rowCount } of files) rows.set(table, (rows.get(table) ?? 0) + rowCount);
  const names = [...changes].slice(0, LOGGED_TABLES).map(([table, count]) => {
    return `${table.schema}.${table.name} ${count} to ${rows.get(table) ?? 0}`;
  });
  return {
    files: files.length,
    changes: [...changes.values()].reduce((sum, count) => sum + count, 0),
    rows: [...rows.values()].reduce((sum, count) => sum + count, 0),
    tables: `${names.join(", ")}${changes.size > LOGGED_TABLES ? ", …" : ""}`,
  };
}
