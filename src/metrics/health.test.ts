import assert from "node:assert/strict";
import { test } from "node:test";
import type { WorkerHealth } from "../worker/worker-health.ts";
import { type HealthLimits, live, ready } from "./health.ts";

const limits: HealthLimits = { leaseMs: 60_000, attemptMs: 130_000 };
const working: WorkerHealth = { running: true, sessionCount: 1, heartbeatTriedAt: 1_000_000, heartbeatAt: 1_000_000 };

test("a worker that works is live and ready", () => {
  assert.deepEqual(live(working, limits, 1_004_000), { ok: true, reason: "live" });
  assert.deepEqual(ready(working, limits, 1_004_000, true), { ok: true, reason: "ready" });
});

test("one that starts or waits is live and not ready, however long: starting it anew would mend nothing", () => {
  const waiting = { ...working, running: false };
  assert.equal(live(waiting, limits, 1e9).ok, true);
  assert.match(ready(waiting, limits, 1e9, true).reason, /^it starts, or waits after an error/);
});

test("one whose heartbeats fail is live as long as it tries them, and not ready", () => {
  const trying = { ...working, heartbeatTriedAt: 1_500_000 };
  assert.equal(live(trying, limits, 1_505_000).ok, true);
  assert.deepEqual(
    ready(trying, limits, 1_505_000, true).reason,
    "the last heartbeat was stored 505 s ago: its leases run out",
  );
  assert.match(ready(working, limits, 1_000_100, false).reason, /metadata database does not answer/);
  assert.match(ready({ ...working, heartbeatAt: null }, limits, 1_000_100, true).reason, /first heartbeat/);
});

test("one that no longer tries its heartbeats hangs", () => {
  assert.equal(live(working, limits, 1_190_000).ok, true);
  assert.deepEqual(live(working, limits, 1_191_000), {
    ok: false,
    reason: "no heartbeat was tried for 191 s: the worker hangs",
  });
});
