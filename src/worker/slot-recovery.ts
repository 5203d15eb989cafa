// A stream whose slot is lost (invalidated, dropped, given to somebody else, missing after a failover or a restore) goes on
// without copying all again: a new slot, whose point C is the new cut; each table compared at C as `verify` does, with
// what the mirror had at its last position; and only rows that differ read again, deletes included, as one transaction at
// C - 1. What happened between the last position and C is not in the files, and an event says so.
// A crash leaves the stream lost, and the next try begins with another slot. Refuses a source that was set back: its
// log would be older than what the files have.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { commitRecovery, type RecoveredTable } from "../metadata/recoveries.ts";
import type { ManifestTable } from "../metadata/status.ts";
import { claimStream, markStreamLost, readStreams, type Stream, type StreamFence } from "../metadata/streams.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import { releaseWorker } from "../metadata/workers.ts";
import { syncPublications } from "../postgres/publication.ts";
import { readSlot, slotLostReason } from "../postgres/slot.ts";
import type { TablePlan } from "../verify/table-checksums.ts";
import { discover } from "./discovery.ts";
import { joinGroup, keepLeases } from "./membership.ts";
import { notRepairable, type RepairRows, writeRepair } from "./repair.ts";
import { type HeldSnapshot, snapshotOfNewSlot } from "./snapshot.ts";
import { onSource, refuseStandby } from "./source-connection.ts";
import { streamFenced } from "./stream-service.ts";
import { dropOwnSlot } from "./stream-slot.ts";
import {
  type Reached,
  type TableReport,
  type VerificationOptions,
  type VerifiedMoment,
  verifyTable,
} from "./table-verification.ts";
import { openMoment, readMirror, repairSource } from "./verification.ts";
import { noSigns } from "./worker-health.ts";

/** Between two recoveries that did not last, and two looks at a stream that somebody else has. */
const PAUSE_MS = 1000;

export interface RecoveryOptions extends Pick<VerificationOptions, "config" | "db" | "storage" | "log" | "filesOf"> {}

export interface Recovery {
  readonly stream: number;
  /** Everything up to it was durable. */
  readonly from: Lsn;
  /** The new slot's point, C. */
  readonly to: Lsn;
  readonly rowsRead: number;
  readonly rowsDeleted: number;
  readonly tablesCompared: number;
  readonly tablesAgain: number;
}

/** Recovers every stream of the group whose slot is lost. One that a living worker holds is waited for. */
export async function recoverLostStreams(options: RecoveryOptions, signal: AbortSignal): Promise<Recovery[]> {
  const recoveries: Recovery[] = [];
  for (const { stream } of await readStreams(options.db, options.config.group)) {
    const recovery = await recoverIfLost(options, stream, signal);
    if (recovery) recoveries.push(recovery);
  }
  return recoveries;
}

/** Null: it is not lost, or another worker recovered it. */
async function recoverIfLost(options: RecoveryOptions, number: number, signal: AbortSignal): Promise<Recovery | null> {
  const { config, db, log } = options;
  for (let told = false; ; told = true) {
    const stream = (await readStreams(db, config.group)).find((each) => each.stream === number);
    if (!stream || !(await isLost(config, stream))) return null;
    const recovery = await recoverAsMember(options, stream, signal);
    if (recovery) return recovery;
    if (!told) log.info("another worker has the stream, which may recover it; waiting", { stream: number });
    await systemClock.sleep(PAUSE_MS, signal);
  }
}

/** Null: another worker has the stream. */
async function recoverAsMember(
  options: RecoveryOptions,
  { stream }: Stream,
  signal: AbortSignal,
): Promise<Recovery | null> {
  const { config, db, log } = options;
  const member = { workerId: await joinGroup(db, config.group, config.leaseMs, log), group: config.group };
  const end = new AbortController();
  try {
    const lease = { ...member, leaseMs: config.leaseMs, log, health: noSigns() };
    const inner = AbortSignal.any([signal, end.signal]);
    const claim = await claimStream(db, { ...member, stream, leaseMs: config.leaseMs });
    if (!claim.taken) return null;
    const leases = keepLeases(db, lease, () => ({}), inner).catch((error: unknown) => end.abort(error));
    const recovery = await recoverStream(options, claim.stream, claim.fence, inner);
    end.abort();
    await leases;
    return recovery;
  } finally {
    end.abort();
    await releaseWorker(db, member.workerId);
  }
}

