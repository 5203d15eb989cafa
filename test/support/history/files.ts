// The rows of the files that a group's manifest lists, read by DuckDB: every value as text, long ones as hash and length.
import { join } from "node:path";
import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import type { Client } from "pg";
import { assertManifest, type ManifestRow, readManifest } from "../manifest-check.ts";
import { LONG_TEXT, LSN_MAX } from "./application.ts";
import type { Table } from "./schema.ts";

export type Value = string | null;

export interface Change {
  readonly operation: "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE";
  readonly lsn: bigint;
  readonly sequence: bigint;
  /** In the order of the table's columns. */
  readonly row: readonly Value[];
  readonly old: readonly Value[];
  readonly unchanged: readonly string[];
}

export interface TableFiles {
  readonly cut: bigint;
  /** From this position on the copy is right for certain, whatever snapshots its ranges were read under. */
  readonly copiedFrom: bigint;
  readonly copy: readonly (readonly Value[])[];
  /** In the order of their transactions, and inside of one as the files have them in order. */
  readonly changes: readonly Change[];
}

export interface GroupFiles {
  readonly position: bigint;
  readonly batches: number;
  readonly files: number;
  /** What the log told, and what it was brought together to. */
  readonly operations: number;
  readonly changes: number;
  readonly byTable: ReadonlyMap<string, TableFiles>;
  /** Last transaction of each batch. */
  readonly batchEnds: readonly bigint[];
}

/**
 * When a table's copy was seen to be there. A range that found no row under a later snapshot leaves no file that tells
 * of it, so the files alone do not say from which position on the copy is right.
 */
export type CopiedTables = Map<string, bigint>;

function copyName(group: string, table: string, generation: number): string {
  return `${group}.${table} ${generation}`;
}

/** Notes the tables that are copied now. */
export async function noteCopied(db: Client, copied: CopiedTables): Promise<void> {
  const { rows } = await db.query(
    `select group_name, table_name, generation, pg_current_wal_insert_lsn() - '0/0' as lsn from _pg_flo.tables
     where state = 'streaming'`,
  );
  for (const { group_name: group, table_name: table, generation, lsn } of rows) {
    const name = copyName(group, table, generation);
    if (!copied.has(name)) copied.set(name, BigInt(lsn));
  }
}

let duckdb: Promise<DuckDBConnection> | null = null;

