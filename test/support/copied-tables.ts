// Copies tables that Postgres filled, and what it prints of them.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type pg from "pg";
import type { Lsn } from "../../src/base/lsn.ts";
import { copyRange } from "../../src/copy/range-copy.ts";
import { connect } from "../../src/postgres/connect.ts";
import { takeOver } from "../../src/postgres/raw-connection.ts";
import { openLocalStorage } from "../../src/storage/local.ts";
import type { ColumnPlan } from "../../src/types/registry.ts";

/** What the types' output functions give, in the order that COPY reads the table. */
export async function printedValues(client: pg.Client, table: string, columns = "*"): Promise<(string | null)[][]> {
  const asTheyAre = { getTypeParser: () => (text: string) => text };
  const query = { text: `select ${columns} from ${table} order by ctid`, rowMode: "array", types: asTheyAre } as const;
  return (await client.query(query)).rows as (string | null)[][];
}

/** The only file that copying the whole table gives. */
export async function copyTable(
  config: Parameters<typeof connect>[0],
  folder: string,
  table: string,
  columns: readonly ColumnPlan[],
  rowCount: number,
): Promise<Uint8Array> {
  const raw = takeOver(await connect(config, { applicationName: "test", statementTimeoutMs: 0 }));
  try {
    const range = {
      ...{ group: "g", schema: "public", table, heapSchema: "public", heapName: table, rangeNumber: 1 },
      ...{ blockFrom: 0, blockTo: null, columns, schemaVersion: 1, snapshotLsn: 0n as Lsn, fileSizeBytes: 1 << 30 },
      compression: "zstd" as const,
    };
    const copied = await copyRange(raw, openLocalStorage(folder), range, { rowCount: 0, sizeBytes: 0 });
    const { files, rowCount: copiedRows } = await copied.finish();
    assert.equal(copiedRows, rowCount);
    assert.equal(files.length, 1);
    return await readFile(join(folder, files[0]!.path));
  } finally {
    await raw.close();
  }
}
