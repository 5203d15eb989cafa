// A database with schema _pg_flo in it, and short ways to a group, a worker and tables for tests of the metadata.
import type pg from "pg";
import { Pool } from "pg";
import { type Lsn, lsn } from "../../src/base/lsn.ts";
import type { TableMode } from "../../src/config/config.ts";
import type { NewFile } from "../../src/metadata/files.ts";
import { registerGroup } from "../../src/metadata/groups.ts";
import { openMetadata } from "../../src/metadata/migrations.ts";
import { metadataSessionOptions, type Queryable } from "../../src/metadata/queryable.ts";
import { registerTables, type WantedTable } from "../../src/metadata/register-tables.ts";
import type { Table, TableColumn } from "../../src/metadata/tables.ts";
import { registerWorker } from "../../src/metadata/workers.ts";
import type { TestDatabase, TestServer } from "./postgres.ts";

export const testLeaseMs = 60_000;

export interface TestMetadata extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
}

/** A new database of the server with an empty schema _pg_flo. */
export async function makeMetadata(server: TestServer, connections = 4): Promise<TestMetadata> {
  const database = await server.createDatabase();
  const { host, port, user, password } = database.config;
  const pool = new Pool({
    host,
    port,
    user,
    password: password ?? "",
    database: database.name,
    max: connections,
    options: metadataSessionOptions,
  });
  pool.on("error", () => {});
  await openMetadata(pool);
  return {
    database,
    pool,
    async [Symbol.asyncDispose]() {
      await pool.end();
      await database[Symbol.asyncDispose]();
    },
  };
}

export async function makeGroup(db: pg.Pool, name: string): Promise<string> {
  await registerGroup(db, { name, systemIdentifier: "7", sourceDatabase: "app", storageUrl: "file:///data" });
  return name;
}

export async function makeWorker(db: pg.Pool, group: string, host = "here"): Promise<string> {
  return registerWorker(db, { group, host, pid: 1 });
}

export function wantedTable(name: string, changes: Partial<WantedTable> = {}): WantedTable {
  const mode: TableMode = changes.mode ?? "copy-and-stream";
  return {
    schema: "public",
    name,
    oid: 16_384,
    mode,
    stream: mode === "copy-only" ? null : 1,
    identity: { kind: "key", columns: ["id"] },
    columns: [tableColumn("id", 1)],
    ...changes,
  };
}

export function tableColumn(name: string, attnum: number): TableColumn {
  return { name, attnum, typeOid: 23, typmod: -1, typeName: "integer", notNull: false, generated: "", fileName: name };
}

/** Registers exactly these tables and gives them in the order that they were asked for. */
export async function makeTables(db: pg.Pool, group: string, wanted: readonly WantedTable[]): Promise<Table[]> {
  const { tables } = await registerTables(db, group, wanted);
  return wanted.map((one) => tables.find((table) => table.schema === one.schema && table.name === one.name)!);
}

export function newFile(
  table: { readonly tableId: number; readonly generation: number },
  path: string,
  changes: Partial<NewFile> = {},
): NewFile {
  return {
    tableId: table.tableId,
    generation: table.generation,
    path,
    schemaVersion: 1,
    rowCount: 10,
    sizeBytes: 1000,
    lsnStart: at(100),
    lsnEnd: at(100),
    checksum: "crc32:00000000",
    ...changes,
  };
}

export function at(position: number): Lsn {
  return lsn(BigInt(position));
}

/** Until some session of the database waits for a lock. */
export async function waitForLock(db: Queryable): Promise<void> {
  for (;;) {
    const waiting = await db.query(
      "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    if (waiting.rows.length > 0) return;
  }
}
