// One worker of a group: joins it, discovers the tables, then streams and copies side by side until it is stopped.
// A session ends when a lease is lost or a table's definition changed, and the next one begins with discovery.
import type { Pool } from "pg";
import { systemClock } from "../base/clock.ts";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn, parseLsn } from "../base/lsn.ts";
import { runService } from "../base/service.ts";
import type { Config } from "../config/config.ts";
import { registerGroup } from "../metadata/groups.ts";
import { openMetadata } from "../metadata/migrations.ts";
import { metadataSessionOptions } from "../metadata/queryable.ts";
import { activateStream, claimStream, ensureStream, type StreamFence } from "../metadata/streams.ts";
import { readTables } from "../metadata/tables.ts";
import { releaseWorker } from "../metadata/workers.ts";
import { applicationName, connect, endClient, openPool } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import { syncPublications } from "../postgres/publication.ts";
import { publicationNames } from "../postgres/publication-plan.ts";
import { openReplication } from "../postgres/replication.ts";
import { dropSlot, readSlot, slotLostError, slotLostReason, slotName } from "../postgres/slot.ts";
import type { WalBudget } from "../postgres/wal-budget.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import { removeLeftSpillFiles } from "../stream/spill-file.ts";
import { compactRegularly } from "./compact-service.ts";
import { type CopyFigures, CopyService } from "./copy-service.ts";
import { binaryPossible, type Discovery, discover, refuseFindings, register, STREAM } from "./discovery.ts";
import { joinGroup, keepLeases } from "./membership.ts";
import { sweepOrphans } from "./orphans.ts";
import { type HeldSnapshot, snapshotOfNewSlot } from "./snapshot.ts";
import { onSource, refuseStandby } from "./source-connection.ts";
import { StreamService, streamFenced, streamTaken } from "./stream-service.ts";
import { watchTypes } from "./type-watch.ts";
import { type WalBudgets, watchWal } from "./wal-watch.ts";
import { heartbeatFigures } from "./worker-figures.ts";
import { noSigns, type WorkerHealth } from "./worker-health.ts";

const METADATA_CONNECTIONS = 4;
const CAUGHT_UP_POLL_MS = 20;
/** Between a session that ended because a definition changed and the next one. */
const DISCOVERY_PAUSE_MS = 1000;
const HEARTBEAT_MESSAGE_MS = 30_000;

export interface WorkerOptions {
  readonly config: Config;
  readonly log: Log;
  /** Stop when all tables are copied and everything that was committed before the start is durable. */
  readonly untilCaughtUp: boolean;
  /** Called with the live figures as soon as there are any: at the begin of each session. */
  readonly onFigures?: (figures: WorkerFigures) => void;
  /** Kept current for whoever watches the worker. */
  readonly health?: WorkerHealth;
}

export interface WorkerFigures {
  readonly stream: StreamService;
  readonly copy: Readonly<CopyFigures>;
  /** Of the source's slots, by name. */
  readonly budgets: ReadonlyMap<string, WalBudget>;
}

/** Runs until the signal (finishes the batch, releases the leases) or until it has caught up. */
export async function runWorker(options: WorkerOptions, signal: AbortSignal): Promise<void> {
  const { config, log } = options;
  const storage = openStorage(config.storage);
  await storage.probe();
  await removeLeftSpillFiles(config.stream.spillFolder);
  // What cannot be reached at the start is told at once; later it is waited for.
  await endClient(await connect(config.source, { applicationName: applicationName(config.group, "start") }));
  await using db = await openMetadataPool(config);
  const start: SessionStart = { checked: false, mark: null };
  const session = async (inner: AbortSignal): Promise<void> => {
    while (await runSession({ ...options, db: db.pool, storage, start }, inner)) {
      await systemClock.sleep(DISCOVERY_PAUSE_MS, inner);
    }
  };
  await runService(session, signal, { name: "worker", log });
}

interface SessionOptions extends WorkerOptions {
  readonly db: Pool;
  readonly storage: Storage;
  readonly start: SessionStart;
}

/** What the first session does for all. */
interface SessionStart {
  /** The preflight was passed. */
  checked: boolean;
  /** With --until-caught-up: everything that was committed before the start lies before it. */
  mark: Lsn | null;
}

async function openMetadataPool(config: Config): Promise<AsyncDisposable & { readonly pool: Pool }> {
  const pool = await openPool(config.metadata, {
    applicationName: applicationName(config.group, "metadata"),
    max: METADATA_CONNECTIONS,
    options: metadataSessionOptions.replaceAll("-c ", "").split(" ").filter(Boolean),
  });
  return { pool, [Symbol.asyncDispose]: () => pool.end() };
}

