// A mirror opened for reading: an in-memory DuckDB with two views for every table, its state and its history. It only
// runs single SELECT statements, so no query can write to the files. Refuses to guess: names that DuckDB cannot
// tell apart get another name and a notice.
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { PgFloError } from "../base/errors.ts";
import { formatLsn, lsn } from "../base/lsn.ts";
import { changesSql } from "./changes-sql.ts";
import { type DuckDB, isOneSelect, openDuckDB, type ResultStream } from "./duckdb.ts";
import { filesOf, type MirrorTable } from "./mirror-table.ts";
import { quoteName, quoteText } from "./scan-sql.ts";
import { stateSql } from "./state-sql.ts";
import { nameViews, type ViewNames } from "./view-names.ts";

export interface MirrorOptions {
  /** Show every table as it was at this position. */
  readonly at?: bigint;
  /** DuckDB settings over the defaults, e.g. `{ memory_limit: "2GB", threads: "4" }`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Called with the files of a table before a query first reads it. */
  readonly fetch?: (paths: readonly string[]) => Promise<void>;
  /** SQL run first, for storage that DuckDB needs a secret or an extension for. */
  readonly setUp?: readonly string[];
}

export interface Mirror extends AsyncDisposable {
  /** The names of the views of every table, in the order of schema and table. */
  readonly views: readonly ViewNames[];
  /** What a person should know before trusting the answers: renamed views, a position that cannot be shown. */
  readonly notices: readonly string[];
  /**
   * Runs one SELECT; rows come as they are read, never all at once. `wrap` makes the SQL to run from the user's query
   * as a table expression. Throws QUERY_FAILED for wrong SQL and for anything that is not one SELECT.
   */
  query(sql: string, wrap?: (source: string) => string): Promise<ResultStream>;
  /** Writes the result of one SELECT to a local file. Throws QUERY_FAILED when it is a file of the mirror. */
  copyTo(sql: string, path: string, format: "csv" | "parquet"): Promise<void>;
  /** Throws QUERY_FAILED when the path is a file of the mirror, or leads to one. */
  refuseOwnFile(path: string): Promise<void>;
  /** A folder for results on their way out, removed by `close`. */
  readonly folder: string;
  close(): Promise<void>;
}

