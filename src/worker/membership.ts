// A worker's place in its group: its row, its heartbeat, its leases. Refuses to go on once it was taken for dead.
import { hostname } from "node:os";
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { errorFacts } from "../base/log.ts";
import { processLives } from "../base/process-lives.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import {
  cleanExpiredWorkers,
  type FreedStream,
  heartbeat,
  readWorkers,
  registerWorker,
  releaseWorker,
  type WorkerInfo,
} from "../metadata/workers.ts";
import type { WorkerHealth } from "./worker-health.ts";

/** A lease outlives this many heartbeats. */
const HEARTBEATS_PER_LEASE = 12;

/**
 * Registers this process. Workers of the group that died on this host are cleaned away first, so that a restart does
 * not wait for their leases; the epoch fences them out if they should live after all.
 */
export async function joinGroup(db: Queryable, group: string, leaseMs: number, log: Log): Promise<string> {
  await cleanExpired(db, group, leaseMs, log);
  for (const worker of await readWorkers(db, group)) {
    if (!diedHere(worker)) continue;
    log.info("cleaned up after a worker that died on this host", { pid: worker.pid });
    await releaseWorker(db, worker.workerId);
    failpoint("worker.dead-released");
  }
  return registerWorker(db, { group, host: hostname(), pid: process.pid });
}

// Same host and same pid is an earlier life of ours: a container starts again with pid 1.
function diedHere(worker: WorkerInfo): boolean {
  if (worker.host !== hostname()) return false;
  return worker.pid === process.pid || !processLives(worker.pid);
}

export function heartbeatMs(leaseMs: number): number {
  return Math.max(100, leaseMs / HEARTBEATS_PER_LEASE);
}

async function cleanExpired(db: Queryable, group: string, leaseMs: number, log: Log): Promise<void> {
  const { workerIds, streams } = await cleanExpiredWorkers(db, group, leaseMs);
  if (workerIds.length > 0) log.info("cleaned up after workers whose leases ran out", { workers: workerIds.length });
  for (const stream of streams) await tellTakeover({ db, group, log }, stream);
}

/** Whoever sees it first: who cleans up after the worker, or who takes the stream. */
export async function tellTakeover(
  { db, group, log }: { readonly db: Queryable; readonly group: string; readonly log: Log },
  { stream, slotName }: FreedStream,
): Promise<void> {
  const message = `stream ${stream}: its worker's lease ran out, another worker takes it over`;
  log.info(message);
  await addEvent(db, group, { severity: "warning", code: "TAKEOVER", subject: slotName, message });
}

/**
 * Renews the leases until the signal, and clears away workers that do not any more. A heartbeat that fails is repeated;
 * one that says "you are dead" ends it.
 */
export async function keepLeases(
  db: Queryable,
  worker: {
    readonly workerId: string;
    readonly group: string;
    readonly leaseMs: number;
    readonly log: Log;
    readonly health: WorkerHealth;
  },
  figures: () => unknown,
  signal: AbortSignal,
): Promise<void> {
  const intervalMs = heartbeatMs(worker.leaseMs);
  while (!signal.aborted) {
    worker.health.heartbeatTriedAt = performance.now();
    try {
      const { alive } = await heartbeat(db, { ...worker, figures: figures() });
      if (!alive)
        throw new PgFloError("LEASE_LOST", `worker ${worker.workerId}, lease, another worker took it for dead`);
      worker.health.heartbeatAt = performance.now();
      failpoint("lease.renewed");
      await cleanExpired(db, worker.group, worker.leaseMs, worker.log);
    } catch (error) {
      if (!(error instanceof PgFloError) || error.action !== "retry" || error.code === "LEASE_LOST") throw error;
      worker.log.warn("heartbeat failed", errorFacts(error));
    }
    await systemClock.sleep(intervalMs, signal).catch(() => {}); // an abort ends the loop above
  }
}
