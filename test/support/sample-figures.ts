// Figures of a worker in which everything is known: each metric has a reading.

import { lsn } from "../../src/base/lsn.ts";
import { noteSize } from "../../src/base/size-histogram.ts";
import type { Figures } from "../../src/metrics/readings.ts";
import { startProgress } from "../../src/stream/stream-state.ts";

export function sampleFigures(): Figures {
  const progress = { ...startProgress(lsn(1000n)), reached: lsn(2000n), changedUpTo: lsn(2000n), waitingSinceUs: 1n };
  for (const size of [0, 1, 5, 1e9]) noteSize(progress.transactionChanges, size);
  noteSize(progress.batchMs, 30);
  const totals = {
    ...{ rangesTotal: 9, rangesDone: 3, copyRows: 5, copyBytes: 50, changeOperations: 7, changeRows: 6 },
    ...{ fileCount: 2, fileBytes: 200, inexactValues: 1 },
  };
  return {
    ...{ running: true, sessionCount: 2, heartbeatAgeMs: 1500, errors: new Map([["CONNECTION_LOST", 3]] as const) },
    totals: new Map([[1, progress]]),
    streams: new Map([[1, progress]]),
    rangesRunning: 1,
    copy: { rowCount: 5, sizeBytes: 50, rangesDone: 3 },
    budgets: new Map([
      [
        "pg_flo_app_1",
        {
          ...{ walPosition: lsn(5000n), retainedBytes: 4000, safeBytes: 1e9 },
          ...{ writtenBytesPerSecond: 100, growthBytesPerSecond: 10, timeLeftMs: 1e11 },
        },
      ],
    ]),
    group: {
      ...{ tablesByState: { streaming: 1, error: 1 }, tableCount: 3, totals, rangesOpen: 6, rangesRunning: 2 },
      streams: [
        { stream: 1, slotName: "pg_flo_app_1", state: "active", epoch: 4, position: lsn(1000n), waiting: false },
      ],
      workers: { alive: 1, expired: 0, full: 1 },
      tables: [
        {
          ...totals,
          tableId: 1,
          schema: "public",
          name: "orders",
          state: "streaming",
          stream: 1,
          verifiedAgeMs: 60_000,
          differingRows: 0,
        },
        {
          ...totals,
          tableId: 2,
          schema: "public",
          name: 'odd "name"\n\\',
          state: "error",
          stream: 1,
          verifiedAgeMs: null,
          differingRows: null,
        },
      ],
    },
  };
}
