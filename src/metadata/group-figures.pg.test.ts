import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  at,
  makeGroup,
  makeMetadata,
  makeTables,
  makeWorker,
  testLeaseMs,
  wantedTable,
} from "../../test/support/metadata.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { readWaitingWork } from "./capacity.ts";
import { readGroupFigures } from "./group-figures.ts";
import { planRanges } from "./range-plans.ts";
import { claimRange } from "./ranges.ts";
import { claimStream, ensureStream, takeCut } from "./streams.ts";
import { setTableError } from "./tables.ts";
import { heartbeat } from "./workers.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("a group of thousands of tables has sums of all and figures of the first ones", async () => {
  await using metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  await makeGroup(pool, "other");
  const tables = await makeTables(
    pool,
    group,
    Array.from({ length: 3000 }, (_, n) => wantedTable(`t${n}`, { oid: n + 1 })),
  );
  await makeTables(pool, "other", [wantedTable("t")]);
  await pool.query(`update _pg_flo.tables set change_operations = 10, change_rows = 2, file_count = 1, file_bytes = 100,
    inexact_values = 1, ranges_total = 4, ranges_done = 1, copy_rows = 7, copy_bytes = 70`);
  await setTableError(pool, tables[0]!, { code: "TABLE_FAILED", message: "m" });
  await ensureStream(pool, { group, stream: 1, slotName: "slot", publications: ["p"] });
  await ensureStream(pool, { group, stream: 2, slotName: "slot2", publications: ["p"] });
  const workerId = await makeWorker(pool, group);
  await makeWorker(pool, "other");
  assert.ok((await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs })).taken);
  await pool.query(
    "insert into _pg_flo.workers (group_name, host, pid, heartbeat_at) values ($1, 'h', 1, now() - '1 h'::interval)",
    [group],
  );
  const figures = await readGroupFigures(pool, { group, tableLimit: 5, leaseMs: testLeaseMs });
  assert.deepEqual(
    [figures.tablesByState, figures.tableCount, figures.tables.map(({ name }) => name)],
    [{ pending: 2999, error: 1 }, 3000, ["t0", "t1", "t10", "t100", "t1000"]],
  );
  assert.deepEqual(figures.totals, {
    ...{ rangesTotal: 12_000, rangesDone: 3000, copyRows: 21_000, copyBytes: 210_000 },
    ...{ changeOperations: 30_000, changeRows: 6000, fileCount: 3000, fileBytes: 300_000, inexactValues: 3000 },
  });
  assert.deepEqual(figures.workers, { alive: 1, expired: 1, full: 0 });
  assert.deepEqual(
    figures.streams.map(({ stream, state, waiting, epoch }) => [stream, state, waiting, epoch]),
    [
      [1, "creating", false, 1],
      [2, "creating", true, 0],
    ],
  );
  assert.equal(figures.tables[0]!.state, "error");
});

test("a group that is not there has no figures", async () => {
  await using metadata = await makeMetadata(server);
  const { tableCount, totals, streams, tables } = await readGroupFigures(metadata.pool, {
    ...{ group: "none", tableLimit: 5, leaseMs: testLeaseMs },
  });
  assert.deepEqual([tableCount, totals.rangesTotal, streams, tables], [0, 0, [], []]);
});

test("ranges wait that no living worker reads, of tables that are being copied; a worker is full that reads all it may", async () => {
  await using metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const copying = await makeTables(
    pool,
    group,
    ["a", "b", "c"].map((name) => wantedTable(name, { mode: "copy-only" })),
  );
  const [alive, dead] = [await makeWorker(pool, group), await makeWorker(pool, group)];
  await takeCut(pool, { group, fence: null, tables: copying, lsn: at(100) });
  for (const { tableId, generation } of copying) {
    const heap = { heapOid: tableId, heapSchema: "public", heapName: "t", relfilenode: 1 };
    const ranges = [0, 10, 20].map((blockFrom) => ({
      ...heap,
      blockFrom,
      blockTo: blockFrom === 20 ? null : blockFrom + 10,
    }));
    await planRanges(pool, { tableId, generation, tableBlocks: 30, ranges });
  }
  for (const workerId of [alive, alive, dead]) await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
  const told = { workerId: alive, leaseMs: testLeaseMs, figures: { copy: { running: 2, parallel: 2 } } };
  await heartbeat(pool, told);
  await heartbeat(pool, { ...told, workerId: dead });
  await pool.query("update _pg_flo.workers set heartbeat_at = now() - '1 h'::interval where worker_id = $1", [dead]);
  await pool.query("update _pg_flo.copy_ranges set lease_until = now() - '1 h'::interval where owner = $1", [dead]);
  await setTableError(pool, copying[2]!, { code: "TABLE_FAILED", message: "m" });
  const figures = await readGroupFigures(pool, { group, tableLimit: 5, leaseMs: testLeaseMs });
  assert.deepEqual([figures.rangesOpen, figures.rangesRunning], [6, 2]);
  assert.deepEqual(figures.workers, { alive: 1, expired: 1, full: 1 });
  const { ranges } = await readWaitingWork(pool, group);
  assert.equal(ranges, figures.rangesOpen - figures.rangesRunning, "as status counts them");
});
