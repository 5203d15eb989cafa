import assert from "node:assert/strict";
import { test } from "node:test";
import { RateLimit } from "./rate-limit.ts";

const wanted = new AbortController().signal;
const KIB64 = 65_536;

test("several that share a rate read no more than it together", async () => {
  const limit = new RateLimit();
  limit.set(10_000_000);
  const began = performance.now();
  const reader = new RateLimit(limit.shared);
  const read = async (own: RateLimit) => {
    for (let count = 0; count < 40; count++) await own.pause(KIB64, wanted);
  };
  await Promise.all([read(limit), read(reader)]);
  // 5.2 MB, of which 2 MB may come at once.
  assert.ok(performance.now() - began > 300);
});

test("without a limit nobody waits, and who waits goes on when the limit is lifted", async () => {
  const limit = new RateLimit();
  assert.equal(limit.pause(1e12, wanted), undefined);
  limit.set(100_000);
  const waiting = limit.pause(1e9, wanted); // for hours
  assert.ok(waiting);
  limit.set(null);
  await waiting;
  assert.equal(limit.pause(1e12, wanted), undefined);
});

test("a rate that is set again to what it is forgives nothing", () => {
  const limit = new RateLimit();
  limit.set(100_000);
  void limit.pause(1e9, AbortSignal.abort());
  limit.set(100_000);
  assert.ok(limit.pause(1, AbortSignal.abort()));
});

test("an abort ends the wait", async () => {
  const limit = new RateLimit();
  limit.set(100_000);
  const stop = new AbortController();
  const waiting = limit.pause(1e9, stop.signal);
  stop.abort();
  await waiting;
});
