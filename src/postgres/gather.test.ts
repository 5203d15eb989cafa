import assert from "node:assert/strict";
import { test } from "node:test";
import { GatherPace } from "./gather.ts";

/** A server that sends `bytesPerMs` into a receive window; reading takes what is there. Returns bytes and reads. */
function simulate(bytesPerMs: number, windowBytes: number, messageBytes: number, durationMs: number) {
  const pace = new GatherPace();
  let now = 0;
  let reads = 0;
  let total = 0;
  let pause = 0;
  let longestPause = 0;
  while (now < durationMs) {
    // Without a pause the next message wakes us up.
    const elapsed = pause === 0 ? messageBytes / bytesPerMs : pause;
    now += elapsed;
    const read = Math.floor(Math.min(windowBytes, elapsed * bytesPerMs));
    total += read;
    reads++;
    pause = pace.afterRead(read, now);
    longestPause = Math.max(longestPause, pause);
  }
  return { reads, bytesPerMs: total / now, longestPause };
}

test("a trickle is read at once", () => {
  assert.equal(simulate(300, 4_000_000, 200, 2000).longestPause, 0);
});

test("a backlog of small messages is read in large pieces", () => {
  const { reads } = simulate(60_000, 4_000_000, 200, 4000);
  assert.ok(reads < 1000, `${reads} reads`);
});

test("a receive window that is full does not limit the speed", () => {
  for (const windowBytes of [128 * 1024, 1_000_000, 2_000_000]) {
    for (const rate of [60_000, 240_000]) {
      // Not even without a pause is more than one window read in the shortest pause.
      const possible = Math.min(rate, windowBytes);
      const { bytesPerMs } = simulate(rate, windowBytes, 1000, 4000);
      assert.ok(bytesPerMs > possible * 0.6, `${bytesPerMs} of ${possible} with a window of ${windowBytes}`);
    }
  }
});

test("after a backlog a trickle is read at once again", () => {
  const pace = new GatherPace();
  for (let i = 0; i < 50; i++) pace.afterRead(500_000, i * 10);
  assert.equal(pace.afterRead(100, 600), 0);
  assert.equal(pace.afterRead(100, 700), 0);
});
