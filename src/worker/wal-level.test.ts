import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { WalBudgetConfig } from "../config/config.ts";
import { nextLevel, type WalLevel } from "./wal-level.ts";

const MB = 1_000_000;
const warn: WalBudgetConfig = { action: "warn" };

/** What is kept, in megabytes, of a limit of 100 MB unless another is given. */
function after(megabytes: readonly number[], config: WalBudgetConfig = warn, limit: number | null = 100): WalLevel[] {
  const levels: WalLevel[] = [];
  for (const kept of megabytes) {
    const budget = { retainedBytes: kept * MB, safeBytes: limit === null ? null : (limit - kept) * MB };
    levels.push(nextLevel(levels.at(-1) ?? null, budget, config));
  }
  return levels;
}

const names = (levels: readonly WalLevel[]) => levels.map(({ name }) => name);

test("half of max_slot_wal_keep_size is a warning and four fifths are critical", () => {
  assert.deepEqual(names(after([49, 50, 79, 80, 100])), ["ok", "warning", "warning", "critical", "critical"]);
});

test("a level that was told ends only well below its threshold", () => {
  assert.deepEqual(names(after([80, 79, 72, 71, 46, 50, 44, 50])), [
    ...["critical", "critical", "critical", "warning", "warning", "warning", "ok", "warning"],
  ]);
});

test("configured sizes stand before those of the server, and hold without a limit", () => {
  const config = { warningBytes: 10 * MB, criticalBytes: 20 * MB, action: "warn" } as const;
  for (const limit of [100, null])
    assert.deepEqual(names(after([9, 10, 20], config, limit)), ["ok", "warning", "critical"]);
  const [level] = after([60], { criticalBytes: 30 * MB, action: "warn" });
  assert.deepEqual([level!.warningBytes, level!.name], [30 * MB, "critical"], "a warning never begins above critical");
});

test("without a limit and without sizes nothing is ever told", () => {
  assert.deepEqual(names(after([0, 1000, 2000], warn, null)), ["ok", "ok", "ok"]);
});

test("the copy is throttled from critical on until it is ok again, by that policy alone", () => {
  const path = [50, 80, 71, 60, 46, 44, 60];
  const throttled = (config: WalBudgetConfig) => after(path, config).map((level) => level.throttled);
  assert.deepEqual(throttled({ action: "throttle copy" }), [false, true, true, true, true, false, false]);
  assert.ok(throttled(warn).every((each) => !each));
});

test("whatever is kept, a level never rises below its threshold", () => {
  const kept = fc.array(fc.integer({ min: 0, max: 130 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(kept, fc.option(fc.integer({ min: 1, max: 120 })), (megabytes, limit) => {
      const rank = { ok: 0, warning: 1, critical: 2 };
      let before = 0;
      for (const [index, level] of after(megabytes, warn, limit).entries()) {
        const now = rank[level.name];
        if (now > before) assert.ok(megabytes[index]! * MB >= [0, level.warningBytes!, level.criticalBytes!][now]!);
        before = now;
      }
    }),
  );
});
