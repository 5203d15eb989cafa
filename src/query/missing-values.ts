// What rows have that are older than a column (`missing` of a column): the value in DuckDB's words, exactly as files have
// it, because the same encoder writes it into a file of one row, which DuckDB reads.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createdBy } from "../base/version.ts";
import { Compressor } from "../parquet/compressor.ts";
import { ParquetFileWriter } from "../parquet/file-writer.ts";
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import { planColumns } from "../types/registry.ts";
import { EXACT_COLUMN, ExactColumn } from "../types/row-encoder.ts";
import type { DuckDB } from "./duckdb.ts";
import { quoteName, quoteText } from "./scan-sql.ts";

export interface MissingValue {
  /** As DuckDB prints it; null for NULL. */
  readonly text: string | null;
  /** The exact text of a value that a file cannot hold. */
  readonly exact: string | null;
}

/** Of each column that has one, by the column itself. */
export async function missingValues(
  connection: DuckDB,
  columns: readonly SourceColumn[],
  types: ReadonlyMap<number, PgType>,
): Promise<Map<SourceColumn, MissingValue>> {
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-missing-"));
  const found = new Map<SourceColumn, MissingValue>();
  try {
    await connection.run("SET TimeZone = 'UTC'");
    for (const [index, column] of columns.entries()) {
      if (column.missing === undefined) continue;
      const path = join(folder, `${index}.parquet`);
      const name = await writeOne(path, column, column.missing, types);
      const sql = `SELECT ${quoteName(name)}::VARCHAR, _pg_flo_exact FROM read_parquet(${quoteText(path)})`;
      const [text, exact] = (await connection.runAndReadAll(sql)).getRows()[0] as [string | null, string | null];
      const texts = exact === null ? {} : (JSON.parse(exact) as Record<string, string>);
      found.set(column, { text, exact: texts[column.name] ?? null });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return found;
}

/** A file with this one value. Gives the column's name in it. */
async function writeOne(
  path: string,
  column: SourceColumn,
  text: string,
  types: ReadonlyMap<number, PgType>,
): Promise<string> {
  const [plan] = planColumns([column], types);
  const pieces: Uint8Array[] = [];
  const sink = { write: async (bytes: Uint8Array) => void pieces.push(bytes.slice()) };
  const options = { rowGroupBytes: 1024 * 1024, createdBy, compressor: new Compressor("zstd") };
  const writer = new ParquetFileWriter(sink, [plan!.parquet, EXACT_COLUMN], options);
  const value = plan!.binary ? plan!.parse(text) : new TextEncoder().encode(text);
  const bytes = new Uint8Array(4 + value.length);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, value.length);
  bytes.set(value, 4);
  const exact = new ExactColumn(writer.columns[1]!);
  const cells = { bytes, view, positions: Int32Array.of(0), count: 1 };
  exact.encode({ name: column.name, leaves: writer.columns[0]!, encode: plan!.encode }, cells);
  exact.endRows(1);
  await writer.endRows(1);
  await writer.finish(new Map());
  await writeFile(path, Buffer.concat(pieces));
  return plan!.fileName;
}
