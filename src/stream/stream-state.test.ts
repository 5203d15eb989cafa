import assert from "node:assert/strict";
import { test } from "node:test";
import { lsn } from "../base/lsn.ts";
import {
  laggingTables,
  noteCommit,
  noteDurable,
  notePosition,
  startProgress,
  type UndurableBatch,
} from "./stream-state.ts";
import type { StreamTable } from "./stream-table.ts";

const table = (tableId: number) => ({ tableId }) as StreamTable;
const [orders, items] = [table(1), table(2)];

function batch(sinceUs: bigint | null, ...tables: readonly StreamTable[]): UndurableBatch {
  return { sinceUs, changes: new Map(tables.map((each) => [each, 1])) };
}

test("a table lags since the first commit of the oldest batch with changes of it; durable ones do not count", () => {
  const progress = startProgress(lsn(1n));
  const [older, newer, empty] = [batch(100n, orders), batch(200n, orders, items), batch(null)];
  for (const each of [newer, older, empty]) progress.undurable.add(each);
  assert.deepEqual(
    [...laggingTables(progress)].sort(([a], [b]) => a.tableId - b.tableId),
    [
      [orders, 100n],
      [items, 200n],
    ],
  );
  noteDurable(progress, { batch: older, files: [{ rowCount: 3, sizeBytes: 30 }], tookMs: 5 });
  assert.deepEqual(laggingTables(progress).get(orders), 200n);
  noteDurable(progress, { batch: newer, files: [], tookMs: 5 });
  assert.equal(laggingTables(progress).size, 0);
  const { batchCount, fileCount, fileBytes, batchRows } = progress;
  assert.deepEqual([batchCount, fileCount, fileBytes, batchRows.sum], [2, 1, 30, 3]);
});

test("what waits is the oldest commit that is not durable, also when the open batch is empty", () => {
  const progress = startProgress(lsn(10n));
  noteCommit(progress, lsn(20n), 100n);
  const [closing, next] = [batch(100n, orders), batch(150n, orders)];
  progress.undurable.add(closing);
  noteCommit(progress, lsn(30n), 150n);
  assert.equal(progress.waitingSinceUs, 100n, "the first one");
  progress.undurable.add(next);
  progress.undurable.add(batch(null));
  noteDurable(progress, { batch: closing, files: [], tookMs: 1 });
  notePosition(progress, lsn(20n));
  assert.deepEqual([progress.waitingSinceUs, progress.changedUpTo > progress.position], [150n, true]);
  noteDurable(progress, { batch: next, files: [], tookMs: 1 });
  notePosition(progress, lsn(30n));
  assert.equal(progress.changedUpTo > progress.position, false, "nothing waits");
  noteCommit(progress, lsn(40n), 900n);
  assert.equal(progress.waitingSinceUs, 900n);
});