/** Everything committed so far has a commit LSN below the one that is given: a mark in the log, which we will see. */
async function writeMark(config: Config): Promise<Lsn> {
  return onSource(config, "mark the log", async (source) => {
    const { rows } = await source.query<{ lsn: string }>("select pg_logical_emit_message(true, 'pg_flo', '') as lsn");
    return parseLsn(rows[0]!.lsn);
  });
}

/** True: begin again with discovery. */
async function runSession(options: SessionOptions, signal: AbortSignal): Promise<boolean> {
  const { config, db, storage, log } = options;
  const source = await connect(config.source, { applicationName: applicationName(config.group, "catalog") });
  let workerId: string | null = null;
  try {
    if (options.start.checked) await refuseStandby(source, config.group); // the first time the preflight tells it
    const discovery = await discover(source, config).catch((error: unknown) => {
      throw toPgFloError(error, `read the catalog for group ${config.group}`);
    });
    const metadataAtSource = sameDatabase(config.metadata, config.source);
    if (!options.start.checked) await refuseFindings(source, config, discovery.selection, metadataAtSource, log);
    options.start.checked = true;
    if (options.untilCaughtUp) options.start.mark ??= await writeMark(config);
    await openMetadata(db);
    await registerThisGroup(options);
    failpoint("group.registered");
    workerId = await joinGroup(db, config.group, config.leaseMs, log);
    failpoint("worker.joined");
    const publications = config.publication === undefined ? publicationNames(config.group, STREAM) : null;
    await ensureStream(db, {
      group: config.group,
      stream: STREAM,
      slotName: slotName(config.group, STREAM),
      publications: publications ? [publications.all, publications.insert] : [config.publication!],
    });
    failpoint("stream.registered");
    const claim = await claimStream(db, { group: config.group, stream: STREAM, workerId, leaseMs: config.leaseMs });
    if (!claim.taken) throw streamTaken(config.group, claim);
    failpoint("stream.claimed");
    await register(db, config, discovery, storage, log);
    if (publications) {
      const { tables } = discovery.selection;
      await syncPublications(source, {
        group: config.group,
        stream: STREAM,
        tables,
        serverVersion: discovery.catalog.serverVersion,
      });
    }
    if (claim.stream.state === "lost") {
      const { slotName: name, position } = claim.stream;
      throw slotLostError(name, slotLostReason(await readSlot(source, name), position!) ?? "wal_removed");
    }
    const created = claim.stream.state === "creating";
    const initial = created ? await createStreamSlot(options, claim.stream.slotName, claim.fence, signal) : null;
    return await runServices(options, { ...claim.stream, workerId }, discovery, initial, signal);
  } finally {
    if (workerId !== null) await releaseQuietly(db, workerId, log);
    await endClient(source);
  }
}

function sameDatabase(a: ConnectionConfig, b: ConnectionConfig): boolean {
  return a.host === b.host && a.port === b.port && a.database === b.database;
}

// A lease that cannot be given back runs out by itself; what ended the session matters more.
async function releaseQuietly(db: Pool, workerId: string, log: Log): Promise<void> {
  try {
    failpoint("worker.releasing");
    await releaseWorker(db, workerId);
    failpoint("worker.released");
  } catch (error) {
    log.warn("the leases could not be released, they run out", { reason: error instanceof Error ? error.message : "" });
  }
}

async function registerThisGroup({ config, db, storage }: SessionOptions): Promise<void> {
  const replication = await openReplication(config.source, {
    applicationName: applicationName(config.group, "identify"),
  });
  try {
    const { systemId, dbname } = await replication.identifySystem();
    const group = { name: config.group, systemIdentifier: systemId, sourceDatabase: dbname, storageUrl: storage.url };
    await registerGroup(db, group);
  } finally {
    await replication.close();
  }
}

/** The stream's own slot. One that is left over from a start that did not get far has nothing that counts. */
async function createStreamSlot(
  { config, db, log }: SessionOptions,
  slot: string,
  fence: StreamFence,
  signal: AbortSignal,
): Promise<HeldSnapshot> {
  await onSource(config, "drop an unfinished slot", (source) => dropSlot(source, slot));
  failpoint("slot.unfinished-dropped");
  log.info("creating the replication slot, which waits for the transactions that run now", { slot });
  const snapshot = await snapshotOfNewSlot(config, { name: slot, temporary: false }, signal);
  try {
    failpoint("slot.created");
    const activation = await activateStream(db, fence, snapshot.lsn);
    if (activation.result === "fenced") throw streamFenced(config.group);
    failpoint("slot.activated");
  } catch (error) {
    await snapshot[Symbol.asyncDispose](); // a snapshot that nobody uses would hold back vacuum at the source
    throw error;
  }
  log.info("slot created", { slot, consistentPoint: formatLsn(snapshot.lsn) });
  return snapshot;
}

