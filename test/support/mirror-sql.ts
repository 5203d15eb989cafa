// An independent reading of the mirror: SQL in DuckDB over the files that the manifest lists, by the rule of
// docs/query.md and by nothing of src/query, and its comparison with the source, row by row and column by column.
import assert from "node:assert/strict";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import type { Client } from "pg";
import { assertManifest, type ManifestRow, readManifest } from "./manifest-check.ts";
import {
  type Column,
  duckExpression,
  quote,
  type Reader,
  rowsOf,
  scan,
  sourceColumns,
  sourceExpression,
} from "./mirror-scan.ts";

export interface Mirror extends AsyncDisposable {
  readonly files: readonly ManifestRow[];
  /** DuckDB, for questions of one test. */
  rows(sql: string): Promise<Record<string, unknown>[]>;
  /** Makes DuckDB's table `target`: the state of a mirrored table at a position (default: the newest). */
  state(table: TableName, target: string, position?: bigint): Promise<boolean>;
  /** Fails when source and mirror differ in one row or one column. Gives the number of rows. */
  compare(table: TableName): Promise<number>;
}

export interface TableName {
  readonly schema?: string;
  readonly name: string;
  /** Left out of the comparison. */
  readonly without?: readonly string[];
}

export interface MirrorOptions {
  readonly source: Client;
  /** Default: the source. */
  readonly metadata?: Client;
  readonly root: string;
  readonly group?: string;
}