async function query(sql: string): Promise<Record<string, unknown>[]> {
  duckdb ??= DuckDBInstance.create(":memory:", { threads: "1" }).then((instance) => instance.connect());
  try {
    const reader = await (await duckdb).runAndReadAll(sql);
    return reader.getRowObjects() as Record<string, unknown>[];
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${sql.slice(0, 1000)}`);
  }
}

/** Reads a group's files, and checks that the manifest, the counters and the files say the same. */
export async function readGroup(
  metadata: Client,
  group: string,
  root: string,
  tables: readonly Table[],
  copied: CopiedTables,
): Promise<GroupFiles> {
  const manifest = await readManifest(metadata, group);
  await assertManifest(manifest, root);
  const { rows: known } = await metadata.query<Record<string, string>>(
    `select t.table_name, t.state, t.generation, t.cut_lsn, t.copy_rows, t.change_rows, t.change_operations, t.file_count, s.position
     from _pg_flo.tables t join _pg_flo.streams s on s.group_name = t.group_name where t.group_name = $1`,
    [group],
  );
  const byTable = new Map<string, TableFiles>();
  for (const table of tables) {
    const row = known.find((each) => each.table_name === table.name);
    if (row?.state !== "streaming") throw new Error(`${table.name} is ${row?.state ?? "not registered"}`);
    const own = manifest.filter((file) => file.table === table.name);
    const copiedFrom = copied.get(copyName(group, table.name, Number(row.generation))) ?? LSN_MAX;
    const files = { ...(await readTable(table, own, root, BigInt(row.cut_lsn!))), copiedFrom };
    const counted = { rows: BigInt(row.copy_rows!), changes: BigInt(row.change_rows!), files: BigInt(row.file_count!) };
    const found = { rows: files.copy.length, changes: files.changes.length, files: own.length };
    if (
      JSON.stringify(found) !== JSON.stringify(counted, (_, each) => (typeof each === "bigint" ? Number(each) : each))
    ) {
      throw new Error(`${table.name}: the files have ${JSON.stringify(found)}, the metadata ${show(counted)}`);
    }
    byTable.set(table.name, files);
  }
  const streamed = Map.groupBy(
    manifest.filter(({ kind }) => kind === "stream"),
    ({ batch }) => batch,
  );
  const sum = (column: string) => known.reduce((total, row) => total + Number(row[column]), 0);
  const batchEnds = [...streamed.values()].map((files) => files.reduce((most, { lsnEnd }) => max(most, lsnEnd), 0n));
  return {
    ...{ position: BigInt(known[0]!.position!), batches: streamed.size, files: manifest.length, byTable, batchEnds },
    ...{ operations: sum("change_operations"), changes: sum("change_rows") },
  };
}

async function readTable(
  { name, kind, columns, key }: Table,
  manifest: readonly ManifestRow[],
  root: string,
  cut: bigint,
): Promise<Omit<TableFiles, "copiedFrom">> {
  const [copies, streams] = (["copy", "stream"] as const).map((kind) => manifest.filter((file) => file.kind === kind));
  const list = (files: readonly ManifestRow[]) =>
    `read_parquet([${files.map(({ path }) => `'${join(root, path).replaceAll("'", "''")}'`).join(", ")}], union_by_name = true)`;
  const own = `[${columns.map(textOf).join(", ")}]`;
  const hasOld = (column: string) => kind === "full" || kind === "full with key" || key.includes(column);
  const old = `[${columns.map((column) => (hasOld(column) ? textOf(`_old_${column}`) : "NULL")).join(", ")}]`;
  const arrays = (row: Record<string, unknown>, column: string) => (row[column] as { items: Value[] }).items;
  const copy =
    copies!.length === 0
      ? []
      : (await query(`SELECT ${own} AS r FROM ${list(copies!)}`)).map((row) => arrays(row, "r"));
  const found =
    streams!.length === 0
      ? []
      : await query(`SELECT _pg_flo_operation AS operation, _pg_flo_lsn AS lsn, _pg_flo_sequence AS sequence,
           _pg_flo_unchanged AS unchanged, ${own} AS r, ${old} AS o
         FROM ${list(streams!)} ORDER BY _pg_flo_lsn, _pg_flo_sequence`);
  const changes = found.map((row) => ({
    operation: row.operation as Change["operation"],
    lsn: row.lsn as bigint,
    sequence: row.sequence as bigint,
    row: arrays(row, "r"),
    old: arrays(row, "o"),
    unchanged: row.unchanged === null ? [] : (row.unchanged as { items: string[] }).items,
  }));
  const early = changes.find(({ lsn }) => lsn < cut);
  if (early) throw new Error(`${name}: a change of ${early.lsn}, before the cut ${cut}`);
  const rowsListed = (files: readonly ManifestRow[]) => files.reduce((sum, { rowCount }) => sum + rowCount, 0);
  if (rowsListed(copies!) !== copy.length || rowsListed(streams!) !== changes.length) {
    throw new Error(`${name}: the manifest's row counts are not the files'`);
  }
  return { cut, copy, changes };
}

function textOf(column: string): string {
  const text = `"${column}"::VARCHAR`;
  return `CASE WHEN length(${text}) > ${LONG_TEXT} THEN md5(${text}) || length(${text}) ELSE ${text} END`;
}

function max(left: bigint, right: bigint): bigint {
  return left > right ? left : right;
}

function show(value: unknown): string {
  return JSON.stringify(value, (_, each) => (typeof each === "bigint" ? Number(each) : each));
}
