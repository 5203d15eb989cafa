// One table of a verification: both sides compared at its point, damaged files left out, what differs handed on to be
// mended. Tells why a table cannot be compared; it never guesses.
import type { Client } from "pg";
import type { Log } from "../base/log.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { Manifest, ManifestTable } from "../metadata/status.ts";
import type { Table } from "../metadata/tables.ts";
import type { CatalogTable, HeapRelation, PgType } from "../postgres/catalog.ts";
import { sqlState, toPgFloError } from "../postgres/pg-error.ts";
import type { FileSource } from "../query/file-source.ts";
import type { MirrorTable } from "../query/mirror-table.ts";
import type { Storage } from "../storage/storage.ts";
import { type DamagedFile, findDamagedFiles } from "../verify/file-checks.ts";
import type { ScratchDatabase } from "../verify/scratch-database.ts";
import {
  findDifferences,
  mirrorBuckets,
  planTable,
  sourceBuckets,
  type TableDifferences,
  type TablePlan,
} from "../verify/table-checksums.ts";
import type { RepairDone } from "./repair.ts";
import type { HeldSnapshot } from "./snapshot.ts";

export interface VerificationOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly log: Log;
  /** Which of the group's tables. */
  readonly wanted: (table: Table) => boolean;
  /** Where DuckDB finds the files. */
  readonly filesOf: (manifest: Manifest) => FileSource;
  /** Read every file and check it against the manifest, not only those of tables that differ. */
  readonly checkFiles: boolean;
  /** Read again what differs, and take damaged files out of the manifest. */
  readonly repair: boolean;
  /** One connection and one thread, nothing in parallel. */
  readonly quiet: boolean;
  /** Called with each table's report as soon as there is one. */
  readonly onTable?: (report: TableReport) => Promise<void>;
}

export interface TableReport {
  readonly table: Table;
  readonly result: "equal" | "different" | "not-compared";
  /** Why it was not compared, or what keeps its files from being read. */
  readonly reason: string | null;
  readonly columnsCompared: number;
  readonly columnsNotCompared: readonly { readonly name: string; readonly why: string }[];
  readonly by: "key range" | "checksum" | null;
  readonly differences: TableDifferences | null;
  readonly damagedFiles: readonly DamagedFile[];
  readonly sourceMs: number;
  readonly mirrorMs: number;
  readonly repaired: RepairDone | null;
  /** Why it was not, though that was asked for. */
  readonly notRepaired: string | null;
}

/** What holds for all tables of one verification. */
export interface VerifiedMoment {
  readonly source: Client;
  readonly snapshot: HeldSnapshot;
  readonly types: ReadonlyMap<number, PgType>;
  /** Tables by their OID, as they are in the snapshot. */
  readonly catalog: ReadonlyMap<number, CatalogTable>;
  readonly db: ScratchDatabase;
}

export interface Reached {
  readonly manifest: Manifest;
  readonly mirrors: ReadonlyMap<number, MirrorTable>;
  readonly files: FileSource;
}

/** `mend` is called with what differs, while the snapshot's transaction holds the table. */
export async function verifyTable(
  options: VerificationOptions,
  moment: VerifiedMoment,
  entry: ManifestTable,
  reached: Promise<Reached>,
  mend: (plan: TablePlan, report: TableReport) => Promise<TableReport>,
): Promise<TableReport> {
  const { source, snapshot, types } = moment;
  const why = notComparable(entry.table, snapshot.lsn);
  if (why !== null) return notCompared(entry.table, why);
  if (!hasColumns(moment.catalog.get(entry.table.relationOid), entry.table)) return notCompared(entry.table, changing);
  await source.query("savepoint verified_table");
  try {
    const plan = await planTable(source, entry, types);
    if (plan.columns.length === 0) return notCompared(entry.table, "none of its columns can be compared");
    const compared = await compareTable(options, moment, plan, startSource(source, plan), reached);
    return compared.result === "different" ? await mend(plan, compared) : compared;
  } catch (error) {
    // 42P01, 42703: a table or a column is not there in the snapshot.
    const state = sqlState(error);
    if (state !== "42P01" && state !== "42703") throw toPgFloError(error, `verify ${nameOf(entry.table)}`);
    return notCompared(entry.table, changing);
  } finally {
    await source.query("rollback to savepoint verified_table").catch(() => {}); // a lost connection was told already
  }
}

const changing = "its definition changes just now; verify it again";

/** Whether what the files have is still what the source has: further columns do not matter. */
function hasColumns(found: CatalogTable | undefined, { columns }: Table): boolean {
  const there = new Map(found?.columns.map((column) => [column.attnum, column]));
  return columns.every(({ attnum, name, typeOid, typmod }) => {
    const column = there.get(attnum);
    return column?.name === name && column.typeOid === typeOid && column.typmod === typmod;
  });
}

interface SourceSide {
  readonly buckets: Promise<Awaited<ReturnType<typeof sourceBuckets>>>;
  readonly ms: () => number;
}

function startSource(source: Client, plan: TablePlan): SourceSide {
  const started = performance.now();
  let ended = started;
  const buckets = sourceBuckets(source, plan).finally(() => {
    ended = performance.now();
  });
  buckets.catch(() => {}); // met where it is awaited
  return { buckets, ms: () => Math.round(ended - started) };
}

