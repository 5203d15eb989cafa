// Claims of compactions, and exchanges of files under them: once, by one process, and never over a table that changed.
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
import { lsn } from "../base/lsn.ts";
import { commitBatch } from "./batches.ts";
import {
  type CompactedFile,
  type Compaction,
  claimCompaction,
  dueForCompaction,
  exchangeFiles,
  releaseCompaction,
  renewCompaction,
} from "./compactions.ts";
import { copyAgain } from "./copy-again.ts";
import { forgetRetiredFiles, readExpiredFiles } from "./retired-files.ts";
import { readManifest } from "./status.ts";
import { activateStream, claimStream, ensureStream } from "./streams.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** A streaming table with three stream files, one a batch. */
async function setUp() {
  const metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const [table] = await makeTables(pool, group, [wantedTable("t", { mode: "stream-only" })]);
  const { tableId, generation } = table!;
  await ensureStream(pool, { group, stream: 1, slotName: "s", publications: ["p"] });
  const workerId = await makeWorker(pool, group);
  const claimed = await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs });
  assert.ok(claimed.taken);
  const { fence } = claimed;
  await activateStream(pool, fence, at(1000), [table!]);
  const commit = (batch: number) => {
    const position = at(1000 + batch * 100);
    const files = [newFile({ tableId, generation }, `s${batch}`, { lsnStart: position, lsnEnd: position })];
    return commitBatch(pool, { ...fence, batch: BigInt(batch), position, files, tableCounters: [], newVersions: [] });
  };
  for (const batch of [1, 2, 3]) await commit(batch);
  const claim = () => claimCompaction(pool, { group, tableId, leaseMs: testLeaseMs });
  const entry = async () => (await readManifest(pool, group, tableId)).tables[0]!;
  const paths = async () => (await entry()).files.map(({ path }) => path);
  return {
    pool,
    group,
    tableId,
    table: { tableId, generation },
    commit,
    claim,
    entry,
    paths,
    [Symbol.asyncDispose]: () => metadata[Symbol.asyncDispose](),
  };
}

async function mergeOf(made: Awaited<ReturnType<typeof setUp>>, count: number, path = "merged") {
  const removed = (await made.entry()).files.slice(0, count);
  const { fileId: _, ...last } = removed.at(-1)!;
  const added: CompactedFile = { ...last, path, lsnStart: removed[0]!.lsnStart, rowCount: 10 * count, sizeBytes: 1500 };
  return { removed, added: [added] };
}

async function held(pool: pg.Pool): Promise<number> {
  return (await pool.query("select from _pg_flo.compactions")).rowCount!;
}

test("a table has one compaction, taken over when its process is dead or its lease ran out", async () => {
  await using made = await setUp();
  const { pool, group, tableId, claim } = made;
  const first = (await claim())!;
  assert.equal(await claim(), undefined);
  assert.deepEqual(await dueForCompaction(pool, group, 0), []);
  assert.equal(await renewCompaction(pool, first, testLeaseMs), true);
  await pool.query("update _pg_flo.compactions set lease_until = now() - interval '1 second'");
  const second = (await claim())!;
  assert.ok(second.id > first.id);
  assert.equal(await renewCompaction(pool, first, testLeaseMs), false);
  await pool.query("update _pg_flo.compactions set pid = 2147483647");
  const third = (await claim())!;
  await releaseCompaction(pool, second, true);
  assert.deepEqual([await held(pool), await dueForCompaction(pool, group, 0)], [1, []]);
  await releaseCompaction(pool, third, true);
  assert.deepEqual([await held(pool), await dueForCompaction(pool, group, 60_000)], [0, []]);
  assert.deepEqual(await dueForCompaction(pool, group, 0), [tableId]);
  const racing = await Promise.all(Array.from({ length: 4 }, claim));
  assert.equal(racing.filter(Boolean).length, 1);
});

test("files are exchanged once, and what left is known until it is forgotten", async () => {
  await using made = await setUp();
  const { pool, group, paths, entry, claim } = made;
  const compaction = (await claim())!;
  const merge = await mergeOf(made, 2);
  const exchange = () => exchangeFiles(pool, { compaction, ...merge });
  assert.equal(await exchange(), "exchanged");
  assert.deepEqual(await paths(), ["merged", "s3"]);
  assert.equal(await exchange(), "exchanged"); // the reply was lost
  const { table } = await entry();
  assert.deepEqual([table.fileCount, table.fileBytes, table.changeFiles], [2, 2500, 2]);
  assert.equal(
    await exchangeFiles(pool, { compaction, ...merge, added: [{ ...merge.added[0]!, path: "again" }] }),
    "changed",
  );
  assert.deepEqual((await readExpiredFiles(pool, group, 0, 10)).map(({ path }) => path).sort(), ["s1", "s2"]);
  assert.deepEqual(await readExpiredFiles(pool, group, 60_000, 10), []);
  await forgetRetiredFiles(pool, group, ["s1"]);
  assert.deepEqual(
    (await readExpiredFiles(pool, group, 0, 10)).map(({ path }) => path),
    ["s2"],
  );
});

test("a replaced process and a table that began anew exchange nothing", async () => {
  await using made = await setUp();
  const { pool, group, table, paths, claim } = made;
  const first = (await claim())!;
  const merge = await mergeOf(made, 2);
  await pool.query("update _pg_flo.compactions set lease_until = now() - interval '1 second'");
  const second = (await claim())!;
  assert.equal(await exchangeFiles(pool, { compaction: first, ...merge }), "changed");
  assert.deepEqual(await paths(), ["s1", "s2", "s3"]);
  await copyAgain(pool, group, table);
  assert.equal(await exchangeFiles(pool, { compaction: second, ...merge }), "changed");
  assert.deepEqual(await paths(), []);
});

test("a base moves the cut, and only when every file up to it was read", async () => {
  await using made = await setUp();
  const { pool, commit, paths, entry, claim } = made;
  const compaction: Compaction = (await claim())!;
  const { removed } = await mergeOf(made, 2);
  const { fileId: _, ...last } = removed.at(-1)!;
  const base = lsn(last.lsnEnd);
  const added: CompactedFile[] = [{ ...last, kind: "copy", batchId: null, path: "base", lsnStart: base }];
  const fold = (files: typeof removed) =>
    exchangeFiles(pool, { compaction, removed: files, added, fold: { base, kept: [] } });
  assert.equal(await fold(removed.slice(1)), "changed"); // s1 counts too
  await commit(4); // later than the base
  assert.equal(await fold(removed), "exchanged");
  assert.deepEqual(await paths(), ["base", "s3", "s4"]);
  const { table } = await entry();
  assert.deepEqual([table.cutLsn, table.baseLsn], [base + 1n, base]);
  await commit(5);
  assert.deepEqual(await paths(), ["base", "s3", "s4", "s5"]);
});