async function runServices(
  options: SessionOptions,
  { workerId, publications }: { readonly workerId: string; readonly publications: readonly string[] },
  discovery: Discovery,
  initial: HeldSnapshot | null,
  signal: AbortSignal,
): Promise<boolean> {
  const { config, db, storage, log, health = noSigns() } = options;
  const end = new AbortController();
  let changed = false;
  const onTableChanged = (): void => {
    changed = true;
    end.abort();
  };
  const shared = { config, db, storage, workerId, types: discovery.types, log, onTableChanged };
  const stream = new StreamService({ ...shared, publications, binary: binaryPossible(discovery) });
  const copy = new CopyService({ ...shared, stream }, initial);
  const budgets: WalBudgets = new Map();
  const figures = { stream, copy: copy.figures, budgets };
  options.onFigures?.(figures);
  const inner = AbortSignal.any([signal, end.signal]);
  const copied = copy.run(inner);
  const services = [
    stream.run(inner),
    copied,
    keepLeases(db, { workerId, leaseMs: config.leaseMs, log, health }, () => heartbeatFigures(figures), inner),
    keepLogMoving(config, stream, inner),
    watchTypes(options, discovery, onTableChanged, inner),
    watchWal(options, () => [slotName(config.group, STREAM)], budgets, inner),
    sweepOrphans({ db, storage, group: config.group, graceMs: config.compact.graceMs }, log, inner),
    compactRegularly({ config, db, log }, inner),
    ...(options.start.mark === null
      ? []
      : [waitUntilCaughtUp(options, stream, copy, copied, inner).then(() => end.abort())]),
  ];
  health.running = true;
  health.sessionCount++;
  try {
    await settleAll(services, end);
  } finally {
    health.running = false;
  }
  return changed && !signal.aborted;
}

/** Waits for all; the first failure ends the others and is thrown. */
async function settleAll(services: readonly Promise<void>[], end: AbortController): Promise<void> {
  let failure: unknown = null;
  const guarded = services.map((service) =>
    service.catch((error: unknown) => {
      if (end.signal.aborted && (error === end.signal.reason || isAbort(error))) return;
      failure ??= error;
      end.abort();
    }),
  );
  await Promise.all(guarded);
  if (failure !== null && !isAbort(failure)) throw failure;
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/** An idle database writes nothing that would move the position: a message of our own does, when nothing else did. */
async function keepLogMoving(config: Config, stream: StreamService, signal: AbortSignal): Promise<void> {
  let reached: Lsn | null = null;
  while (!signal.aborted) {
    await systemClock.sleep(HEARTBEAT_MESSAGE_MS, signal).catch(() => {}); // an abort ends the loop
    const now = stream.progress?.reached ?? null;
    if (!signal.aborted && now !== null && now === reached) {
      await writeMark(config).catch((error: unknown) => {
        if (!(error instanceof PgFloError) || error.action !== "retry") throw error;
      });
    }
    reached = now;
  }
}

async function waitUntilCaughtUp(
  { config, db, start }: SessionOptions,
  stream: StreamService,
  copy: CopyService,
  copied: Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  await copied;
  // What was copied under a later snapshot is right from that one on.
  const { snapshotLsn } = copy.figures;
  const goal = snapshotLsn !== null && snapshotLsn > start.mark! ? snapshotLsn : start.mark!;
  while (!signal.aborted && (stream.progress === null || stream.progress.position < goal - 1n)) {
    if (stream.progress !== null && stream.progress.reached >= goal - 1n) stream.flush();
    await systemClock.sleep(CAUGHT_UP_POLL_MS, signal);
  }
  const failed = (await readTables(db, config.group)).filter((table) => table.state === "error");
  // This session is about to end: the next one reads the definitions and copies these tables again.
  if (failed.some((table) => table.error?.code === "TABLE_CHANGED")) return untilAborted(signal);
  if (failed.length > 0) {
    const names = failed.map((table) => `${table.schema}.${table.name}`).join(", ");
    throw new PgFloError("TABLE_FAILED", `${failed.length} table(s), state, error: ${names}`, {
      fix: "see pg-flo status for the cause of each",
    });
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
