import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type pg from "pg";
import {
  at,
  makeGroup,
  makeMetadata,
  makeTables,
  makeWorker,
  newFile,
  testLeaseMs,
  wantedTable,
} from "../../test/support/metadata.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { copyAgain } from "./copy-again.ts";
import { planRanges } from "./range-plans.ts";
import {
  type ClaimedRange,
  claimRange,
  completeRange,
  type NewRange,
  releaseRange,
  remainingRanges,
  resetRangesOfLostWorkers,
} from "./ranges.ts";
import { readManifest } from "./status.ts";
import { takeCut } from "./streams.ts";
import { readTables, setTableError, type Table } from "./tables.ts";
import { heartbeat, releaseWorker } from "./workers.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

function heapRanges(count: number, heapOid = 1): NewRange[] {
  return Array.from({ length: count }, (_, n) => ({
    heapOid,
    heapSchema: "public",
    heapName: "heap",
    relfilenode: 1,
    blockFrom: n * 100,
    blockTo: n === count - 1 ? null : (n + 1) * 100,
  }));
}

/** Copy-only tables with a cut, and so many ranges each. */
async function makeCopy(rangeCounts: readonly number[], connections = 4) {
  const metadata = await makeMetadata(server, connections);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const wanted = rangeCounts.map((_, n) => wantedTable(`t${n}`, { mode: "copy-only" }));
  const tables = await makeTables(pool, group, wanted);
  await takeCut(pool, { group, fence: null, tables, lsn: at(100) });
  for (const [n, count] of rangeCounts.entries()) await plan(pool, tables[n]!, count);
  return { metadata, pool, group, tables, workerId: await makeWorker(pool, group) };
}

function plan(pool: pg.Pool, { tableId, generation }: Table, count: number) {
  return planRanges(pool, { tableId, generation, tableBlocks: count * 100, ranges: heapRanges(count) });
}

function completion(range: ClaimedRange, path: string) {
  return {
    range,
    snapshotLsn: at(100),
    files: [newFile(range, path)],
    rows: 10,
    sizeBytes: 500,
    inexactColumns: { b: 1 },
  };
}

async function paths(pool: pg.Pool, group: string): Promise<string[]> {
  const { tables } = await readManifest(pool, group);
  return tables.flatMap(({ files }) => files.map((file) => file.path));
}

test("many connections that race for ranges claim every one, and none twice", async () => {
  const { metadata, pool, group } = await makeCopy([120, 80, 40], 12);
  await using _ = metadata;
  const workers = await Promise.all(Array.from({ length: 12 }, () => makeWorker(pool, group)));
  const claimed: ClaimedRange[] = [];
  await Promise.all(
    workers.map(async (workerId) => {
      for (;;) {
        const range = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
        if (!range) return;
        claimed.push(range);
        await completeRange(pool, completion(range, `${range.rangeId}.parquet`));
      }
    }),
  );
  assert.equal(claimed.length, 240);
  assert.equal(new Set(claimed.map((range) => range.rangeId)).size, 240);
  assert.equal((await paths(pool, group)).length, 240);
  for (const table of await readTables(pool, group)) {
    assert.equal(table.state, "copied");
    assert.equal(table.rangesDone, table.rangesTotal);
    assert.deepEqual([table.copyRows, table.copyBytes], [10 * table.rangesDone, 500 * table.rangesDone]);
    assert.equal(table.fileCount, table.rangesDone);
  }
  const left = await pool.query("select 1 from _pg_flo.copy_ranges");
  assert.equal(left.rows.length, 0);
});

test("a claim takes one range, however many the planner expects and however it joins them", async () => {
  const { metadata, pool, group, workerId } = await makeCopy([60, 1, 1, 1], 1); // one connection, whose settings stay
  await using _ = metadata;
  const joins = ["enable_hashjoin", "enable_mergejoin", "enable_nestloop"];
  const scans = ["enable_indexscan", "enable_seqscan", "enable_material"];
  let claimed = 0;
  for (const rowCount of [0, 1, 1000]) {
    await pool.query(
      `update pg_class set reltuples = ${rowCount}, relpages = 1
       where oid in ('_pg_flo.copy_ranges'::regclass, '_pg_flo.tables'::regclass)`,
    );
    for (const join of joins) {
      for (const without of [[], ...scans.map((scan) => [scan]), ["enable_indexscan", "enable_material"]]) {
        for (const setting of [...joins, ...scans]) await pool.query(`set ${setting} = on`);
        for (const setting of [...joins.filter((each) => each !== join), ...without]) {
          await pool.query(`set ${setting} = off`);
        }
        assert.ok(await claimRange(pool, { group, workerId, leaseMs: testLeaseMs }));
        const { rows } = await pool.query("select count(*)::int as n from _pg_flo.copy_ranges where state = 'running'");
        assert.equal(rows[0].n, ++claimed, `${rowCount} rows, ${join} without ${without.join(", ")}`);
      }
    }
  }
});

