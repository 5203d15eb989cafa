// One verification of a group: a point C of the log, the snapshot that sees what committed before it, and the mirror once
// it has reached C - 1. Tables are compared one after the other, while the source is written to and workers go on.
import type { Client } from "pg";
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { formatLsn, type Lsn, lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { readManifest } from "../metadata/status.ts";
import type { Table } from "../metadata/tables.ts";
import { readReached } from "../metadata/verifications.ts";
import { type PgType, readCatalogInside, readTypes } from "../postgres/catalog.ts";
import { applicationName, connect, endClient } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import { quoteLiteral } from "../postgres/quote.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import { ScratchDatabase } from "../verify/scratch-database.ts";
import type { TablePlan } from "../verify/table-checksums.ts";
import { notRepairable, type RepairSource, repairTable } from "./repair.ts";
import { type HeldSnapshot, snapshotOfNewSlot } from "./snapshot.ts";
import { onSource } from "./source-connection.ts";
import {
  type Reached,
  type TableReport,
  type VerificationOptions,
  type VerifiedMoment,
  verifyTable,
} from "./table-verification.ts";

export interface Verification {
  /** C: both sides were compared as they were right before it. */
  readonly lsn: Lsn;
  readonly tables: readonly TableReport[];
}

const POLL_MS = 100;
/** So long nobody needs to own the stream while its position is waited for. */
const UNOWNED_MS = 30_000;

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
    const report = await verifyTable(options, moment, entry, reached, async (plan, found) =>
      options.repair ? { ...found, ...(await repair(options, moment, plan, found, signal)) } : found,
    );
    reports.push(report);
    await options.onTable?.(report);
  }
  return { lsn: snapshot.lsn, tables: reports };
}

export async function openMoment(
  { config, quiet }: Pick<VerificationOptions, "config" | "quiet">,
  snapshot: HeldSnapshot,
): Promise<VerifiedMoment & AsyncDisposable> {
  const source = await openSnapshotClient(config, snapshot, quiet);
  try {
    const types = await readTypes(source);
    const catalog = await readSnapshotCatalog(source);
    const db = await ScratchDatabase.open(quiet ? { threads: "1" } : {});
    const close = async () => {
      await db[Symbol.asyncDispose]();
      await endClient(source);
    };
    return { source, snapshot, types, catalog, db, [Symbol.asyncDispose]: close };
  } catch (error) {
    await endClient(source);
    throw error;
  }
}

async function readSnapshotCatalog(source: Client): Promise<VerifiedMoment["catalog"]> {
  await source.query("savepoint read_catalog");
  const { tables } = await readCatalogInside(source);
  await source.query("rollback to savepoint read_catalog"); // the search_path is as it was
  return new Map(tables.map((table) => [table.oid, table]));
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
    const streams = await readReached(db, config.group);
    const behind = streams.find((stream) => stream.position === null || stream.position < position);
    if (!behind) break;
    unownedMs = behind.owned ? 0 : unownedMs + POLL_MS;
    if (behind.lost || unownedMs > UNOWNED_MS) {
      const at = behind.position === null ? "nowhere yet" : `at ${formatLsn(behind.position)}`;
      const fact = behind.lost ? "its slot is lost" : "no worker reads it";
      throw new PgFloError(
        "MIRROR_BEHIND",
        `stream ${behind.stream} of group ${config.group}, ${at}, wanted ${formatLsn(position)}, ${fact}`,
      );
    }
    await systemClock.sleep(POLL_MS, signal);
  }
  return readMirror(options, types);
}

/** What the mirror is made of now. */
export async function readMirror(
  { config, db, filesOf }: Pick<VerificationOptions, "config" | "db" | "filesOf">,
  types: ReadonlyMap<number, PgType>,
): Promise<Reached> {
  const manifest = await readManifest(db, config.group);
  const files = filesOf(manifest);
  const tables = await manifestTables(manifest, { files, types, readTypes: async () => types });
  const mirrors = new Map(manifest.tables.map(({ table }, index) => [table.tableId, tables[index]!]));
  return { manifest, mirrors, files };
}

/** In the snapshot that the comparison was made in, which is held until then. */
async function repair(
  { config, db, storage }: VerificationOptions,
  moment: VerifiedMoment,
  plan: TablePlan,
  { table, differences, damagedFiles, reason }: TableReport,
  signal: AbortSignal,
): Promise<Pick<TableReport, "repaired" | "notRepaired">> {
  const why = differences === null ? reason : notRepairable(plan);
  if (why !== null) return { repaired: null, notRepaired: why };
  const source = repairSource({ config, storage }, moment, table);
  const damaged = damagedFiles.map(({ file }) => file.path);
  const done = await repairTable(db, source, table, differences!.rows, damaged, signal);
  return { repaired: done, notRepaired: done === null ? "the table changed meanwhile; verify it again" : null };
}

export function repairSource(
  { config, storage }: Pick<VerificationOptions, "config" | "storage">,
  { types, snapshot, catalog }: VerifiedMoment,
  { relationOid }: Table,
): RepairSource {
  return { config, storage, types, snapshot, heaps: catalog.get(relationOid)?.heaps ?? [] };
}