async function isLost(config: Config, { slotName, state, position }: Stream): Promise<boolean> {
  if (state === "creating") return false;
  if (state === "lost") return true;
  return onSource(config, "read the slot", async (source) => {
    await refuseStandby(source, config.group);
    return slotLostReason(await readSlot(source, slotName), position!) !== null;
  });
}

async function recoverStream(
  options: RecoveryOptions,
  stream: Stream,
  fence: StreamFence,
  signal: AbortSignal,
): Promise<Recovery> {
  const { config, db, storage, log } = options;
  if (!(await markStreamLost(db, fence))) throw streamFenced(fence);
  await using snapshot = await newSlot(options, stream, fence, signal);
  const from = stream.position!;
  if (snapshot.lsn - 1n < from) {
    await dropOwnSlot(config, db, stream.slotName, fence);
    const fact = `the files have what was committed up to ${formatLsn(from)}, the source is at ${formatLsn(snapshot.lsn)}`;
    throw new PgFloError("SOURCE_REWOUND", `stream ${stream.stream} of group ${config.group}, ${fact}`);
  }
  const found = await compareAll(options, stream, snapshot, fence, signal);
  failpoint("recovery.files-durable");
  const recovery: Recovery = { stream: stream.stream, from, to: snapshot.lsn, ...found.figures };
  const event = {
    severity: "warning" as const,
    code: "SLOT_RECOVERED",
    subject: `stream ${stream.stream}`,
    message: recoveryMessage(recovery),
  };
  const committed = await commitRecovery(db, fence, { point: snapshot.lsn, ...found, event });
  if (committed.result === "fenced") throw streamFenced(fence);
  failpoint("recovery.committed");
  for (const path of committed.removedPaths) await storage.remove(path); // nobody lists them, so nobody reads them
  log.warn(`stream recovered: ${event.message}`, { slot: stream.slotName });
  return recovery;
}

/** Under the name of the lost one, with the tables published before, so that nothing behind its point is missed. */
async function newSlot(
  { config, db, log }: RecoveryOptions,
  { stream, slotName }: Stream,
  fence: StreamFence,
  signal: AbortSignal,
): Promise<HeldSnapshot> {
  await onSource(config, "publish the tables", async (source) => {
    const { selection, catalog } = await discover(source, config);
    if (config.publication === undefined) {
      const own = new Set(
        (await readTables(db, config.group))
          .filter((table) => table.stream === stream)
          .map((table) => table.relationOid),
      );
      const tables = selection.tables.filter(({ table }) => own.has(table.oid));
      await syncPublications(source, { group: config.group, stream, tables, serverVersion: catalog.serverVersion });
    }
  });
  await dropOwnSlot(config, db, slotName, fence);
  failpoint("recovery.slot-dropped");
  log.info("creating a new replication slot, which waits for the transactions that run now", { slot: slotName });
  const snapshot = await snapshotOfNewSlot(config, { name: slotName, temporary: false }, signal);
  failpoint("recovery.slot-created");
  return snapshot;
}

interface Compared {
  readonly tables: readonly RecoveredTable[];
  readonly again: readonly number[];
  readonly figures: Pick<Recovery, "rowsRead" | "rowsDeleted" | "tablesCompared" | "tablesAgain">;
}

