import assert from "node:assert/strict";
import { test } from "node:test";
import { type ErrorCode, PgFloError } from "../base/errors.ts";
import { errorFacts, silentLog } from "../base/log.ts";
import { lsn } from "../base/lsn.ts";
import { noteSize } from "../base/size-histogram.ts";
import { startProgress } from "../stream/stream-state.ts";
import type { WorkerFigures } from "../worker/worker-figures.ts";
import { countedLog } from "./counted-log.ts";
import { WorkerTotals } from "./worker-totals.ts";

function session(changes: number, rows: number): WorkerFigures {
  const progress = startProgress(lsn(1n));
  progress.changeCount = changes;
  noteSize(progress.batchRows, rows);
  const copy = { rowCount: rows, sizeBytes: 10 * rows, rangesDone: 1, rangesTotal: 1, running: 0, parallel: 2 };
  return { streams: [], counted: new Map([[1, progress]]), copy, budgets: new Map() };
}

test("counters go on over sessions, also with what happened at the end of the one before", () => {
  const totals = new WorkerTotals();
  assert.deepEqual([totals.copy().rowCount, totals.streams().size], [0, 0]);
  const first = session(10, 5);
  totals.begin(first);
  assert.equal(totals.streams().get(1)!.changeCount, 10);
  first.counted.get(1)!.changeCount = 12; // after the last scrape of this session
  totals.begin(session(3, 7));
  const { changeCount, batchRows } = totals.streams().get(1)!;
  assert.deepEqual([changeCount, batchRows.sum, totals.copy().rowCount, totals.copy().rangesDone], [15, 12, 12, 2]);
  totals.begin({ ...session(0, 0), counted: new Map() });
  assert.equal(totals.streams().get(1)!.changeCount, 15, "a session that did not get to streaming yet");
});

test("warnings and errors with a code are counted, those of children too", () => {
  const counts = new Map<ErrorCode, number>();
  const log = countedLog(silentLog, counts);
  log.warn("w", errorFacts(new PgFloError("CONNECTION_LOST", "x")));
  log.child({ stream: 1 }).error("e", errorFacts(new PgFloError("CONNECTION_LOST", "x")));
  log.error("e", errorFacts(new Error("x")));
  log.warn("without", { code: "NO_SUCH_CODE" });
  log.info("i", { code: "SLOT_LOST" });
  assert.deepEqual(
    [...counts],
    [
      ["CONNECTION_LOST", 2],
      ["INTERNAL", 1],
    ],
  );
});
