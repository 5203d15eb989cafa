// A DuckDB of its own for one comparison: reads the files, holds both sides, and spills to a temporary folder.
import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";

/** What a query gives: text, numbers (bigint for BIGINT) and NULL are all that is asked for here. */
export type Cell = string | bigint | number | boolean | null;

export class ScratchDatabase implements AsyncDisposable {
  readonly #connection: DuckDBConnection;
  readonly #close: () => Promise<void>;

  private constructor(connection: DuckDBConnection, close: () => Promise<void>) {
    this.#connection = connection;
    this.#close = close;
  }

  static async open(settings: Readonly<Record<string, string>> = {}): Promise<ScratchDatabase> {
    // Loaded when first needed: a worker must not pay for it.
    const { DuckDBInstance } = await import("@duckdb/node-api");
    // DuckDB makes it when it first spills, so that a process that is killed leaves nothing, most of the time.
    const spill = join(tmpdir(), `pg-flo-verify-${randomUUID()}`);
    const limit = process.constrainedMemory();
    const memory = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
    const instance = await DuckDBInstance.create(":memory:", {
      memory_limit: `${Math.max(256, Math.floor(memory / 2 / 2 ** 20))}MiB`,
      temp_directory: spill,
      preserve_insertion_order: "false",
      autoinstall_known_extensions: "false",
      ...settings,
    });
    const connection = await instance.connect();
    const close = async () => {
      connection.closeSync();
      instance.closeSync();
      await rm(spill, { recursive: true, force: true });
    };
    try {
      await connection.run("SET TimeZone = 'UTC'");
      await connection.run("SET enable_geoparquet_conversion = false"); // a geometry is its WKB
    } catch (error) {
      await close();
      throw error;
    }
    return new ScratchDatabase(connection, close);
  }

  async run(sql: string): Promise<void> {
    await this.#connection.run(sql);
  }

  /** All rows at once: for small results. */
  async rows(sql: string): Promise<readonly (readonly Cell[])[]> {
    return (await this.#connection.runAndReadAll(sql)).getRows() as Cell[][];
  }

  /** Rows in batches as they are made. */
  async *stream(sql: string): AsyncGenerator<readonly (readonly Cell[])[]> {
    const result = await this.#connection.stream(sql);
    for (let chunk = await result.fetchChunk(); chunk && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
      yield chunk.getRows() as Cell[][];
    }
  }

  /** Appends to a table of one VARCHAR column. */
  async append(table: string, batches: AsyncIterable<readonly string[]> | Iterable<readonly string[]>): Promise<void> {
    const appender = await this.#connection.createAppender(table);
    try {
      for await (const texts of batches) {
        for (const text of texts) {
          appender.appendVarchar(text);
          appender.endRow();
        }
      }
    } finally {
      appender.closeSync();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
