// Reading files of several schema versions as one table, for mirror-sql.ts, by docs/files.md ("Schema versions") and by
// nothing of src/query; and values of the source as texts that DuckDB reads back.
import { join } from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import type { Client } from "pg";
import type { ManifestRow } from "./manifest-check.ts";

export interface Column {
  readonly name: string;
  readonly fileName: string;
  readonly attnum: number;
  /** What rows have that are older than the column, as Postgres prints it. */
  readonly missing?: string;
}

export interface Reader {
  readonly duckdb: DuckDBConnection;
  readonly root: string;
  readonly files: readonly ManifestRow[];
  readonly source: Client;
  readonly metadata: Client;
  readonly group: string;
  readonly folder: string;
}

export async function rowsOf(duckdb: DuckDBConnection, sql: string): Promise<Record<string, unknown>[]> {
  try {
    return (await duckdb.runAndReadAll(sql)).getRowObjects() as Record<string, unknown>[];
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${sql.slice(0, 2000)}`);
  }
}

/**
 * A SELECT over files of one kind: a column has the newest version's name, whatever it was called, and files that are
 * older than it have its default of then.
 */
export async function scan(
  reader: Reader,
  table: { readonly schema: string; readonly name: string },
  files: readonly ManifestRow[],
  columns: readonly Column[],
): Promise<string> {
  const { metadata, group, root, duckdb } = reader;
  const { rows } = await metadata.query<{ version: number; columns: Column[] }>(
    `select v.schema_version as version, v.columns from _pg_flo.tables t join _pg_flo.table_versions v using (table_id)
     where t.group_name = $1 and t.schema_name = $2 and t.table_name = $3`,
    [group, table.schema, table.name],
  );
  const missing = await missingLiterals(reader, table, files, columns);
  const branches: string[] = [];
  for (const { version, columns: there } of rows) {
    const paths = files.filter(({ schemaVersion }) => schemaVersion === version).map(({ path }) => join(root, path));
    if (paths.length === 0) continue;
    const list = paths.map((path) => `'${path.replaceAll("'", "''")}'`).join(", ");
    const source = `read_parquet([${list}], union_by_name = true)`;
    const has = new Set(
      (await rowsOf(duckdb, `DESCRIBE SELECT * FROM ${source}`)).map((row) => String(row.column_name)),
    );
    const cells = columns.flatMap((column) => {
      const older = there.find(({ attnum }) => attnum === column.attnum);
      return ["", "_old_"].flatMap((prefix) => {
        const target = quote(`${prefix}${column.fileName}`);
        if (!older)
          return prefix === "" || has.has("_pg_flo_lsn") ? [`${missing.get(column) ?? "NULL"} AS ${target}`] : [];
        const name = `${prefix}${older.fileName}`;
        return has.has(name) ? [`${quote(name)} AS ${target}`] : [];
      });
    });
    const renamed = columns.flatMap((column) => {
      const older = there.find(({ attnum }) => attnum === column.attnum);
      const text = (name: string) => `'${name.replaceAll("'", "''")}'`;
      return older ? [`WHEN ${text(older.name)} THEN ${text(column.name)}`] : [];
    });
    const own = [...has].filter((name) => name.startsWith("_pg_flo_") && name !== "_pg_flo_unchanged").map(quote);
    const unchanged = has.has("_pg_flo_unchanged")
      ? [`list_transform(_pg_flo_unchanged, lambda u: CASE u ${renamed.join(" ")} ELSE u END) AS _pg_flo_unchanged`]
      : [];
    branches.push(`SELECT ${[...cells, ...own, ...unchanged].join(", ")} FROM ${source}`);
  }
  // The newest first: DuckDB takes its types, and a default that is given as text becomes one of them.
  return `(${branches.reverse().join(" UNION ALL BY NAME ")})`;
}

/** As SQL, of the type that the newest files have. */
async function missingLiterals(
  { source, root, duckdb }: Reader,
  { schema, name }: { readonly schema: string; readonly name: string },
  files: readonly ManifestRow[],
  columns: readonly Column[],
): Promise<Map<Column, string>> {
  const literals = new Map<Column, string>();
  const newest = files.filter((file) => file.schemaVersion === Math.max(...files.map((each) => each.schemaVersion)));
  for (const column of columns.filter(({ missing }) => missing !== undefined)) {
    const path = newest[0] && join(root, newest[0].path).replaceAll("'", "''");
    const described = path ? await rowsOf(duckdb, `DESCRIBE SELECT * FROM read_parquet('${path}')`) : [];
    const type = String(described.find((row) => row.column_name === column.fileName)?.column_type ?? "VARCHAR");
    const own = (await sourceColumns(source, schema, name)).find((each) => each.name === column.name)!;
    const { rows } = await source.query(
      `select ${sourceExpression("x", own, type)} as text from (select $1::${own.type} as x) x`,
      [column.missing],
    );
    literals.set(column, duckExpression(`'${String(rows[0].text).replaceAll("'", "''")}'`, type));
  }
  return literals;
}

export interface SourceColumn {
  readonly name: string;
  readonly type: string;
  readonly composite: boolean;
}

export async function sourceColumns(source: Client, schema: string, name: string): Promise<SourceColumn[]> {
  const { rows } = await source.query(
    `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, t.typtype = 'c' as composite
     from pg_attribute a join pg_type t on t.oid = a.atttypid
     join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped order by a.attnum`,
    [schema, name],
  );
  return rows;
}

/** Text that DuckDB reads back as its type, made by the source. */
export function sourceExpression(column: string, source: SourceColumn, type: string): string {
  if (source.composite) return `to_json(${column})::text`;
  if (type === "BLOB") return `encode(${column}, 'hex')`;
  if (type.endsWith("[]")) return `to_json(${column})::text`;
  if (/^(character\(|bpchar)/.test(source.type)) return `rtrim(${column}::text, ' ')`;
  return `${column}::text`;
}

export function duckExpression(column: string, type: string): string {
  if (type === "BLOB") return `unhex(${column})`;
  if (type.endsWith("[]")) return `CAST(CAST(${column} AS JSON) AS ${type})`;
  return `CAST(${column} AS ${type})`;
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
