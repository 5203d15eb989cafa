// One worker of a group, of which there may be any number: joins it, streams and copies side by side with the others
// until it is stopped. A worker that was taken for dead begins again as a new one; when definitions changed they are
// read again, and the worker stays who it is.
import type { Pool } from "pg";
import { type BackoffLimits, SERVICE_BACKOFF } from "../base/backoff.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { runService } from "../base/service.ts";
import { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import { CopierThreads } from "../copy/copier.ts";
import { limitIdleTransactions, metadataSessionOptions } from "../metadata/queryable.ts";
import { copyIsAhead } from "../metadata/tables.ts";
import { releaseWorker } from "../metadata/workers.ts";
import { applicationName, connect, endClient, openPool } from "../postgres/connect.ts";
import { openStorage } from "../storage/open.ts";
import { removeLeftSpillFiles } from "../stream/spill-file.ts";
import { noCopyFigures } from "./copy-service.ts";
import { Definitions } from "./definitions.ts";
import { HeldSnapshots } from "./held-snapshots.ts";
import { joinGroup, keepLeases } from "./membership.ts";
import { prepare, type WorkerContext } from "./preparation.ts";
import { type Member, runRound } from "./round.ts";
import { settleAll } from "./settle.ts";
import { heartbeatFigures, type WorkerFigures } from "./worker-figures.ts";
import { noSigns, type WorkerHealth } from "./worker-health.ts";

const METADATA_CONNECTIONS = 4;

export interface WorkerOptions {
  readonly config: Config;
  readonly log: Log;
  /** Stop when all tables are copied and everything that was committed before the start is durable. */
  readonly untilCaughtUp: boolean;
  /** Called with the live figures as soon as there are any. */
  readonly onFigures?: (figures: WorkerFigures) => void;
  /** Kept current for whoever watches the worker. */
  readonly health?: WorkerHealth;
  /** Reads the config's file again, for `pg-flo reload`. */
  readonly loadConfig?: () => Config;
}

/** Runs until the signal (finishes the batches, releases the leases) or until the group has caught up. */
export async function runWorker(options: WorkerOptions, signal: AbortSignal): Promise<void> {
  const { config, log, untilCaughtUp } = options;
  const storage = openStorage(config.storage);
  await storage.probe();
  await removeLeftSpillFiles(config.stream.spillFolder);
  // What cannot be reached at the start is told at once; later it is waited for.
  await endClient(await connect(config.source, { applicationName: applicationName(config.group, "start") }));
  await using db = await openMetadataPool(config);
  const start = { checked: false, mark: null, timeline: null };
  const health = options.health ?? noSigns();
  await using copiers = new CopierThreads();
  const context: WorkerContext = { config, log, untilCaughtUp, health, db: db.pool, storage, copiers, start };
  const limits = waitsWithin(config.leaseMs);
  await runService((inner) => live(context, options, inner), signal, { name: "worker", log, limits });
}

async function openMetadataPool(config: Config): Promise<AsyncDisposable & { readonly pool: Pool }> {
  const pool = await openPool(config.metadata, {
    applicationName: applicationName(config.group, "metadata"),
    max: METADATA_CONNECTIONS,
    options: metadataSessionOptions.replaceAll("-c ", "").split(" ").filter(Boolean),
  });
  limitIdleTransactions(pool, config.leaseMs);
  return { pool, [Symbol.asyncDispose]: () => pool.end() };
}

/** From joining the group to leaving it. Joins when it is ready: others count on every worker to take its share. */
async function live(
  context: WorkerContext,
  { onFigures, loadConfig }: WorkerOptions,
  signal: AbortSignal,
): Promise<void> {
  const { config, db, log, copiers } = context;
  if (await copyIsAhead(db, config.group)) copiers.prepare(config.copy.parallel);
  const prepared = await prepare(context);
  const workerId = await joinGroup(db, config.group, config.leaseMs, log);
  try {
    failpoint("worker.joined");
    await using snapshots = new HeldSnapshots({ config, db, workerId, log });
    const member: Member = {
      workerId,
      definitions: new Definitions(config, prepared),
      loadConfig,
      snapshots,
      work: new Wakeup(),
      copy: { ...noCopyFigures, parallel: config.copy.parallel },
      budgets: new Map(),
      counted: new Map(),
      streams: () => [],
    };
    const figures: WorkerFigures = {
      copy: member.copy,
      budgets: member.budgets,
      counted: member.counted,
      get streams() {
        return member.streams();
      },
    };
    onFigures?.(figures);
    const end = new AbortController();
    const inner = AbortSignal.any([signal, end.signal]);
    const leases = keepLeases(
      db,
      { workerId, group: config.group, leaseMs: config.leaseMs, log, health: context.health },
      () => heartbeatFigures(figures),
      inner,
    );
    const rounds = runRounds(context, member, inner).then(() => end.abort());
    await settleAll([leases, rounds], end).catch((error: unknown) => {
      // Told to stop meanwhile: whoever took it for dead has its work, and there is nothing to begin again for.
      if (!signal.aborted || !(error instanceof PgFloError) || error.code !== "LEASE_LOST") throw error;
    });
  } finally {
    await releaseQuietly(db, workerId, log);
  }
}

/** Others count on a worker that is well again before long: what another one had it takes over. */
function waitsWithin(leaseMs: number): BackoffLimits {
  return { ...SERVICE_BACKOFF, maxMs: Math.min(SERVICE_BACKOFF.maxMs, leaseMs / 2) };
}

/** Round after round, over failures of the source and the metadata: the leases are kept meanwhile. */
async function runRounds(context: WorkerContext, member: Member, signal: AbortSignal): Promise<void> {
  let first = true;
  const round = async (inner: AbortSignal): Promise<void> => {
    const { definitions } = member;
    const { config } = definitions; // which may be another one than at the start
    if (!first) definitions.replace(config, await prepare({ ...context, config }));
    first = false;
    await runRound(context, member, inner);
  };
  await runService(round, signal, { name: "worker", log: context.log, limits: waitsWithin(context.config.leaseMs) });
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
