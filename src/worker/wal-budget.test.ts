import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { WalBudgetConfig } from "../config/config.ts";
import { nextBudget, type WalBudget, type WalReading } from "./wal-budget.ts";

const MB = 1_000_000;
const warn: WalBudgetConfig = { action: "warn" };
const throttle: WalBudgetConfig = { action: "throttle copy" };

/** Retained megabytes every ten seconds, of a limit of 100 MB unless another is given. */
function after(megabytes: readonly number[], config: WalBudgetConfig = warn, limit: number | null = 100): WalBudget[] {
  const budgets: WalBudget[] = [];
  for (const [index, retained] of megabytes.entries()) {
    const reading: WalReading = {
      atMs: index * 10_000,
      retainedBytes: retained * MB,
      safeBytes: limit === null ? null : (limit - retained) * MB,
      limitBytes: limit === null ? null : limit * MB,
    };
    budgets.push(nextBudget(budgets.at(-1) ?? null, reading, config));
  }
  return budgets;
}

test("half of max_slot_wal_keep_size is a warning and four fifths are critical", () => {
  assert.deepEqual(
    after([49, 50, 79, 80, 100]).map(({ level }) => level),
    ["ok", "warning", "warning", "critical", "critical"],
  );
});

test("a level that was told ends only well below its threshold", () => {
  assert.deepEqual(
    after([80, 79, 72, 71, 46, 50, 44, 50]).map(({ level }) => level),
    ["critical", "critical", "critical", "warning", "warning", "warning", "ok", "warning"],
  );
});

test("configured sizes stand before those of the server, and hold without a limit", () => {
  const config = { warningBytes: 10 * MB, criticalBytes: 20 * MB, action: "warn" } as const;
  for (const limit of [100, null]) {
    assert.deepEqual(
      after([9, 10, 20], config, limit).map(({ level }) => level),
      ["ok", "warning", "critical"],
    );
  }
  const [budget] = after([60], { criticalBytes: 30 * MB, action: "warn" });
  assert.deepEqual(
    [budget!.warningBytes, budget!.level],
    [30 * MB, "critical"],
    "a warning never begins above critical",
  );
});

test("without a limit and without sizes nothing is ever told, and the figures are there all the same", () => {
  const last = after([0, 1000, 2000], warn, null).at(-1)!;
  assert.deepEqual([last.level, last.bytesPerSecond, last.secondsLeft], ["ok", 100 * MB, null]);
});

test("growth is that of the last minute, and gives the time that is left", () => {
  const [first, second] = after([0, 10]);
  assert.deepEqual([first!.bytesPerSecond, first!.secondsLeft], [null, null]);
  assert.deepEqual([second!.bytesPerSecond, second!.secondsLeft], [MB, 90]);
  const steady = after([0, 10, 20, 20, 20, 20, 20, 20, 20, 20]).at(-1)!;
  assert.deepEqual([steady.bytesPerSecond, steady.secondsLeft, steady.readings.length], [0, null, 7]);
  assert.equal(after([30, 10]).at(-1)!.bytesPerSecond, 0, "what shrinks does not grow");
});

test("the copy is throttled from critical on until it is ok again, by that policy alone", () => {
  const path = [50, 80, 71, 60, 46, 44, 60];
  assert.deepEqual(
    after(path, throttle).map(({ throttled }) => throttled),
    [false, true, true, true, true, false, false],
  );
  assert.ok(after(path, warn).every(({ throttled }) => !throttled));
});

test("whatever is read, a level never rises below its threshold, and the time left is never negative", () => {
  const readings = fc.array(fc.integer({ min: 0, max: 130 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(readings, fc.option(fc.integer({ min: 1, max: 120 })), (megabytes, limit) => {
      const rank = { ok: 0, warning: 1, critical: 2 };
      let before = 0;
      for (const budget of after(megabytes, warn, limit)) {
        const now = rank[budget.level];
        const threshold = [0, budget.warningBytes, budget.criticalBytes][now];
        if (now > before) assert.ok(budget.retainedBytes >= threshold!);
        assert.ok(budget.secondsLeft === null || budget.secondsLeft >= 0);
        before = now;
      }
    }),
  );
});