test("the largest table is copied first, its ranges in order, and a claim can be limited to tables", async () => {
  const { metadata, pool, group, tables, workerId } = await makeCopy([1, 3, 2]);
  await using _ = metadata;
  const claim = { group, workerId, leaseMs: testLeaseMs };
  const only = await claimRange(pool, { ...claim, tableIds: [tables[2]!.tableId] });
  assert.deepEqual([only?.tableId, only?.rangeNumber, only?.blockTo], [tables[2]!.tableId, 1, 100]);
  const order: string[] = [];
  for (let range = await claimRange(pool, claim); range; range = await claimRange(pool, claim)) {
    order.push(`${tables.findIndex((table) => table.tableId === range?.tableId)}/${range.rangeNumber}`);
  }
  assert.deepEqual(order, ["1/1", "1/2", "1/3", "2/2", "0/1"]);
  assert.deepEqual(
    (await remainingRanges(pool, group)).map(({ tableId, pending, running }) => [tableId, pending, running]),
    [
      [tables[1]!.tableId, 0, 3],
      [tables[2]!.tableId, 0, 2],
      [tables[0]!.tableId, 0, 1],
    ],
  );
});

test("a range whose lease ran out is taken by another worker, and the first one's result is fenced out", async () => {
  const { metadata, pool, group, workerId } = await makeCopy([2]);
  await using _ = metadata;
  const first = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
  await pool.query("update _pg_flo.copy_ranges set lease_until = now() - interval '1 second' where state = 'running'");
  const other = await makeWorker(pool, group, "other");
  const second = await claimRange(pool, { group, workerId: other, leaseMs: testLeaseMs });
  assert.deepEqual([second?.rangeId, second?.attempt], [first?.rangeId, 2]);
  assert.deepEqual(await completeRange(pool, completion(first!, "first.parquet")), { result: "fenced" });
  assert.equal(await releaseRange(pool, first!), false);
  assert.deepEqual((await heartbeat(pool, { workerId, figures: {}, leaseMs: testLeaseMs })).rangeIds, []);
  assert.deepEqual(await completeRange(pool, completion(second!, "second.parquet")), {
    result: "done",
    tableState: "copying",
  });
  assert.deepEqual(await completeRange(pool, completion(first!, "first.parquet")), { result: "fenced" });
  assert.deepEqual(await paths(pool, group), ["second.parquet"]);
});

test("a worker whose heartbeat is late does not get the range that it is reading once more", async () => {
  const { metadata, pool, group, workerId } = await makeCopy([1]);
  await using _ = metadata;
  const range = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
  await pool.query("update _pg_flo.copy_ranges set lease_until = now() - interval '1 second'");
  assert.equal(await claimRange(pool, { group, workerId, leaseMs: testLeaseMs }), undefined);
  assert.deepEqual((await completeRange(pool, completion(range!, "a.parquet"))).result, "done");
});

test("a result whose reply was lost can be given again and counts once, the last range's too", async () => {
  const { metadata, pool, group, workerId } = await makeCopy([1]);
  await using _ = metadata;
  const range = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
  const done = { result: "done", tableState: "copied" };
  assert.deepEqual(await completeRange(pool, completion(range!, "a.parquet")), done);
  assert.deepEqual(await completeRange(pool, completion(range!, "a.parquet")), done);
  assert.deepEqual(await paths(pool, group), ["a.parquet"]);
  const [table] = await readTables(pool, group);
  assert.deepEqual([table?.rangesDone, table?.copyRows, table?.inexactValues], [1, 10, 1]);
  assert.deepEqual(table?.inexactColumns, { b: 1 });
});

