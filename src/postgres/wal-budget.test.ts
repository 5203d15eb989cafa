import assert from "node:assert/strict";
import { test } from "node:test";
import { lsn } from "../base/lsn.ts";
import { BUDGET_WINDOW_MS, type WalSample, walBudget, withSample } from "./wal-budget.ts";

function samples(count: number, retained: (index: number) => number, safe: number | null = 1e9): WalSample[] {
  return Array.from({ length: count }, (_, index) => ({
    atMs: 5000 + index * 10_000,
    walPosition: lsn(BigInt(1e12 + index * 10_000_000)),
    retainedBytes: retained(index),
    safeBytes: safe,
  }));
}

test("without samples nothing is known, with one no rate", () => {
  assert.equal(walBudget([]), null);
  const [only] = samples(1, () => 7);
  assert.deepEqual(walBudget([only!]), {
    walPosition: only!.walPosition,
    ...{ retainedBytes: 7, safeBytes: 1e9 },
    ...{ writtenBytesPerSecond: null, growthBytesPerSecond: null, timeLeftMs: null },
  });
});

test("a slot that stands still loses its budget as fast as the log is written", () => {
  const budget = walBudget(samples(10, (index) => index * 10_000_000))!;
  assert.equal(Math.round(budget.writtenBytesPerSecond!), 1_000_000);
  assert.equal(Math.round(budget.growthBytesPerSecond!), 1_000_000);
  assert.equal(Math.round(budget.timeLeftMs!), 1_000_000);
  assert.equal(walBudget(samples(10, (index) => index * 1e7, null))!.timeLeftMs, null, "no limit, no end");
});

test("a slot that keeps up has no end, whatever the steps in which it moves", () => {
  const steady = walBudget(samples(31, (index) => (index % 3) * 10_000_000))!;
  assert.ok(Math.abs(steady.growthBytesPerSecond!) < 0.05 * steady.writtenBytesPerSecond!);
  const catchingUp = walBudget(samples(10, (index) => 1e9 - index * 1e7))!;
  assert.ok(catchingUp.growthBytesPerSecond! < 0);
  assert.equal(catchingUp.timeLeftMs, null);
});

test("samples leave the window", () => {
  const kept = samples(60, () => 0).reduce<WalSample[]>(withSample, []);
  assert.equal(kept.length, BUDGET_WINDOW_MS / 10_000 + 1);
});
