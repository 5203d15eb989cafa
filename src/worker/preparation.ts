// What a worker does before it takes part: reads the source's definitions, brings metadata and publications in line with
// them and with the config. Every worker does it, and all but the first find nothing to do.
import type { ClientBase, Pool } from "pg";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { type Lsn, parseLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { CopierThreads } from "../copy/copier.ts";
import { readGroup, registerGroup } from "../metadata/groups.ts";
import { openMetadata } from "../metadata/migrations.ts";
import { readRequests } from "../metadata/requests.ts";
import { ensureStream, readStreams } from "../metadata/streams.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import { catalogFingerprint } from "../postgres/catalog-fingerprint.ts";
import { applicationName } from "../postgres/connect.ts";
import type { Finding } from "../postgres/finding.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import { syncPublications } from "../postgres/publication.ts";
import { publicationNames } from "../postgres/publication-plan.ts";
import { openReplication } from "../postgres/replication.ts";
import type { SelectedTable } from "../postgres/selection.ts";
import { takeTurn } from "../postgres/sessions.ts";
import { slotName } from "../postgres/slot.ts";
import { unfitTables } from "../postgres/unfit-tables.ts";
import type { Storage } from "../storage/storage.ts";
import type { Prepared } from "./definitions.ts";
import { type Discovery, discover, refuseFindings, register, wantedStreams, wantedTables } from "./discovery.ts";
import { retryFailed, stopUnfit } from "./failed-tables.ts";
import { emptyLeavesAt } from "./planned-changes.ts";
import { onSource, refuseStandby } from "./source-connection.ts";
import type { WorkerHealth } from "./worker-health.ts";

export interface WorkerContext {
  readonly config: Config;
  readonly db: Pool;
  readonly storage: Storage;
  readonly copiers: CopierThreads;
  readonly log: Log;
  readonly untilCaughtUp: boolean;
  readonly health: WorkerHealth;
  readonly start: WorkerStart;
}

/** What is done once in a process. */
export interface WorkerStart {
  /** The preflight was passed. */
  checked: boolean;
  /** With --until-caught-up: everything that was committed before the start lies before it. */
  mark: Lsn | null;
  /** Of the source, when it was read last: positions of another one say nothing about the mark. */
  timeline: number | null;
}

/** Before a worker joins, and whenever it begins anew after a failure. */
export async function prepare(context: WorkerContext): Promise<Prepared> {
  const { config, db, log, start } = context;
  return withDefinitionsTurn(context, async (source) => {
    if (start.checked) await refuseStandby(source, config.group); // the first time the preflight tells it
    // A group that runs already does not wait for a table that became a trouble: that one waits alone.
    const known = start.checked || (await isKnown(db, config.group));
    const read = await readDefinitions(source, context, known);
    const unfit = known ? await unfitCandidates(source, context, read.discovery) : NONE_UNFIT;
    const { selection } = read.discovery;
    const fit = { ...selection, tables: selection.tables.filter(({ table }) => !unfit.has(table.oid)) };
    const metadataAtSource = sameDatabase(config.metadata, config.source);
    if (!start.checked) await refuseFindings(source, config, fit, metadataAtSource, log);
    start.checked = true;
    if (context.untilCaughtUp) start.mark ??= await writeMark(config);
    await openMetadata(db);
    await registerThisGroup(context);
    failpoint("group.registered");
    for (const stream of wantedStreams(config)) await registerStream(context, stream);
    failpoint("stream.registered");
    return registerAll(source, context, read, unfit);
  });
}

export interface RefreshOptions {
  /** Failed tables that are tried again at once: what the config says of them is another thing now. */
  readonly mended?: (table: Table) => boolean;
}

/** While a worker runs: the definitions as they are now. Streams and copies are told by the caller. */
export async function refresh(context: WorkerContext, options: RefreshOptions = {}): Promise<Prepared> {
  return withDefinitionsTurn(context, async (source) => {
    await refuseStandby(source, context.config.group);
    const read = await readDefinitions(source, context, true);
    return registerAll(source, context, read, await unfitCandidates(source, context, read.discovery), options);
  });
}

function withDefinitionsTurn<T>({ config }: WorkerContext, work: (source: ClientBase) => Promise<T>): Promise<T> {
  return onSource(config, "catalog", async (source) => {
    // One after the other: who registers last must not be the one who read the definitions first. A worker that hangs
    // in the middle is not waited for longer than for anything else of it. Should it go on after all, it may be the first
    // to make a table begin anew, with a definition that is out of date: the one case in which a change costs two copies.
    await takeTurn(source, "definitions", config.group, config.leaseMs);
    return work(source);
  });
}

interface ReadDefinitions {
  readonly fingerprint: string;
  readonly discovery: Discovery;
  /** As the tables were stored before it was read. */
  readonly before: readonly Table[];
}

/** `known`: the group is. */
async function readDefinitions(
  source: ClientBase,
  { config, db }: WorkerContext,
  known: boolean,
): Promise<ReadDefinitions> {
  // All before the catalog is read: what changes meanwhile is seen at the next look.
  const before = known ? await readTables(db, config.group) : [];
  try {
    const fingerprint = await catalogFingerprint(source, Object.keys(config.schemas));
    return { fingerprint, discovery: await discover(source, config), before };
  } catch (error) {
    throw toPgFloError(error, `read the catalog for group ${config.group}`);
  }
}

const NONE_UNFIT: ReadonlyMap<number, Finding> = new Map();

async function isKnown(db: Pool, group: string): Promise<boolean> {
  try {
    await readGroup(db, group);
    return true;
  } catch (error) {
    // None yet, or of an older version, or not for us to read: the preflight and the start tell what is wrong.
    if (error instanceof PgFloError && error.action !== "retry") return false;
    throw error;
  }
}

/** Of the tables that are about to be copied: what goes on already is not asked. */
async function unfitCandidates(
  source: ClientBase,
  { config, db }: WorkerContext,
  { selection }: Discovery,
): Promise<ReadonlyMap<number, Finding>> {
  const running = new Set(
    (await readTables(db, config.group))
      .filter(({ state }) => state !== "pending" && state !== "error" && state !== "removed")
      .map(({ relationOid }) => relationOid),
  );
  return unfitTables(
    source,
    selection.tables.filter(({ table }) => !running.has(table.oid)),
    config.publication === undefined ? {} : { publication: config.publication },
  );
}

/**
 * Tables are published as they are wanted before they are registered so, and those that go are taken out after: whoever
 * sees one that waits for its cut may rely on its changes being in the log, and one whose changes are missing is mirrored
 * no more. One that is registered otherwise and streams meets a definition that does not fit, and is copied again.
 */
async function registerAll(
  source: ClientBase,
  context: WorkerContext,
  { fingerprint, discovery, before }: ReadDefinitions,
  unfit: ReadonlyMap<number, Finding>,
  { mended = () => false }: RefreshOptions = {},
): Promise<Prepared> {
  const { config, db, storage, log } = context;
  const requests = await readRequests(db, config.group);
  const selected = discovery.selection.tables.filter(({ table }) => !unfit.has(table.oid));
  const wanted = await wantedTables(db, config, discovery);
  const { serverVersion } = discovery.catalog;
  const streamOf = new Map(wanted.map(({ oid, stream }) => [oid, stream]));
  await publish(source, context, { selected, streamOf, serverVersion, keepOthers: true });
  failpoint("tables.published");
  const options = { db, group: config.group, storage, log };
  const registered = await register(options, wanted, before, emptyLeavesAt(source));
  const stopped = await stopUnfit(context, registered.tables, unfit);
  const tried = await retryFailed(context, wanted, unfit, mended);
  const tables = stopped || tried ? await readTables(db, config.group) : registered.tables;
  const storedStreamOf = new Map(tables.map(({ relationOid, stream }) => [relationOid, stream]));
  await publish(source, context, { selected, streamOf: storedStreamOf, serverVersion });
  return { discovery, tables, fingerprint, requests, complete: registered.complete };
}

interface Publishing {
  readonly selected: readonly SelectedTable[];
  /** By OID. */
  readonly streamOf: ReadonlyMap<number, number | null>;
  readonly serverVersion: number;
  readonly keepOthers?: boolean;
}

async function publish(
  source: ClientBase,
  { config, db }: WorkerContext,
  { selected, streamOf, serverVersion, keepOthers = false }: Publishing,
): Promise<void> {
  if (config.publication !== undefined) return;
  // Also those of streams that are more than the config wants now: their tables stay with them.
  for (const { stream } of await readStreams(db, config.group)) {
    const tables = selected.filter(({ table }) => streamOf.get(table.oid) === stream);
    await syncPublications(source, { group: config.group, stream, tables, serverVersion, keepOthers });
  }
}

function sameDatabase(a: ConnectionConfig, b: ConnectionConfig): boolean {
  return a.host === b.host && a.port === b.port && a.database === b.database;
}

/** Everything committed so far has a commit LSN below the one that is given: a mark in the log, which we will see. */
export async function writeMark(config: Config): Promise<Lsn> {
  return onSource(config, "mark the log", async (source) => {
    const { rows } = await source.query<{ lsn: string }>("select pg_logical_emit_message(true, 'pg_flo', '') as lsn");
    return parseLsn(rows[0]!.lsn);
  });
}

async function registerStream({ config, db }: WorkerContext, stream: number): Promise<void> {
  const own = publicationNames(config.group, stream);
  await ensureStream(db, {
    group: config.group,
    stream,
    slotName: slotName(config.group, stream),
    publications: config.publication === undefined ? [own.all, own.insert] : [config.publication],
  });
}

async function registerThisGroup({ config, db, storage, start }: WorkerContext): Promise<void> {
  const replication = await openReplication(config.source, {
    applicationName: applicationName(config.group, "identify"),
  });
  try {
    const { systemId, dbname, timeline } = await replication.identifySystem();
    start.timeline = timeline;
    const group = { name: config.group, systemIdentifier: systemId, sourceDatabase: dbname, storageUrl: storage.url };
    await registerGroup(db, group);
  } finally {
    await replication.close();
  }
}