test("a range without rows needs no file, and a table without ranges is copied at once", async () => {
  const { metadata, pool, group, tables, workerId } = await makeCopy([1, 0]);
  await using _ = metadata;
  assert.equal((await readTables(pool, group)).find((table) => table.tableId === tables[1]!.tableId)?.state, "copied");
  const range = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
  const completed = await completeRange(pool, {
    range: range!,
    snapshotLsn: at(100),
    files: [],
    rows: 0,
    sizeBytes: 0,
    inexactColumns: {},
  });
  assert.deepEqual(completed, { result: "done", tableState: "copied" });
});

test("ranges are planned once, for the generation that has the cut, and must cover a heap that grows", async () => {
  const { metadata, pool, group, tables } = await makeCopy([2]);
  await using _ = metadata;
  const [table] = tables;
  assert.equal(await plan(pool, table!, 5), "already-planned");
  await copyAgain(pool, group, table!);
  assert.equal(await plan(pool, table!, 5), "not-copying");
  await takeCut(pool, { group, fence: null, tables: [{ ...table!, generation: table!.generation + 1 }], lsn: at(200) });
  assert.equal(await plan(pool, table!, 5), "not-copying", "the old generation");
  const [now] = await readTables(pool, group);
  const results = await Promise.all([plan(pool, now!, 5), plan(pool, now!, 5), plan(pool, now!, 5)]);
  assert.deepEqual(results.sort(), ["already-planned", "already-planned", "planned"]);
  const bounded = heapRanges(2).map((range) => ({ ...range, blockTo: range.blockFrom + 1 }));
  const { tableId, generation } = now!;
  await assert.rejects(
    planRanges(pool, { tableId, generation, tableBlocks: 1, ranges: bounded }),
    (error) => error instanceof PgFloError && error.code === "INTERNAL",
  );
});

test("a table that begins anew takes its ranges and files out of the manifest, and late results are fenced out", async () => {
  const { metadata, pool, group, tables, workerId } = await makeCopy([3]);
  await using _ = metadata;
  const claim = { group, workerId, leaseMs: testLeaseMs };
  const first = await claimRange(pool, claim);
  await completeRange(pool, completion(first!, "first.parquet"));
  const late = await claimRange(pool, claim);
  assert.deepEqual(await copyAgain(pool, group, tables[0]!), ["first.parquet"]);
  assert.deepEqual(await completeRange(pool, completion(late!, "late.parquet")), { result: "fenced" });
  assert.equal(await claimRange(pool, claim), undefined);
  assert.deepEqual(await paths(pool, group), []);
  const [table] = await readTables(pool, group);
  assert.deepEqual(
    [table?.state, table?.cutLsn, table?.rangesTotal, table?.rangesDone, table?.copyRows, table?.fileCount],
    ["pending", null, null, 0, 0, 0],
  );
});

test("ranges of a failed table are not claimed, results for it are fenced out, and the others go on", async () => {
  const { metadata, pool, group, tables, workerId } = await makeCopy([2, 1]);
  await using _ = metadata;
  const claim = { group, workerId, leaseMs: testLeaseMs };
  const range = await claimRange(pool, claim);
  const failure = { code: "TABLE_FAILED", message: "column gone" } as const;
  assert.equal(await setTableError(pool, { ...tables[0]!, generation: 0 }, failure), false, "of an older generation");
  assert.equal(await setTableError(pool, tables[0]!, failure), true);
  assert.deepEqual(await completeRange(pool, completion(range!, "a.parquet")), { result: "fenced" });
  assert.equal((await claimRange(pool, claim))?.tableId, tables[1]!.tableId);
  assert.equal(await claimRange(pool, claim), undefined);
});

test("ranges of a worker that stops or is lost are free again", async () => {
  const { metadata, pool, group, workerId } = await makeCopy([2]);
  await using _ = metadata;
  const claim = { group, workerId, leaseMs: testLeaseMs };
  const first = await claimRange(pool, claim);
  assert.equal(await releaseRange(pool, first!), true);
  assert.equal((await claimRange(pool, claim))?.rangeId, first?.rangeId);
  await claimRange(pool, claim);
  await pool.query("update _pg_flo.copy_ranges set lease_until = now() - interval '1 second' where range_number = 1");
  assert.equal(await resetRangesOfLostWorkers(pool, group), 1);
  await releaseWorker(pool, workerId);
  const [left] = await remainingRanges(pool, group);
  assert.deepEqual([left?.pending, left?.running], [2, 0]);
  assert.equal(await claimRange(pool, claim), undefined, "a worker that is gone gets nothing");
});
