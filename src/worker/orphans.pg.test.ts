// What a crash left is found, and nothing that counts or may come to count: for every state a range and a stream can be in.
import assert from "node:assert/strict";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
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
import { claimCompaction, releaseCompaction } from "../metadata/compactions.ts";
import { planRanges } from "../metadata/range-plans.ts";
import { claimRange, completeRange } from "../metadata/ranges.ts";
import { activateStream, claimStream, ensureStream, takeCut } from "../metadata/streams.ts";
import { openLocalStorage } from "../storage/local.ts";
import { baseFilePath, copyFilePath, streamFilePath } from "../storage/paths.ts";
import { findOrphans, removeOrphans } from "./orphans.ts";

const HOUR_MS = 3_600_000;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

async function setUp() {
  const metadata = await makeMetadata(server);
  const folder = await makeTestFolder();
  const storage = openLocalStorage(folder.path);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  await pool.query("update _pg_flo.groups set created_at = now() - interval '10 days'");
  const put = async (path: string, ageMs = 48 * HOUR_MS) => {
    await (await storage.create(path)).finish();
    const time = new Date(Date.now() - ageMs);
    await utimes(join(folder.path, path), time, time);
    return path;
  };
  const orphans = async (olderThanMs = 24 * HOUR_MS) => {
    const found = [];
    for await (const orphan of findOrphans({ db: pool, storage, group, olderThanMs })) found.push(orphan);
    return found;
  };
  const dispose = async () => {
    await metadata[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  };
  const paths = async () => (await orphans()).map(({ path }) => path).sort();
  return { pool, storage, group, folder: folder.path, put, orphans, paths, [Symbol.asyncDispose]: dispose };
}

test("a copy's file is an orphan unless it is listed or its range is held", async () => {
  await using made = await setUp();
  const { pool, group, put, paths } = made;
  const [table] = await makeTables(pool, group, [wantedTable("t", { mode: "copy-only" })]);
  const { tableId, generation } = table!;
  await takeCut(pool, { group, fence: null, tables: [table!], lsn: at(1) });
  const ranges = [0, 100].map((blockFrom, n) => ({
    ...{ heapOid: 1, heapSchema: "public", heapName: "t", relfilenode: 1, blockFrom, blockTo: n === 0 ? 100 : null },
  }));
  await planRanges(pool, { tableId, generation, tableBlocks: 200, ranges });
  const workerId = await makeWorker(pool, group);
  const first = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs });
  const path = (range: number, id: string) => copyFilePath(group, "public", "t", range, id);
  const mine = await put(path(first!.rangeNumber, "mine"));
  const earlier = await put(path(first!.rangeNumber, "earlier"));
  const other = await put(path(first!.rangeNumber + 1, "other"));
  const gone = await put(copyFilePath(group, "public", "dropped", 1, "x"));
  await put(path(first!.rangeNumber + 1, "young"), HOUR_MS);
  await put(path(first!.rangeNumber + 1, "ancient"), 20 * 24 * HOUR_MS);
  await put("app/public.t/copy/somebody-elses.parquet");
  await put("app2/public.t/copy/000001-x.parquet");
  // Held: whichever of its files, its holder may list it.
  assert.deepEqual(await paths(), [gone, other].sort());
  const files = [newFile({ tableId, generation }, mine)];
  await completeRange(pool, {
    range: first!,
    snapshotLsn: files[0]!.lsnStart,
    files,
    rows: 1,
    sizeBytes: 1,
    inexactColumns: {},
  });
  assert.deepEqual(await paths(), [earlier, gone, other].sort());
});

test("a stream's file is an orphan when it is not listed and a later epoch has begun", async () => {
  await using made = await setUp();
  const { pool, group, put, paths } = made;
  await ensureStream(pool, { group, stream: 1, slotName: "s", publications: ["p"] });
  const claim = async () => {
    const workerId = await makeWorker(pool, group);
    await pool.query("update _pg_flo.streams set lease_until = now() - interval '1 second'");
    const claimed = await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs });
    assert.ok(claimed.taken);
    return claimed.fence;
  };
  const fence = await claim();
  await activateStream(pool, fence, at(100), []);
  const path = (stream: number, epoch: bigint) =>
    streamFilePath(group, "public", "t", new Date(), `${stream}-${epoch}-00000001`, 1);
  const written = await put(path(1, fence.epoch));
  await put(path(1, fence.epoch + 5n));
  await put(path(2, 1n));
  // Its worker may be suspended with the commit ahead of it, however old the file is.
  assert.deepEqual(await paths(), []);
  await claim();
  assert.deepEqual(await paths(), [written]);
});

test("a compaction's file is an orphan when it ended without listing it, and one that left the manifest is none", async () => {
  await using made = await setUp();
  const { pool, group, put, paths } = made;
  const [table] = await makeTables(pool, group, [wantedTable("t", { mode: "copy-only" })]);
  const { tableId, generation } = table!;
  await pool.query("update _pg_flo.tables set state = 'copied', cut_lsn = 1");
  const compaction = await claimCompaction(pool, { group, tableId, leaseMs: testLeaseMs });
  assert.equal(compaction?.generation, generation);
  const written = await put(baseFilePath(group, "public", "t", compaction!.id, 1));
  await put(baseFilePath(group, "public", "t", compaction!.id, 2), HOUR_MS);
  // However old: whoever made it may still list it.
  assert.deepEqual(await paths(), []);
  await releaseCompaction(pool, compaction!, false);
  assert.deepEqual(await paths(), [written]);
  await pool.query("insert into _pg_flo.retired_files (group_name, path, size_bytes) values ($1, $2, 1)", [
    group,
    written,
  ]);
  assert.deepEqual(await paths(), []);
});

test("unfinished files go by age alone, and removing leaves every other file", async () => {
  await using made = await setUp();
  const { storage, folder, put, orphans } = made;
  const listed = await put("app/public.t/notes.txt");
  const file = await storage.create("app/public.t/copy/000001-x.parquet");
  const [young] = await orphans(0);
  assert.equal(young?.sizeBytes, null);
  assert.deepEqual(await orphans(), []);
  const time = new Date(Date.now() - 25 * HOUR_MS);
  await utimes(join(folder, young.path), time, time);
  assert.equal(await removeOrphans(await orphans()), 1);
  assert.deepEqual(await orphans(0), []);
  await file.abort();
  const left = [];
  for await (const { path } of storage.list("")) left.push(path);
  assert.deepEqual(left, [listed]);
});

test("nothing is an orphan of a group that the metadata do not know", async () => {
  await using made = await setUp();
  const { pool, put, orphans } = made;
  await put("app/public.t/copy/000001-x.parquet");
  await pool.query("delete from _pg_flo.groups");
  await assert.rejects(orphans(), /GROUP_MISSING/);
});