async function compareAll(
  options: RecoveryOptions,
  stream: Stream,
  snapshot: HeldSnapshot,
  fence: StreamFence,
  signal: AbortSignal,
): Promise<Compared> {
  await using moment = await openMoment({ config: options.config, quiet: false }, snapshot);
  const reached = await readMirror(options, moment.types);
  const tables: RecoveredTable[] = [];
  const again: number[] = [];
  let [rowsRead, rowsDeleted, tablesCompared] = [0, 0, 0];
  const own = reached.manifest.tables.filter(({ table }) => table.stream === stream.stream);
  for (const entry of own.filter(({ table }) => table.mode === "copy-and-stream")) {
    const { tableId, generation, state } = entry.table;
    if (state !== "streaming" && state !== "copying") continue; // what begins anew, or stopped, does so by itself
    signal.throwIfAborted();
    const anew = state === "copying" || hasNewColumns(moment, entry.table);
    const rows = anew ? null : await compareTable(options, moment, entry, reached, fence, signal);
    if (rows === null) {
      again.push(tableId);
      continue;
    }
    tablesCompared++;
    rowsRead += rows.rowsRead;
    rowsDeleted += rows.rowsDeleted;
    const written = { files: rows.files, rows: rows.rowsRead + rows.rowsDeleted, inexactColumns: rows.inexactColumns };
    if (rows.files.length > 0) tables.push({ tableId, generation, ...written });
  }
  return { tables, again, figures: { rowsRead, rowsDeleted, tablesCompared, tablesAgain: again.length } };
}

/** What such a column got meanwhile is in no log; the default that it was added with may be no row's value any more. */
function hasNewColumns({ catalog }: VerifiedMoment, { relationOid, traces }: Table): boolean {
  return (catalog.get(relationOid)?.traces.lastAttnum ?? 0) > (traces?.lastAttnum ?? 0);
}

const nothing: RepairRows = { files: [], rowsRead: 0, rowsDeleted: 0, inexactColumns: {} };

/** Null: it has to be copied again, because rows have no key, or not all of it can be compared or read. */
async function compareTable(
  options: RecoveryOptions,
  moment: VerifiedMoment,
  entry: ManifestTable,
  reached: Reached,
  fence: StreamFence,
  signal: AbortSignal,
): Promise<RepairRows | null> {
  let rows: RepairRows | null = null;
  const comparison = { ...options, wanted: () => true, checkFiles: false, repair: false, quiet: false };
  const mend = async (plan: TablePlan, found: TableReport): Promise<TableReport> => {
    const possible = found.differences !== null && found.damagedFiles.length === 0 && notRepairable(plan) === null;
    if (possible && plan.notCompared.length === 0) {
      const source = repairSource(options, moment, entry.table);
      rows = await writeRepair(source, entry.table, fence.epoch, found.differences!.rows, signal);
    }
    return found;
  };
  const report = await verifyTable(comparison, moment, entry, Promise.resolve(reached), mend);
  const name = `${entry.table.schema}.${entry.table.name}`;
  options.log.info("table compared", { table: name, result: report.result, ...figuresOf(report) });
  return report.result === "equal" && report.columnsNotCompared.length === 0 ? nothing : rows;
}

function figuresOf({ differences, sourceMs, mirrorMs }: TableReport) {
  const { missing = 0, extra = 0, different = 0, listedRows = 0 } = differences ?? {};
  return { missing, extra, different, listedRows, sourceMs, mirrorMs };
}

/** Never holds a value. */
function recoveryMessage({ from, to, rowsRead, rowsDeleted, tablesCompared, tablesAgain }: Recovery): string {
  return (
    `its slot was lost; a new one goes on at ${formatLsn(to)}. ${tablesCompared} tables were compared, ` +
    `${rowsRead} rows read again and ${rowsDeleted} deleted, ${tablesAgain} tables are copied again. ` +
    `The history from ${formatLsn(from)} to ${formatLsn(to)} is not in the files`
  );
}

/** Runs the work, and after SLOT_LOST recovers and runs it again. */
export async function overLostSlots(
  recover: () => Promise<void>,
  work: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await recover();
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof PgFloError) || error.code !== "SLOT_LOST" || signal.aborted) throw error;
      await systemClock.sleep(PAUSE_MS, signal);
    }
  }
}