async function compareTable(
  options: VerificationOptions,
  moment: VerifiedMoment,
  plan: TablePlan,
  side: SourceSide,
  reached: Promise<Reached>,
): Promise<TableReport> {
  const { source, snapshot, catalog, db } = moment;
  const { table } = plan.entry;
  const { manifest, mirrors, files } = await reached;
  const entry = manifest.tables.find((each) => each.table.tableId === table.tableId);
  const mirror = mirrors.get(table.tableId);
  const changed = "its definition or its copy changed meanwhile; verify it again";
  if (!entry || !mirror || !isSame(entry.table, table)) {
    await side.buckets;
    return notCompared(table, changed);
  }
  const at = lsn(snapshot.lsn - 1n);
  const damagedFiles = options.checkFiles ? await findDamagedFiles(options.storage, entry.files) : [];
  const started = performance.now();
  const read = await readBuckets(options, { db, entry, mirror, files, at }, plan, damagedFiles);
  const mirrorMs = Math.round(performance.now() - started);
  const buckets = await side.buckets;
  if (await isRewritten(source, catalog.get(table.relationOid)?.heaps ?? [])) return notCompared(table, rewritten);
  const facts = {
    table: entry.table,
    columnsCompared: plan.columns.length,
    columnsNotCompared: plan.notCompared.map(({ column, why }) => ({ name: column.name, why })),
    by: plan.scheme.kind === "range" ? ("key range" as const) : ("checksum" as const),
    damagedFiles: read.damaged,
    sourceMs: side.ms(),
    mirrorMs,
    ...{ repaired: null, notRepaired: null },
  };
  if (read.buckets === null) return { ...facts, result: "different", reason: read.reason, differences: null };
  const differences = await findDifferences({ source, db, mirror: read.mirror, at }, plan, buckets, read.buckets);
  const equal = differences.missing + differences.extra + differences.different === 0;
  if (!equal && !options.checkFiles && read.damaged.length === 0) {
    // Was it a file? Then what it says of rows is not worth a comparison: once more without it.
    const damaged = await findDamagedFiles(options.storage, entry.files);
    if (damaged.length > 0) return compareTable({ ...options, checkFiles: true }, moment, plan, side, reached);
  }
  const result = equal && read.damaged.length === 0 ? "equal" : "different";
  return { ...facts, result, reason: read.reason, differences };
}

const rewritten = "it was rewritten just now (TRUNCATE, say), which no snapshot sees; verify it again";

/** Asked while the table is locked by what was read of it: snapshots see nothing of what a TRUNCATE took away. */
async function isRewritten(source: Client, heaps: readonly HeapRelation[]): Promise<boolean> {
  const { rows } = await source.query<{ oid: string; filenode: string }>(
    "select oid, pg_relation_filenode(oid) as filenode from unnest($1::oid[]) as oid",
    [heaps.map(({ oid }) => oid)],
  );
  const now = new Map(rows.map(({ oid, filenode }) => [Number(oid), Number(filenode)]));
  return heaps.length === 0 || heaps.some(({ oid, relfilenode }) => now.get(oid) !== relfilenode);
}

interface MirrorRead {
  readonly mirror: MirrorTable;
  readonly buckets: Awaited<ReturnType<typeof mirrorBuckets>> | null;
  readonly damaged: readonly DamagedFile[];
  readonly reason: string | null;
}

/** Without the files that are damaged, once it is known that there are some. */
async function readBuckets(
  { storage }: VerificationOptions,
  given: {
    readonly db: ScratchDatabase;
    readonly entry: ManifestTable;
    readonly mirror: MirrorTable;
    readonly files: FileSource;
    readonly at: Lsn;
  },
  plan: TablePlan,
  known: readonly DamagedFile[],
): Promise<MirrorRead> {
  const { db, entry, files, at } = given;
  const without = (damaged: readonly DamagedFile[]): MirrorTable => {
    const paths = new Set(damaged.map(({ file }) => files.pathOf(file.path)));
    return { ...given.mirror, files: given.mirror.files.filter(({ path }) => !paths.has(path)) };
  };
  const read = async (mirror: MirrorTable) => {
    await files.fetch(mirror.files.map(({ path }) => path));
    return mirrorBuckets({ db, mirror, at }, plan);
  };
  try {
    const mirror = without(known);
    return { mirror, buckets: await read(mirror), damaged: known, reason: null };
  } catch (error) {
    const reason = firstLine(error);
    if (isOurMistake(reason)) throw error;
    const damaged = known.length > 0 ? known : await findDamagedFiles(storage, entry.files);
    if (known.length > 0 || damaged.length === 0) {
      return { mirror: given.mirror, buckets: null, damaged, reason: `its files cannot be read: ${reason}` };
    }
    const mirror = without(damaged);
    return { mirror, buckets: await read(mirror), damaged, reason: null };
  }
}

/** DuckDB did not understand the SQL: that says nothing about the files. */
function isOurMistake(message: string): boolean {
  return /^(Parser|Binder|Catalog) Error/.test(message);
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}

/** Null: its state right before the point is known on both sides. */
function notComparable(table: Table, point: Lsn): string | null {
  if (table.mode !== "copy-and-stream") return `its mode is ${table.mode}: the mirror is not to have all of its rows`;
  if (table.state === "error") return `it stopped with an error: ${table.error?.code ?? ""}`;
  if (table.state !== "streaming") return `its copy is not complete (${table.state})`;
  return table.cutLsn !== null && table.cutLsn < point ? null : "its copy began after the point of the comparison";
}

function isSame(left: Table, right: Table): boolean {
  return (
    left.state === "streaming" && left.generation === right.generation && left.schemaVersion === right.schemaVersion
  );
}

function notCompared(table: Table, reason: string): TableReport {
  const nothing = { columnsCompared: 0, columnsNotCompared: [], by: null, differences: null, damagedFiles: [] };
  return {
    table,
    result: "not-compared",
    reason,
    ...nothing,
    sourceMs: 0,
    mirrorMs: 0,
    repaired: null,
    notRepaired: null,
  };
}

function nameOf({ schema, name }: Table): string {
  return `${schema}.${name}`;
}
