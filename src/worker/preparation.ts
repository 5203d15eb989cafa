// What a worker does before it takes part: reads the source's definitions, brings metadata and publications in line with
// them and with the config. Every worker does it, and all but the first find nothing to do.
import type { Pool } from "pg";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { type Lsn, parseLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { registerGroup } from "../metadata/groups.ts";
import { openMetadata } from "../metadata/migrations.ts";
import { ensureStream, readStreams } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import { applicationName, connect, endClient } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import { syncPublications } from "../postgres/publication.ts";
import { publicationNames } from "../postgres/publication-plan.ts";
import { openReplication } from "../postgres/replication.ts";
import type { SelectedTable } from "../postgres/selection.ts";
import { takeTurn } from "../postgres/sessions.ts";
import { slotName } from "../postgres/slot.ts";
import type { Storage } from "../storage/storage.ts";
import { type Discovery, discover, refuseFindings, register, wantedStreams } from "./discovery.ts";
import { onSource, refuseStandby } from "./source-connection.ts";
import type { WorkerHealth } from "./worker-health.ts";

export interface WorkerContext {
  readonly config: Config;
  readonly db: Pool;
  readonly storage: Storage;
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

export interface Prepared {
  readonly discovery: Discovery;
  /** As they are registered, and published. */
  readonly tables: readonly Table[];
}

export async function prepare(context: WorkerContext): Promise<Prepared> {
  const { config, db, storage, log, start } = context;
  const source = await connect(config.source, { applicationName: applicationName(config.group, "catalog") });
  try {
    if (start.checked) await refuseStandby(source, config.group); // the first time the preflight tells it
    // One after the other: who registers last must not be the one who read the definitions first. A worker that hangs
    // in the middle is not waited for longer than for anything else of it.
    await takeTurn(source, "definitions", config.group, config.leaseMs);
    const discovery = await discover(source, config).catch((error: unknown) => {
      throw toPgFloError(error, `read the catalog for group ${config.group}`);
    });
    const metadataAtSource = sameDatabase(config.metadata, config.source);
    if (!start.checked) await refuseFindings(source, config, discovery.selection, metadataAtSource, log);
    start.checked = true;
    if (context.untilCaughtUp) start.mark ??= await writeMark(config);
    await openMetadata(db);
    await registerThisGroup(context);
    failpoint("group.registered");
    for (const stream of wantedStreams(config)) await registerStream(context, stream);
    failpoint("stream.registered");
    const tables = await register(db, config, discovery, storage, log);
    if (config.publication === undefined) {
      // Also those of streams that are more than the config wants now: their tables stay with them.
      for (const { stream } of await readStreams(db, config.group)) {
        await syncPublications(source, {
          group: config.group,
          stream,
          tables: tablesOf(stream, discovery, tables),
          serverVersion: discovery.catalog.serverVersion,
        });
      }
    }
    return { discovery, tables };
  } finally {
    await endClient(source);
  }
}

function tablesOf(stream: number, { selection }: Discovery, registered: readonly Table[]): SelectedTable[] {
  const own = new Set(registered.filter((table) => table.stream === stream).map(({ relationOid }) => relationOid));
  return selection.tables.filter(({ table }) => own.has(table.oid));
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
