// One verification of a group: a point C of the log, the snapshot that sees what committed before it, and the mirror once
// it has reached C - 1. Tables are compared one after the other, while the source is written to and workers go on.
import type { Client } from "pg";
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn, lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { type Manifest, type ManifestTable, readManifest } from "../metadata/status.ts";
import { readStreams } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import { type HeapRelation, type PgType, readCatalogInside, readTypes } from "../postgres/catalog.ts";
import { applicationName, connect, endClient } from "../postgres/connect.ts";
import { sqlState, toPgFloError } from "../postgres/pg-error.ts";
import { quoteLiteral } from "../postgres/quote.ts";
import type { FileSource } from "../query/file-source.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import type { MirrorTable } from "../query/mirror-table.ts";
import type { Storage } from "../storage/storage.ts";
import { type DamagedFile, findDamagedFiles } from "../verify/file-checks.ts";
import { ScratchDatabase } from "../verify/scratch-database.ts";
import {
  findDifferences,
  mirrorBuckets,
  planTable,
  sourceBuckets,
  type TableDifferences,
  type TablePlan,
} from "../verify/table-checksums.ts";
import { notRepairable, type RepairDone, repairTable } from "./repair.ts";
import { type HeldSnapshot, snapshotOfNewSlot } from "./snapshot.ts";
import { onSource } from "./source-connection.ts";

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