export async function openMirror(options: MirrorOptions): Promise<Mirror> {
  const { source, metadata = source, root, group = "app" } = options;
  const instance = await DuckDBInstance.create(":memory:", { threads: "2" });
  const duckdb = await instance.connect();
  await duckdb.run("SET TimeZone = 'UTC'");
  const files = await readManifest(metadata, group);
  const folder = await mkdtemp(join(tmpdir(), "pg-flo-compare-"));
  await chmod(folder, 0o777); // the server writes its rows here, as another user
  const reader = { duckdb, root, files, source, metadata, group, folder };
  return {
    files,
    rows: (sql) => rowsOf(duckdb, sql),
    state: (table, target, position) => makeState(reader, table, target, position),
    compare: (table) => compare(reader, table),
    async [Symbol.asyncDispose]() {
      duckdb.closeSync();
      instance.closeSync();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Compares all of these tables in one reading of the manifest, and checks the manifest. */
export async function assertEqualToSource(options: MirrorOptions, tables: readonly TableName[]): Promise<void> {
  await using mirror = await openMirror(options);
  await assertManifest(mirror.files, options.root);
  for (const table of tables) await mirror.compare(table);
}

async function readCut({ metadata, group }: Reader, schema: string, name: string): Promise<bigint> {
  const { rows } = await metadata.query(
    "select cut_lsn from _pg_flo.tables where group_name = $1 and schema_name = $2 and table_name = $3",
    [group, schema, name],
  );
  return BigInt(rows[0].cut_lsn);
}

/** The mirrored columns in order, by the newest definition that the metadata knows. */
async function readColumns({ metadata, group }: Reader, schema: string, name: string): Promise<Column[]> {
  const { rows } = await metadata.query(
    `select v.columns from _pg_flo.tables t join _pg_flo.table_versions v using (table_id, schema_version)
     where t.group_name = $1 and t.schema_name = $2 and t.table_name = $3`,
    [group, schema, name],
  );
  assert.equal(rows.length, 1, `table ${schema}.${name} is not registered`);
  return rows[0].columns;
}

/** The columns by which the log names a row: asked of the source, not of pg-flo. */
async function readKey({ source }: Reader, schema: string, name: string): Promise<string[]> {
  const { rows } = await source.query<{ columns: string[] }>(
    `select array(select a.attname::text from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality k(attnum, n)
         join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum order by n) as columns
     from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_index i on i.indrelid = c.oid
     where n.nspname = $1 and c.relname = $2 and c.relreplident <> 'n'
       and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end`,
    [schema, name],
  );
  return rows[0]?.columns ?? [];
}

/** False when there is no file at all: the state is empty, and its types are not known. */
async function makeState(reader: Reader, table: TableName, target: string, position?: bigint): Promise<boolean> {
  const { duckdb, files } = reader;
  const schema = table.schema ?? "public";
  const own = files.filter((file) => file.schema === schema && file.table === table.name);
  const list = (kind: string) => own.filter((file) => file.kind === kind);
  const [copies, streams] = [list("copy"), list("stream")];
  await duckdb.run(`DROP TABLE IF EXISTS ${target}`);
  if (copies.length + streams.length === 0) return false;
  const columns = await readColumns(reader, schema, table.name);
  const fileNames = new Map(columns.map((column) => [column.name, column.fileName]));
  const key = (await readKey(reader, schema, table.name)).map((name) => fileNames.get(name)!);
  const all = columns.map((column) => quote(column.fileName)).join(", ");
  const read = (chosen: readonly ManifestRow[]) => scan(reader, { schema, name: table.name }, chosen, columns);
  if (streams.length === 0) {
    await rowsOf(duckdb, `CREATE TABLE ${target} AS SELECT ${all} FROM ${await read(copies)}`);
    return true;
  }
  const until = position === undefined ? "" : ` AND _pg_flo_lsn <= ${position}`;
  const cut = ` WHERE _pg_flo_lsn >= ${await readCut(reader, schema, table.name)}`;
  await duckdb.run("DROP TABLE IF EXISTS changes; DROP TABLE IF EXISTS copied");
  await rowsOf(
    duckdb,
    `CREATE TABLE changes AS SELECT *, row_number() OVER () AS rid FROM ${await read(streams)}${cut}${until}`,
  );
  const from = copies.length > 0 ? await read(copies) : "changes WHERE false";
  await rowsOf(duckdb, `CREATE TABLE copied AS SELECT ${all} FROM ${from}`);
  const [truncated] = await rowsOf(
    duckdb,
    "SELECT max(_pg_flo_lsn) AS at FROM changes WHERE _pg_flo_operation = 'TRUNCATE'",
  );
  if (truncated?.at !== null) {
    await duckdb.run(`DELETE FROM copied; DELETE FROM changes WHERE _pg_flo_lsn < ${truncated?.at}`);
  }
  if (key.length > 0) await makeKeyedState(duckdb, columns, key, target);
  else await makeMultiset(duckdb, columns, target);
  return true;
}

async function makeMultiset(duckdb: DuckDBConnection, columns: readonly Column[], target: string): Promise<void> {
  const all = columns.map((column) => quote(column.fileName)).join(", ");
  const old = columns.map((column) => quote(`_old_${column.fileName}`)).join(", ");
  const [{ gone } = { gone: 0n }] = await rowsOf(
    duckdb,
    "SELECT count(*) AS gone FROM changes WHERE _pg_flo_operation IN ('UPDATE', 'DELETE')",
  );
  const minus =
    gone === 0n ? "" : ` EXCEPT ALL SELECT ${old} FROM changes WHERE _pg_flo_operation IN ('UPDATE', 'DELETE')`;
  await rowsOf(
    duckdb,
    `CREATE TABLE ${target} AS (SELECT ${all} FROM copied UNION ALL
       SELECT ${all} FROM changes WHERE _pg_flo_operation IN ('INSERT', 'UPDATE'))${minus}`,
  );
}

// What happened to each identity: rows are put there or taken out. In one transaction all is taken out before anything
// is put in; the newest event of an identity says whether a row stands there, and which.
async function makeKeyedState(
  duckdb: DuckDBConnection,
  columns: readonly Column[],
  key: readonly string[],
  target: string,
): Promise<void> {
  const all = columns.map((column) => quote(column.fileName)).join(", ");
  const keys = key.map(quote).join(", ");
  const old = key.map((name) => quote(`_old_${name}`)).join(", ");
  const oldThere = `${quote(`_old_${key[0]}`)} IS NOT NULL`;
  await duckdb.run("DROP TABLE IF EXISTS events; DROP TABLE IF EXISTS images");
  await rowsOf(
    duckdb,
    `CREATE TABLE events AS
       SELECT ${keys}, _pg_flo_lsn AS lsn, 1 AS put, rid FROM changes WHERE _pg_flo_operation IN ('INSERT', 'UPDATE')
       UNION ALL SELECT ${keys}, _pg_flo_lsn, 0, rid FROM changes WHERE _pg_flo_operation = 'DELETE'
       UNION ALL SELECT ${old}, _pg_flo_lsn, 0, rid FROM changes WHERE _pg_flo_operation = 'UPDATE' AND ${oldThere}`,
  );
  await rowsOf(duckdb, `CREATE TABLE images AS SELECT rid, ${all} FROM changes`);
  await fillUnchanged(duckdb, columns, key);
  await rowsOf(
    duckdb,
    `CREATE TABLE ${target} AS
       SELECT ${all} FROM images WHERE rid IN (
         SELECT rid FROM events QUALIFY row_number() OVER (PARTITION BY ${keys} ORDER BY lsn DESC, put DESC) = 1 AND put = 1)
       UNION ALL SELECT ${all} FROM copied ANTI JOIN (SELECT DISTINCT ${keys} FROM events) USING (${keys})`,
  );
}

// A value that an update did not touch and the log does not carry is the one of the row that stood there before.
async function fillUnchanged(duckdb: DuckDBConnection, columns: readonly Column[], key: readonly string[]) {
  const names = await rowsOf(duckdb, "SELECT DISTINCT unnest(_pg_flo_unchanged) AS name FROM changes");
  for (const { name } of names) {
    const column = quote(columns.find((each) => each.name === name)!.fileName);
    const text = `'${String(name).replaceAll("'", "''")}'`;
    const origin = key.map((each) => `coalesce(${quote(`_old_${each}`)}, ${quote(each)}) AS ${quote(each)}`).join(", ");
    const same = (left: string, right: string) =>
      key.map((each) => `${left}.${quote(each)} = ${right}.${quote(each)}`).join(" AND ");
    // rid: whose value is looked for; the key and lsn: where and before when the search goes on.
    await duckdb.run("DROP TABLE IF EXISTS sought");
    await rowsOf(
      duckdb,
      `CREATE TABLE sought AS SELECT rid, ${origin}, _pg_flo_lsn AS lsn FROM changes
       WHERE list_contains(_pg_flo_unchanged, ${text})`,
    );
    for (;;) {
      await duckdb.run("DROP TABLE IF EXISTS found");
      await rowsOf(
        duckdb,
        `CREATE TABLE found AS SELECT s.*, e.rid AS event, e.put FROM sought s LEFT JOIN LATERAL (
           SELECT rid, put FROM events e WHERE ${same("e", "s")} AND e.lsn < s.lsn
           ORDER BY e.lsn DESC, e.put DESC LIMIT 1) e ON true`,
      );
      const [counts] = await rowsOf(duckdb, "SELECT count(*) AS n, count(*) FILTER (put = 0) AS taken FROM found");
      if (counts?.n === 0n) break;
      assert.equal(counts?.taken, 0n, `${name}: an unchanged value of a row that was not there`);
      await rowsOf(
        duckdb,
        `UPDATE images SET ${column} = c.${column} FROM found f, copied c
         WHERE images.rid = f.rid AND f.event IS NULL AND ${same("c", "f")}`,
      );
      await rowsOf(
        duckdb,
        `UPDATE images SET ${column} = c.${column} FROM found f, changes c
         WHERE images.rid = f.rid AND c.rid = f.event AND NOT coalesce(list_contains(c._pg_flo_unchanged, ${text}), false)`,
      );
      await rowsOf(
        duckdb,
        `CREATE OR REPLACE TABLE sought AS SELECT f.rid, ${origin.replaceAll(/coalesce\(([^,]+), ([^)]+)\)/g, "coalesce(c.$1, c.$2)")},
           c._pg_flo_lsn AS lsn FROM found f JOIN changes c ON c.rid = f.event
         WHERE list_contains(c._pg_flo_unchanged, ${text})`,
      );
    }
  }
}

let comparisons = 0;

async function compare(reader: Reader, table: TableName): Promise<number> {
  const { duckdb, source, folder } = reader;
  const schema = table.schema ?? "public";
  const label = `${schema}.${table.name}`;
  const relation = `${quote(schema)}.${quote(table.name)}`;
  if (!(await makeState(reader, table, "mirrored"))) {
    const { rows } = await source.query(`select count(*)::int as n from ${relation}`);
    assert.equal(rows[0].n, 0, `${label}: the source has rows, the mirror has no file`);
    return 0;
  }
  const left = new Set(table.without ?? []);
  const columns = (await readColumns(reader, schema, table.name)).filter((column) => !left.has(column.name));
  const here = (await sourceColumns(source, schema, table.name)).filter((column) => !left.has(column.name));
  assert.deepEqual(columns.map((column) => column.name).sort(), here.map((column) => column.name).sort(), label);
  const described = await rowsOf(duckdb, "DESCRIBE mirrored");
  const types = new Map(described.map((row) => [String(row.column_name), String(row.column_type)]));
  const sourceTypes = new Map(here.map((column) => [column.name, column]));
  const expressions = columns.map(({ name, fileName }) =>
    sourceExpression(quote(name), sourceTypes.get(name)!, types.get(fileName)!),
  );
  const path = join(folder, `${comparisons++}.csv`);
  await source.query("set intervalstyle = iso_8601"); // as the contract has it
  await source.query(
    `copy (select ${expressions.join(", ")} from ${relation}) to '${path}' (format csv, null '\\N', force_quote *)`,
  );
  const fields = columns.map((_, index) => `'c${index}': 'VARCHAR'`).join(", ");
  const casts = columns.map(
    ({ fileName }, index) => `${duckExpression(`c${index}`, types.get(fileName)!)} AS ${quote(fileName)}`,
  );
  await rowsOf(
    duckdb,
    `CREATE OR REPLACE TABLE expected AS SELECT ${casts.join(", ")} FROM read_csv('${path}', header = false, delim = ',',
       quote = '"', escape = '"', nullstr = '\\N', allow_quoted_nulls = false, parallel = false, columns = {${fields}},
       max_line_size = 20000000, strict_mode = true, new_line = '\\n')`,
  );
  await rm(path, { force: true });
  const all = columns.map((column) => quote(column.fileName)).join(", ");
  const difference = (a: string, b: string) =>
    rowsOf(duckdb, `SELECT * FROM (SELECT ${all} FROM ${a} EXCEPT ALL SELECT ${all} FROM ${b}) LIMIT 5`);
  const missing = await difference("expected", "mirrored");
  const extra = await difference("mirrored", "expected");
  const [counts] = await rowsOf(
    duckdb,
    "SELECT (SELECT count(*) FROM expected) AS source, (SELECT count(*) FROM mirrored) AS mirror",
  );
  if (missing.length > 0 || extra.length > 0 || counts?.source !== counts?.mirror) {
    assert.fail(`${label} differs: ${show({ counts, missing, extra })}`);
  }
  return Number(counts?.source);
}

function show(value: unknown): string {
  const text = JSON.stringify(value, (_, each) => (typeof each === "bigint" ? String(each) : each), 1);
  return text.length > 4000 ? `${text.slice(0, 4000)}…` : text;
}
