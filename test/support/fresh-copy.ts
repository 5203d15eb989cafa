// What the views of `query` show, in the same process, and whether a fresh copy of the source shows the same.
import assert from "node:assert/strict";
import { readManifest } from "../../src/metadata/status.ts";
import { readTypes } from "../../src/postgres/catalog.ts";
import { openDuckDB } from "../../src/query/duckdb.ts";
import { localFiles } from "../../src/query/file-source.ts";
import { manifestTables } from "../../src/query/manifest-tables.ts";
import { stateSql } from "../../src/query/state-sql.ts";
import { compareTables } from "../../src/verify/compare.ts";
import { makeFailpointRun } from "./failpoint-run.ts";
import type { TestDatabase } from "./postgres.ts";

export interface Shown {
  /** Names and types of the columns. */
  readonly columns: readonly string[];
  /** As JSON, sorted. */
  readonly rows: readonly string[];
}

/** Every table of a group as its view shows it, by `schema.name`. */
export async function shownTables(database: TestDatabase, root: string, group: string): Promise<Map<string, Shown>> {
  const { client } = database;
  const manifest = await readManifest(client, group);
  const tables = await manifestTables(
    { ...manifest, tables: manifest.tables.filter(({ table }) => table.state !== "removed") },
    { files: localFiles(root), readTypes: () => readTypes(client) },
  );
  const { connection, close } = await openDuckDB({ threads: "1" });
  try {
    await connection.run("SET TimeZone = 'UTC'");
    const shown = new Map<string, Shown>();
    for (const table of tables) {
      const sql = stateSql(table);
      const columns = (await connection.runAndReadAll(`DESCRIBE ${sql}`)).getRows();
      const rows = (
        await connection.runAndReadAll(`SELECT to_json(state)::VARCHAR FROM (${sql}) state ORDER BY 1`)
      ).getRows();
      shown.set(`${table.schema}.${table.name}`, {
        columns: columns.map(([name, type]) => `${String(name)} ${String(type)}`),
        rows: rows.map(([row]) => String(row)),
      });
    }
    return shown;
  } finally {
    close();
  }
}

/** Proves a caught-up group against the source, row by row, and against a fresh copy by another group. */
export async function assertLikeFreshCopy(
  database: TestDatabase,
  { root, group, schemas }: { readonly root: string; readonly group: string; readonly schemas?: string },
): Promise<void> {
  const manifest = await readManifest(database.client, group);
  const compared = await compareTables({ source: await database.connect(), manifest, storageRoot: root });
  const unequal = compared.filter(({ equal }) => !equal);
  assert.deepEqual(unequal, [], "not as the source");
  await using fresh = await makeFailpointRun({
    source: database.config,
    group: `${group}_fresh`,
    ...(schemas !== undefined && { schemas }),
  });
  await fresh.restart();
  const expected = await shownTables(database, fresh.root, fresh.group);
  const shown = await shownTables(database, root, group);
  assert.deepEqual([...shown.keys()].sort(), [...expected.keys()].sort());
  for (const [name, { columns, rows }] of expected) {
    assert.deepEqual(shown.get(name)!.columns, columns, name);
    assert.deepEqual(shown.get(name)!.rows, rows, name);
  }
}
