// Makes the files of a mirrored table with DuckDB, by the layout of design.md, so that what reads them can be tested
// without a server. Values are SQL expressions.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type OpenDuckDB, openDuckDB } from "../../src/query/duckdb.ts";
import type { MirrorColumn, MirrorFile, MirrorIdentity, MirrorTable } from "../../src/query/mirror-table.ts";

/** Expressions by the column's name in the file; what is left out is NULL. */
export type Values = Readonly<Record<string, string>>;

export interface Change {
  readonly lsn: number;
  readonly op: "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE";
  readonly row?: Values;
  readonly old?: Values;
  readonly unchanged?: readonly string[];
  readonly exact?: Readonly<Record<string, string>>;
}

export interface CopyRow {
  readonly row: Values;
  readonly exact?: Readonly<Record<string, string>>;
}

export class MirrorFiles {
  readonly folder: string;
  readonly #duckdb: OpenDuckDB;
  readonly #versions: MirrorColumn[][] = [];
  readonly #files: MirrorFile[] = [];
  #sequence = 0;

  private constructor(folder: string, duckdb: OpenDuckDB) {
    this.folder = folder;
    this.#duckdb = duckdb;
  }

  static async create(): Promise<MirrorFiles> {
    return new MirrorFiles(await mkdtemp(join(tmpdir(), "pg-flo-mirror-")), await openDuckDB({ threads: "1" }));
  }

  /** Starts a schema version: columns as `name type`, or whole. Files written after belong to it. */
  version(columns: readonly (readonly [name: string, type: string, more?: Partial<MirrorColumn>])[]): void {
    this.#versions.push(
      columns.map(([name, type, more]) => ({ name, fileName: name, typeName: type, duckdbType: type, ...more })),
    );
  }

  async copy(rows: readonly CopyRow[]): Promise<void> {
    const columns = [...this.#own(), ["_pg_flo_exact", "VARCHAR"] as const];
    const values = rows.map(({ row, exact }) => ({ ...row, _pg_flo_exact: textOf(exact && JSON.stringify(exact)) }));
    await this.#write("copy", columns, values, null);
  }

  async stream(changes: readonly Change[]): Promise<void> {
    const own = this.#own();
    const columns = [
      ...own,
      ["_pg_flo_operation", "VARCHAR"] as const,
      ["_pg_flo_lsn", "BIGINT"] as const,
      ["_pg_flo_sequence", "BIGINT"] as const,
      ["_pg_flo_xid", "BIGINT"] as const,
      ["_pg_flo_timestamp", "TIMESTAMP WITH TIME ZONE"] as const,
      ["_pg_flo_schema", "VARCHAR"] as const,
      ["_pg_flo_table", "VARCHAR"] as const,
      ["_pg_flo_unchanged", "VARCHAR[]"] as const,
      ["_pg_flo_exact", "VARCHAR"] as const,
      ...own.map(([name, type]) => [`_old_${name}`, type] as const),
    ];
    const values = changes.map((change) => ({
      ...change.row,
      _pg_flo_operation: textOf(change.op),
      _pg_flo_lsn: String(change.lsn),
      _pg_flo_sequence: String(this.#sequence++),
      _pg_flo_xid: String(change.lsn),
      _pg_flo_timestamp: "TIMESTAMPTZ '2024-01-01 00:00:00+00'",
      _pg_flo_schema: "'public'",
      _pg_flo_table: "'t'",
      _pg_flo_unchanged: change.unchanged ? `[${change.unchanged.map(textOf).join(", ")}]` : "NULL",
      _pg_flo_exact: textOf(change.exact && JSON.stringify(change.exact)),
      ...Object.fromEntries(Object.entries(change.old ?? {}).map(([name, value]) => [`_old_${name}`, value])),
    }));
    const lsns = changes.map((change) => change.lsn);
    await this.#write("stream", columns, values, [BigInt(Math.min(...lsns)), BigInt(Math.max(...lsns))]);
  }

  /** The table as the manifest would tell it. */
  table(identity: MirrorIdentity, more: Partial<MirrorTable> = {}): MirrorTable {
    const versions = this.#versions.map((columns, at) => ({ schemaVersion: at + 1, columns }));
    return {
      ...{ schema: "public", name: "t", identity, cutLsn: null, position: null, versions, files: [...this.#files] },
      ...more,
    };
  }

  /** All rows as arrays of DuckDB's texts (null for NULL), sorted unless the query's order is the point. */
  async rows(
    sql: string,
    order: "sorted" | "as they come" = "sorted",
  ): Promise<readonly (readonly (string | null)[])[]> {
    const reader = await this.#duckdb.connection.runAndReadAll(`SELECT COLUMNS(*)::VARCHAR FROM (${sql})`);
    const rows = reader.getRows() as (string | null)[][];
    return order === "sorted" ? rows.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : rows;
  }

  /** Column names and types of a query. */
  async describe(sql: string): Promise<readonly (readonly [string, string])[]> {
    const reader = await this.#duckdb.connection.runAndReadAll(`DESCRIBE ${sql}`);
    return reader.getRows().map((row) => [String(row[0]), String(row[1])] as const);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#duckdb.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  #own(): readonly (readonly [string, string])[] {
    return (this.#versions.at(-1) ?? []).map((column) => [column.fileName, column.duckdbType] as const);
  }

  async #write(
    kind: "copy" | "stream",
    columns: readonly (readonly [string, string])[],
    rows: readonly Values[],
    lsns: readonly [bigint, bigint] | null,
  ): Promise<void> {
    const path = join(this.folder, `${kind}-${this.#files.length + 1}.parquet`);
    const typed = columns.map(([name, type], at) => `v${at}::${type} AS "${name.replaceAll('"', '""')}"`).join(", ");
    const names = columns.map((_, at) => `v${at}`).join(", ");
    const nulls = columns.map(() => "NULL").join(", ");
    const lists = rows.map((row) => `(${columns.map(([name]) => row[name] ?? "NULL").join(", ")})`);
    const source = `(VALUES ${lists.length > 0 ? lists.join(", ") : `(${nulls})`}) AS rows(${names})`;
    const sql = `SELECT ${typed} FROM ${source}${lists.length > 0 ? "" : " WHERE false"}`;
    await this.#duckdb.connection.run(`COPY (${sql}) TO '${path.replaceAll("'", "''")}' (FORMAT parquet)`);
    const [lsnStart, lsnEnd] = lsns ?? [null, null];
    this.#files.push({ kind, path, schemaVersion: this.#versions.length, lsnStart, lsnEnd });
  }
}

function textOf(text: string | undefined): string {
  return text === undefined ? "NULL" : `'${text.replaceAll("'", "''")}'`;
}