export interface Verification {
  /** C: both sides were compared as they were right before it. */
  readonly lsn: Lsn;
  readonly tables: readonly TableReport[];
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

const POLL_MS = 100;
/** So long nobody needs to own the stream while its position is waited for. */
const UNOWNED_MS = 30_000;

/** What holds for all tables of one verification. */
export interface VerifiedMoment {
  readonly source: Client;
  readonly snapshot: HeldSnapshot;
  readonly types: ReadonlyMap<number, PgType>;
  /** By the OID of their table, as they are in the snapshot. */
  readonly heaps: ReadonlyMap<number, readonly HeapRelation[]>;
  readonly db: ScratchDatabase;
}

/** Compares the wanted tables. Throws MIRROR_BEHIND when the mirror does not reach the point. */
export async function verify(options: VerificationOptions, signal: AbortSignal): Promise<Verification> {
  const { config } = options;
  const name = `pg_flo_${config.group}_verify_${process.pid}`.slice(0, 63);
  await using snapshot = await snapshotOfNewSlot(config, { name, temporary: true }, signal);
  await using moment = await openMoment(options, snapshot);
  const before = await readManifest(options.db, config.group);
  const reached = whenReached(options, lsn(snapshot.lsn - 1n), moment.types, signal);
  reached.catch(() => {}); // met where it is awaited
  const reports: TableReport[] = [];
  for (const entry of before.tables.filter(({ table }) => table.state !== "removed" && options.wanted(table))) {
    signal.throwIfAborted();
    const report = await verifyTable(options, moment, entry, reached, signal);
    reports.push(report);
    await options.onTable?.(report);
  }
  return { lsn: snapshot.lsn, tables: reports };
}

async function openMoment(
  { config, quiet }: VerificationOptions,
  snapshot: HeldSnapshot,
): Promise<VerifiedMoment & AsyncDisposable> {
  const source = await openSnapshotClient(config, snapshot, quiet);
  try {
    const types = await readTypes(source);
    const heaps = await readHeaps(source);
    const db = await ScratchDatabase.open(quiet ? { threads: "1" } : {});
    const close = async () => {
      await db[Symbol.asyncDispose]();
      await endClient(source);
    };
    return { source, snapshot, types, heaps, db, [Symbol.asyncDispose]: close };
  } catch (error) {
    await endClient(source);
    throw error;
  }
}

async function readHeaps(source: Client): Promise<VerifiedMoment["heaps"]> {
  await source.query("savepoint read_catalog");
  const { tables } = await readCatalogInside(source);
  await source.query("rollback to savepoint read_catalog"); // the search_path is as it was
  return new Map(tables.map((table) => [table.oid, table.heaps]));
}

async function openSnapshotClient(config: Config, snapshot: HeldSnapshot, quiet: boolean): Promise<Client> {
  const source = await connect(config.source, {
    applicationName: applicationName(config.group, "verify"),
    statementTimeoutMs: 0,
    // A policy that hides rows is an error, and compiling costs more than it brings.
    options: ["row_security=off", "jit=off", ...(quiet ? ["max_parallel_workers_per_gather=0"] : [])],
  });
  try {
    await source.query("begin transaction isolation level repeatable read read only");
    await source.query(`set transaction snapshot ${quoteLiteral(snapshot.name)}`);
    return source;
  } catch (error) {
    await endClient(source);
    throw toPgFloError(error, `verify, import the snapshot of group ${config.group}`);
  }
}

interface Reached {
  readonly manifest: Manifest;
  readonly mirrors: ReadonlyMap<number, MirrorTable>;
  readonly files: FileSource;
}

/** Waits until every stream is durable up to the position, then reads what the mirror is made of. */
async function whenReached(
  options: VerificationOptions,
  position: Lsn,
  types: ReadonlyMap<number, PgType>,
  signal: AbortSignal,
): Promise<Reached> {
  const { config, db } = options;
  // Something for the stream to see behind the point, where nobody writes.
  await onSource(config, "mark the log", (source) =>
    source.query("select pg_logical_emit_message(false, 'pg_flo', 'verify')"),
  );
  let unownedMs = 0;
  for (;;) {
    const streams = await readStreams(db, config.group);
    const behind = streams.find((stream) => stream.position === null || stream.position < position);
    if (!behind) break;
    unownedMs = behind.owner === null ? unownedMs + POLL_MS : 0;
    if (behind.state === "lost" || unownedMs > UNOWNED_MS) {
      const at = behind.position === null ? "nowhere yet" : `at ${formatLsn(behind.position)}`;
      const fact = behind.state === "lost" ? "its slot is lost" : "no worker reads it";
      throw new PgFloError(
        "MIRROR_BEHIND",
        `stream ${behind.stream} of group ${config.group}, ${at}, wanted ${formatLsn(position)}, ${fact}`,
      );
    }
    await systemClock.sleep(POLL_MS, signal);
  }
  const manifest = await readManifest(db, config.group);
  const files = options.filesOf(manifest);
  const tables = await manifestTables(manifest, { files, types, readTypes: async () => types });
  const mirrors = new Map(manifest.tables.map(({ table }, index) => [table.tableId, tables[index]!]));
  return { manifest, mirrors, files };
}

async function verifyTable(
  options: VerificationOptions,
  moment: VerifiedMoment,
  entry: ManifestTable,
  reached: Promise<Reached>,
  signal: AbortSignal,
): Promise<TableReport> {
  const { source, snapshot, types } = moment;
  const why = notComparable(entry.table, snapshot.lsn);
  if (why !== null) return notCompared(entry.table, why);
  await source.query("savepoint verified_table");
  try {
    const plan = await planTable(source, entry, types);
    if (plan.columns.length === 0) return notCompared(entry.table, "none of its columns can be compared");
    const compared = await compareTable(options, moment, plan, startSource(source, plan), reached);
    return options.repair && compared.result === "different"
      ? { ...compared, ...(await repair(options, moment, plan, compared, signal)) }
      : compared;
  } catch (error) {
    // 42P01, 42703: a table or a column is not there in the snapshot.
    const state = sqlState(error);
    if (state !== "42P01" && state !== "42703") throw toPgFloError(error, `verify ${nameOf(entry.table)}`);
    return notCompared(entry.table, "its definition changes just now; verify it again");
  } finally {
    await source.query("rollback to savepoint verified_table").catch(() => {}); // a lost connection was told already
  }
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
  const { source, snapshot, heaps, db } = moment;
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
  const read = await readMirror(options, { db, entry, mirror, files, at }, plan, damagedFiles);
  const mirrorMs = Math.round(performance.now() - started);
  const buckets = await side.buckets;
  if (await isRewritten(source, heaps.get(table.relationOid) ?? [])) return notCompared(table, rewritten);
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

/** In the snapshot that the comparison was made in, which is held until then. */
async function repair(
  { config, db, storage }: VerificationOptions,
  { snapshot, types, heaps }: VerifiedMoment,
  plan: TablePlan,
  { table, differences, damagedFiles, reason }: TableReport,
  signal: AbortSignal,
): Promise<Pick<TableReport, "repaired" | "notRepaired">> {
  const why = differences === null ? reason : notRepairable(plan);
  if (why !== null) return { repaired: null, notRepaired: why };
  const source = { config, storage, types, snapshot, heaps: heaps.get(table.relationOid) ?? [] };
  const damaged = damagedFiles.map(({ file }) => file.path);
  const done = await repairTable(db, source, table, differences!.rows, damaged, signal);
  return { repaired: done, notRepaired: done === null ? "the table changed meanwhile; verify it again" : null };
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
async function readMirror(
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