/** Opens nothing but an empty database: a table's files are first looked at when a query names it. */
export async function openMirror(tables: readonly MirrorTable[], options: MirrorOptions = {}): Promise<Mirror> {
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-query-"));
  const removeFolder = () => rm(folder, { recursive: true, force: true });
  const { views, notices } = nameViews(tables);
  let database: Awaited<ReturnType<typeof openDuckDB>>;
  try {
    database = await openDuckDB({ ...defaultSettings(folder), ...options.settings });
  } catch (cause) {
    await removeFolder();
    throw queryFailed("open DuckDB", cause);
  }
  const { connection } = database;
  const close = async () => {
    database.close();
    await removeFolder();
  };
  try {
    for (const sql of [...(options.setUp ?? []), ...schemasSql(views)]) await connection.run(sql);
  } catch (cause) {
    await close();
    throw queryFailed("set up DuckDB", cause);
  }
  const waiting = new Set(views);
  const readySql = async (sql: string) => {
    for (const view of [...waiting].filter((one) => isNamed(one, sql))) {
      refuseOlderThanHistory(view.table, options.at);
      await options.fetch?.(readFiles(view, options.at));
      await createViews(connection, view, options.at);
      waiting.delete(view);
    }
    const select = await isOneSelect(connection, sql).catch((cause) =>
      Promise.reject(queryFailed("read the query", cause)),
    );
    if (!select) {
      throw new PgFloError("QUERY_FAILED", "the query is not one SELECT statement, and nothing else can be run", {
        fix: "give one SELECT; to write its result use --format and --output",
      });
    }
    return `query(${quoteText(sql)})`;
  };
  const paths = new Set(tables.flatMap((table) => table.files.map((file) => file.path)));
  return {
    views,
    notices: [...notices, ...positionNotices(tables, options.at)],
    folder,
    query: async (sql, wrap = (source) => `FROM ${source}`) => {
      const source = await readySql(sql);
      return connection.stream(wrap(source)).catch((cause) => Promise.reject(queryFailed("run the query", cause)));
    },
    refuseOwnFile: (path) => refuseMirrorFile(path, paths),
    copyTo: async (sql, path, format) => {
      const source = await readySql(sql);
      await refuseMirrorFile(path, paths);
      const details = format === "csv" ? "FORMAT csv, HEADER" : "FORMAT parquet, COMPRESSION zstd";
      await connection
        .run(`COPY (FROM ${source}) TO ${quoteText(path)} (${details})`)
        .catch((cause) => Promise.reject(queryFailed(`write the result to ${path}`, cause)));
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** DuckDB's message is about the user's own query and is passed on whole. */
export function queryFailed(what: string, cause: unknown): PgFloError {
  const fact = cause instanceof Error ? cause.message : String(cause);
  return new PgFloError("QUERY_FAILED", `${what}: ${fact}`, { cause });
}

function defaultSettings(folder: string): Record<string, string> {
  const limit = process.constrainedMemory();
  const memory = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return {
    memory_limit: `${Math.max(256, Math.floor(memory / 2 / 2 ** 20))}MiB`,
    temp_directory: join(folder, "spill"),
    // Row order is not part of any answer without ORDER BY, and keeping it costs memory in big results.
    preserve_insertion_order: "false",
    // A query is no reason to load code from the network.
    autoinstall_known_extensions: "false",
  };
}

/** By real path: a link to a file of the mirror is that file. */
async function refuseMirrorFile(path: string, paths: ReadonlySet<string>): Promise<void> {
  const real = await realpath(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return undefined; // a new file
    throw queryFailed(`write the result to ${path}`, cause);
  });
  if (real === undefined) return;
  for (const file of paths) {
    if (file !== path && file !== real && (await realpath(file).catch(() => file)) !== real) continue;
    throw new PgFloError("QUERY_FAILED", `${path} is a file of the mirror`, {
      fix: "name another file for the result",
    });
  }
}

/** `public` comes first in the search path, so that a table can be named without its schema as in Postgres. */
function schemasSql(views: readonly ViewNames[]): string[] {
  const schemas = [...new Set(views.map((view) => view.schema))];
  const path = [...schemas].sort((a, b) => Number(b === "public") - Number(a === "public"));
  return [
    "SET TimeZone = 'UTC'",
    // Files never change: their footers are read once.
    "SET parquet_metadata_cache = true",
    ...schemas.map((schema) => `CREATE SCHEMA IF NOT EXISTS memory.${quoteName(schema)}`),
    ...(path.length > 0 ? [`SET search_path = ${quoteText(path.map(quoteName).join(","))}`] : []),
  ];
}

async function createViews(connection: DuckDB, view: ViewNames, at: bigint | undefined): Promise<void> {
  const options = at === undefined ? {} : { at };
  const { table } = view;
  try {
    for (const [name, sql] of [
      [view.state, stateSql(table, options)],
      [view.changes, changesSql(table, options)],
    ] as const) {
      await connection.run(`CREATE OR REPLACE VIEW memory.${quoteName(view.schema)}.${quoteName(name)} AS ${sql}`);
    }
  } catch (cause) {
    if (cause instanceof PgFloError) throw cause;
    throw queryFailed(`read the files of ${table.schema}.${table.name}`, cause);
  }
}

function readFiles({ table }: ViewNames, at: bigint | undefined): string[] {
  return [...filesOf(table, "copy", at), ...filesOf(table, "stream", at)].map((file) => file.path);
}

/** A cheap superset of the tables that a query reads: those whose name is in its text, all when it asks for the catalog. */
function isNamed(view: ViewNames, sql: string): boolean {
  const text = sql.toLowerCase();
  if (/\b(show|describe|summarize|information_schema|duckdb_\w+|pg_\w+|sqlite_master)\b/.test(text)) return true;
  return [view.state, view.changes].some((name) => {
    const lower = name.toLowerCase();
    return text.includes(lower) || text.includes(lower.replaceAll('"', '""'));
  });
}

/** Before the base the changes are not there any more: what would be shown is another state. */
function refuseOlderThanHistory({ schema, name, baseLsn = null }: MirrorTable, at: bigint | undefined): void {
  if (at === undefined || baseLsn === null || at >= baseLsn) return;
  const begin = formatLsn(lsn(baseLsn));
  throw new PgFloError(
    "QUERY_FAILED",
    `${schema}.${name}, state at ${formatLsn(lsn(at))}, its history begins at ${begin}: what is older was folded`,
    { fix: `ask for ${begin} or later; how much is kept is set by history` },
  );
}

function positionNotices(tables: readonly MirrorTable[], at: bigint | undefined): string[] {
  if (at === undefined) return [];
  const asked = formatLsn(lsn(at));
  return tables.flatMap(({ schema, name, cutLsn, position }) => {
    if (cutLsn !== null && at < cutLsn - 1n) {
      return [
        `${schema}.${name}: its copy was made at ${formatLsn(lsn(cutLsn))}, its state at ${asked} is not known; the copy is shown`,
      ];
    }
    if (position !== null && at > position) {
      return [`${schema}.${name}: durable up to ${formatLsn(lsn(position))}, not yet to ${asked}; that state is shown`];
    }
    return [];
  });
}
