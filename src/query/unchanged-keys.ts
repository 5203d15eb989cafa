// Which rows a span of a table's changes left without the values of TOASTed columns: those whose newest image in the span
// has a value that the log did not carry. Gives their identities as texts that the source's input functions take.
import { join } from "node:path";
import { PgFloError } from "../base/errors.ts";
import { type DuckDB, openDuckDB, rowBatches } from "./duckdb.ts";
import type { FileSource } from "./file-source.ts";
import { queryFailed } from "./mirror.ts";
import { type MirrorFile, type MirrorTable, shownColumns } from "./mirror-table.ts";
import { putOperations, type ScanExtras, type ScannedColumn, scanSql } from "./scan-sql.ts";

export interface UnchangedKeysOptions {
  /**
   * Its cut and its position bound the span. Only its identity's columns are needed, in every version, and its files
   * are stream files.
   */
  readonly table: MirrorTable;
  /** The files, in parts that are opened one after the other. */
  readonly parts: readonly FilesPart[];
  /** For what is too large for memory. */
  readonly folder: string;
}

export interface FilesPart {
  readonly files: readonly MirrorFile[];
  /** Called when it is the part's turn; disposed of behind it. */
  readonly open: () => FileSource & AsyncDisposable;
}

const MEMORY = "256MiB";

/** One array of texts for each identity, in the order of the identity's columns; in batches. */
export async function* unchangedKeys(options: UnchangedKeysOptions): AsyncGenerator<readonly string[][]> {
  const { table, parts, folder } = options;
  const settings = { threads: "1", memory_limit: MEMORY, temp_directory: join(folder, "duckdb") };
  const database = await openDuckDB({ ...settings, autoinstall_known_extensions: "false" });
  try {
    const { connection } = database;
    await connection.run("SET TimeZone = 'UTC'");
    const keys = table.identity.columns.map((_, at) => `k${at}`);
    const columns = keys.map((key) => `${key} VARCHAR`).join(", ");
    await connection.run(`CREATE TABLE touched (${columns}, lsn BIGINT, unchanged BOOLEAN)`);
    for (const part of parts) await readPart(connection, table, part);
    const list = keys.join(", ");
    // An identity has one image at most in a transaction.
    const newest = `SELECT ${list} FROM touched GROUP BY ${list} HAVING arg_max(unchanged, lsn)`;
    for await (const batch of rowBatches(await connection.stream(newest))) {
      yield batch.map((row) => row.map(String));
    }
  } catch (cause) {
    if (cause instanceof PgFloError) throw cause;
    throw queryFailed(`read the changes of table ${table.schema}.${table.name}`, cause);
  } finally {
    database.close();
  }
}

async function readPart(connection: DuckDB, table: MirrorTable, { files, open }: FilesPart): Promise<void> {
  await using source = open();
  const paths = files.map(({ path }) => source.pathOf(path));
  await source.fetch(paths);
  const columns = shownColumns(table);
  const part = { ...table, files: files.map((file, at) => ({ ...file, path: paths[at]! })) };
  const scan = scanSql({ table: part, columns, kind: "stream", at: undefined, extras: keyExtras(table) });
  const keys = table.identity.columns.map((_, at) => `k${at}`).join(", ");
  // A part holds whole transactions only by chance: what is newest is decided over all of them.
  await connection.run(`INSERT INTO touched SELECT ${keys}, max(lsn), arg_max(unchanged, lsn) FROM (${scan})
    WHERE op IN ${putOperations} GROUP BY ${keys}`);
}

function keyExtras({ identity }: MirrorTable): ScanExtras {
  return (columns) => ({
    ...Object.fromEntries(identity.columns.map((_, at) => [`k${at}`, textSql(columns[at]!)])),
    lsn: "_pg_flo_lsn",
    op: "_pg_flo_operation",
    unchanged: "_pg_flo_unchanged IS NOT NULL",
  });
}

function textSql({ value, type, exact }: ScannedColumn): string {
  const text = type === "BLOB" ? `'\\x' || lower(hex(${value}))` : `(${value})::VARCHAR`;
  return `CASE WHEN _pg_flo_exact IS NULL THEN ${text} ELSE coalesce(${exact}, ${text}) END`;
}
