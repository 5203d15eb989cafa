// The only place of the reading side that knows DuckDB's package. It is loaded when first needed: the library costs
// memory and start time that a worker must not pay.
import type { DuckDBConnection, DuckDBInstance, DuckDBResult, DuckDBValue } from "@duckdb/node-api";

export type DuckDB = DuckDBConnection;
export type ResultStream = DuckDBResult;
export type Value = DuckDBValue;

export interface OpenDuckDB {
  readonly connection: DuckDB;
  readonly close: () => void;
}

/** An in-memory database. Options are DuckDB's settings: https://duckdb.org/docs/stable/configuration/overview */
export async function openDuckDB(settings: Readonly<Record<string, string>>): Promise<OpenDuckDB> {
  const { DuckDBInstance } = await import("@duckdb/node-api");
  const instance: DuckDBInstance = await DuckDBInstance.create(":memory:", { ...settings });
  const connection = await instance.connect();
  // A geometry is its WKB everywhere, also in `_old_` columns, which GeoParquet's metadata does not name.
  await connection.run("SET enable_geoparquet_conversion = false");
  return {
    connection,
    close: () => {
      connection.closeSync();
      instance.closeSync();
    },
  };
}

/** Whether a text is exactly one SELECT statement. Throws DuckDB's error for wrong SQL. */
export async function isOneSelect(connection: DuckDB, sql: string): Promise<boolean> {
  const { StatementType } = await import("@duckdb/node-api");
  const statements = await connection.extractStatements(sql);
  if (statements.count !== 1) return false;
  const prepared = await statements.prepare(0);
  const select = prepared.statementType === StatementType.SELECT;
  prepared.destroySync();
  return select;
}

/** Rows in batches as DuckDB makes them (2,048 at most), so that a big result is never held whole. */
export async function* rowBatches(result: ResultStream): AsyncGenerator<readonly (readonly Value[])[]> {
  for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
    yield chunk.getRows();
  }
}
