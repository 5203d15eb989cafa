import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { backoffMs } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import { PgFloError } from "./errors.ts";
import { silentLog } from "./log.ts";
import { runService } from "./service.ts";

/** A clock whose sleeps take no time and are written down. */
function simulatedClock(): Clock & { readonly sleeps: number[]; pass(ms: number): void } {
  let nowMs = 0;
  const sleeps: number[] = [];
  return {
    sleeps,
    now: () => nowMs,
    random: () => 0.999_999,
    pass: (ms) => {
      nowMs += ms;
    },
    sleep: async (ms, signal) => {
      signal?.throwIfAborted();
      sleeps.push(ms);
      nowMs += ms;
    },
  };
}

const lost = () => new PgFloError("CONNECTION_LOST", "source, lost");

test("a wait is within its bound, the bound doubles, and never exceeds the limit", () => {
  const limits = { firstMs: 100, maxMs: 5000 };
  assert.deepEqual(
    [1, 2, 3, 6, 7, 2000].map((n) => backoffMs(n, limits, () => 0.5)),
    [50, 100, 200, 1600, 2500, 2500],
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5000 }),
      fc.double({ min: 0, max: 0.9999999, noNaN: true }),
      (failures, random) => {
        const waitMs = backoffMs(failures, limits, () => random);
        assert.ok(Number.isInteger(waitMs) && waitMs >= 0 && waitMs <= limits.maxMs);
      },
    ),
  );
});

test("an error to retry is tried again with growing waits, until the work is done", async () => {
  const clock = simulatedClock();
  let runs = 0;
  await runService(
    async () => {
      if (++runs < 5) throw lost();
    },
    new AbortController().signal,
    { name: "s", log: silentLog, clock, limits: { firstMs: 100, maxMs: 300 } },
  );
  assert.equal(runs, 5);
  assert.deepEqual(clock.sleeps, [99, 199, 299, 299]);
});

test("after a healthy run the waits begin small again", async () => {
  const clock = simulatedClock();
  let runs = 0;
  const run = async () => {
    if (++runs === 3) clock.pass(60_000);
    if (runs < 5) throw lost();
  };
  const options = { name: "s", log: silentLog, clock, limits: { firstMs: 100, maxMs: 10_000 } };
  await runService(run, new AbortController().signal, options);
  assert.deepEqual(clock.sleeps, [99, 199, 99, 199]);
});

test("every other error is thrown at once, and so is the last of too many", async () => {
  const options = { name: "s", log: silentLog, clock: simulatedClock(), failuresMax: 3 };
  const signal = new AbortController().signal;
  for (const error of [
    new PgFloError("AUTHENTICATION_FAILED", "x"),
    new PgFloError("TABLE_FAILED", "x"),
    new TypeError("x"),
  ]) {
    let runs = 0;
    const run = async () => {
      runs++;
      throw error;
    };
    await assert.rejects(runService(run, signal, options), (thrown) => thrown === error);
    assert.equal(runs, 1);
  }
  let runs = 0;
  const run = async () => {
    runs++;
    throw lost();
  };
  await assert.rejects(runService(run, signal, options), /CONNECTION_LOST/);
  assert.equal(runs, 3);
});

test("an abort ends the run, the wait and the loop without an error, but hides no failure of the stop itself", async () => {
  const options = { name: "s", log: silentLog, limits: { firstMs: 3_600_000, maxMs: 3_600_000 } };
  const waiting = new AbortController();
  const clock: Clock = { ...systemClock, random: () => 0.5 };
  let runs = 0;
  const run = async () => {
    runs++;
    setTimeout(() => waiting.abort(), 5);
    throw lost();
  };
  await runService(run, waiting.signal, { ...options, clock });
  await runService(run, waiting.signal, { ...options, clock });
  assert.equal(runs, 1);

  const running = new AbortController();
  const service = runService((signal) => systemClock.sleep(3_600_000, signal), running.signal, options);
  running.abort(new Error("stop"));
  await service;

  const failing = new AbortController();
  const stop = async () => {
    failing.abort();
    throw lost();
  };
  await assert.rejects(runService(stop, failing.signal, options), /CONNECTION_LOST/);

  const looking = new AbortController();
  const look = async () => {
    looking.abort();
    throw lost();
  };
  await runService(look, looking.signal, { ...options, nothingToFinish: true });
  const broken = async () => {
    throw new PgFloError("TABLE_FAILED", "x");
  };
  await assert.rejects(runService(broken, new AbortController().signal, { ...options, nothingToFinish: true }), {
    code: "TABLE_FAILED",
  });
});
