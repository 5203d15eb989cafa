// Whether a worker lives and whether it works, decided from its signs of life. Pure.
// Live: a supervisor must not start it anew. Answering at all shows that the event loop runs; besides, the heartbeats
// must be tried (that they succeed is not in this process's hands: starting anew would mend nothing).
// Ready: it streams and copies, and the metadata database takes what it does.
import { type ConnectionConfig, RECEIVE_TIMEOUT_MS } from "../base/connection-config.ts";
import type { WorkerHealth } from "../worker/worker-health.ts";

export interface HealthLimits {
  readonly leaseMs: number;
  /** Within which a heartbeat that is tried must have an outcome. */
  readonly attemptMs: number;
}

export function healthLimits(leaseMs: number, metadata: ConnectionConfig): HealthLimits {
  const receiveMs = metadata.receiveTimeoutMs ?? RECEIVE_TIMEOUT_MS;
  return { leaseMs, attemptMs: metadata.connectTimeoutMs + 2 * receiveMs };
}

export interface Verdict {
  readonly ok: boolean;
  /** For people: what is wrong, or that nothing is. */
  readonly reason: string;
}

/** Times in milliseconds by the same clock as `now`. */
export function live(health: WorkerHealth, limits: HealthLimits, now: number): Verdict {
  if (!health.running || health.heartbeatTriedAt === null) return { ok: true, reason: "live, it starts or waits" };
  const silentMs = now - health.heartbeatTriedAt;
  const mostMs = limits.leaseMs + limits.attemptMs;
  return silentMs > mostMs
    ? { ok: false, reason: `no heartbeat was tried for ${Math.round(silentMs / 1000)} s: the worker hangs` }
    : { ok: true, reason: "live" };
}

/** `metadataReached`: the metadata database answered just now. */
export function ready(health: WorkerHealth, limits: HealthLimits, now: number, metadataReached: boolean): Verdict {
  if (!health.running) return { ok: false, reason: "it starts, or waits after an error: the log says which" };
  if (!metadataReached) return { ok: false, reason: "the metadata database does not answer" };
  if (health.heartbeatAt === null) return { ok: false, reason: "the first heartbeat is not stored yet" };
  const ageMs = now - health.heartbeatAt;
  return ageMs > limits.leaseMs
    ? { ok: false, reason: `the last heartbeat was stored ${Math.round(ageMs / 1000)} s ago: its leases run out` }
    : { ok: true, reason: "ready" };
}
