// Whether what a stream made durable is what the source has.
import assert from "node:assert/strict";
import type { Client } from "pg";
import { type Lsn, parseLsn } from "../../src/base/lsn.ts";
import type { StreamTable } from "../../src/stream/stream-table.ts";
import type { TestDatabase } from "./postgres.ts";
import { sortedRows, type TableState } from "./stream-log.ts";
import { applyBatch, type StreamLog } from "./stream-run.ts";

/** A position behind all that was written until now. */
export async function mark(client: Client): Promise<Lsn> {
  const { rows } = await client.query<{ lsn: string }>("select pg_logical_emit_message(true, 'test', '') as lsn");
  return parseLsn(rows[0]!.lsn);
}

/** The source's rows as texts, as `sortedRows` gives the mirror's. */
export async function sourceRows({ client }: TestDatabase, table: StreamTable): Promise<string[]> {
  const columns = table.columns.map(({ source }) => `"${source.name}"::text`).join(", ");
  const { rows } = await client.query<{ row: (string | null)[] }>(`select array[${columns}] as row from ${table.name}`);
  return rows.map(({ row }) => JSON.stringify(row)).sort();
}

/** The rows of all files are the source's, as texts. */
export async function compare(database: TestDatabase, log: StreamLog): Promise<void> {
  const states = new Map<StreamTable, TableState>();
  for (const batch of log.batches) {
    for (const [table, rows] of await log.rows(batch)) {
      states.set(table, applyBatch(table, states.get(table) ?? new Map(), rows));
    }
  }
  for (const table of log.tables.values()) {
    assert.deepEqual(sortedRows(states.get(table) ?? new Map()), await sourceRows(database, table), table.name);
  }
}
