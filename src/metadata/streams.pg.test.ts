import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  at,
  makeGroup,
  makeMetadata,
  makeTables,
  makeWorker,
  newFile,
  tableColumn,
  testLeaseMs,
  waitForLock,
  wantedTable,
} from "../../test/support/metadata.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { type Batch, batchCommitted, commitBatch } from "./batches.ts";
import { copyAgain } from "./copy-again.ts";
import type { Queryable } from "./queryable.ts";
import { readManifest, readStatus } from "./status.ts";
import {
  activateStream,
  claimStream,
  ensureStream,
  markStreamLost,
  movePosition,
  readStream,
  releaseStream,
  type StreamFence,
  takeCut,
} from "./streams.ts";
import { readTables, setTableError, type Table, tablesWaitingForCut } from "./tables.ts";
import { cleanExpiredWorkers, heartbeat, releaseWorker } from "./workers.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** A group with one claimed and active stream (cut at 100, position 99) and one stream-only table. */
async function makeStream(names = ["t"]) {
  const metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const tables = await makeTables(
    pool,
    group,
    names.map((name) => wantedTable(name, { mode: "stream-only" })),
  );
  await ensureStream(pool, { group, stream: 1, slotName: "pg_flo_app_1", publications: ["pg_flo_app"] });
  const workerId = await makeWorker(pool, group);
  const fence = await take(pool, group, workerId);
  await activateStream(pool, fence, at(100), tables);
  return { metadata, pool, group, tables, table: tables[0]!, workerId, fence };
}

async function take(db: Queryable, group: string, workerId: string): Promise<StreamFence> {
  const claim = await claimStream(db, { group, stream: 1, workerId, leaseMs: testLeaseMs });
  assert.ok(claim.taken);
  return claim.fence;
}

function makeBatch(
  fence: StreamFence,
  table: Table,
  batch: bigint,
  position: number,
  changes: Partial<Batch> = {},
): Batch {
  const { tableId, generation } = table;
  return {
    ...fence,
    batch,
    position: at(position),
    files: [newFile(table, `app/t/${batch}.parquet`, { lsnStart: at(position), lsnEnd: at(position) })],
    tableCounters: [{ tableId, generation, operations: 25, rows: 10, inexactColumns: { a: 1, 'ü"': 1 } }],
    newVersions: [],
    ...changes,
  };
}

async function paths(db: Queryable, group: string): Promise<string[]> {
  const manifest = await readManifest(db, group);
  return manifest.tables.flatMap((table) => table.files.map((file) => file.path));
}

test("of many workers that claim a stream at once exactly one gets it, and the others are told who", async () => {
  await using metadata = await makeMetadata(server, 10);
  const group = await makeGroup(metadata.pool, "app");
  await ensureStream(metadata.pool, { group, stream: 1, slotName: "slot", publications: ["p"] });
  const workers = await Promise.all(Array.from({ length: 10 }, (_, n) => makeWorker(metadata.pool, group, `host${n}`)));
  const claims = await Promise.all(
    workers.map((workerId) => claimStream(metadata.pool, { group, stream: 1, workerId, leaseMs: testLeaseMs })),
  );
  const winner = workers[claims.findIndex((claim) => claim.taken)];
  assert.equal(claims.filter((claim) => claim.taken).length, 1);
  for (const claim of claims) {
    if (claim.taken) continue;
    assert.equal(claim.owner.workerId, winner);
    assert.equal(claim.owner.host, `host${workers.indexOf(winner!)}`);
    assert.equal(claim.owner.pid, 1);
    assert.ok(claim.owner.heartbeatAgeMs !== null && claim.owner.leaseLeftMs! > 0);
  }
});

test("ensuring a stream again gives the slot that it has", async () => {
  const { metadata, pool, group } = await makeStream();
  await using _ = metadata;
  const again = await ensureStream(pool, { group, stream: 1, slotName: "other", publications: ["other"] });
  assert.equal(again.slotName, "pg_flo_app_1");
  assert.deepEqual(again.publications, ["pg_flo_app"]);
  assert.equal(again.position, at(99));
});

test("activation cuts every pending table of the stream with the position just below, once", async () => {
  const { metadata, pool, group, fence } = await makeStream(["a", "b"]);
  await using _ = metadata;
  assert.deepEqual(await activateStream(pool, fence, at(500), []), { result: "already-active" });
  const stream = await readStream(pool, { group, stream: 1 });
  assert.deepEqual([stream?.state, stream?.position, stream?.batch], ["active", at(99), 0n]);
  for (const table of await readTables(pool, group)) {
    assert.deepEqual([table.state, table.cutLsn], ["streaming", at(100)]);
  }
});

test("a table that comes later gets its cut from the stream's owner only", async () => {
  const { metadata, pool, group, fence } = await makeStream();
  await using _ = metadata;
  const [, later] = await makeTables(pool, group, [wantedTable("t", { mode: "stream-only" }), wantedTable("later")]);
  assert.deepEqual(
    (await tablesWaitingForCut(pool, group, 1)).map((table) => table.name),
    ["later"],
  );
  const cut = { group, tables: [later!], lsn: at(200) };
  const stale = { ...fence, epoch: fence.epoch - 1n };
  assert.equal(await takeCut(pool, { ...cut, fence: stale }), "fenced");
  assert.deepEqual(await takeCut(pool, { ...cut, fence }), [later!.tableId]);
  assert.deepEqual(await takeCut(pool, { ...cut, fence, lsn: at(300) }), []);
  const table = (await readTables(pool, group)).find((one) => one.name === "later");
  assert.deepEqual([table?.state, table?.cutLsn], ["copying", at(200)]);
});

test("a batch makes files, counters, versions and the position durable together", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const { tableId, generation } = table;
  const columns = [tableColumn("id", 1), tableColumn("more", 2)];
  const batch = makeBatch(fence, table, 1n, 150, { newVersions: [{ tableId, generation, schemaVersion: 2, columns }] });
  assert.deepEqual(await commitBatch(pool, batch), { result: "committed", refusedPaths: [] });
  const [stored] = (await readManifest(pool, group)).tables;
  assert.equal(stored?.position, at(150));
  assert.deepEqual(stored?.versions.get(2), columns);
  assert.deepEqual(stored?.versions.get(1), [tableColumn("id", 1)]);
  const [file] = stored!.files;
  assert.deepEqual(
    [file?.kind, file?.stream, file?.batchId, file?.path, file?.lsnEnd],
    ["stream", 1, 1n, "app/t/1.parquet", at(150)],
  );
  const status = await readStatus(pool, group);
  assert.deepEqual(status.files, { count: 1, sizeBytes: 1000 });
  assert.equal(status.position, at(150));
  const [shown] = status.tables;
  assert.deepEqual([shown?.changeRows, shown?.changeFiles, shown?.inexactValues, shown?.schemaVersion], [10, 1, 2, 2]);
  assert.equal(shown?.changeOperations, 25);
  assert.deepEqual(shown?.inexactColumns, { a: 1, 'ü"': 1 });
});

test("a batch of a thousand files is committed", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const files = Array.from({ length: 1000 }, (_, n) => newFile(table, `app/t/1-${n}.parquet`));
  await commitBatch(pool, makeBatch(fence, table, 1n, 150, { files }));
  assert.equal((await paths(pool, group)).length, 1000);
});

test("a worker that was replaced commits nothing, moves nothing and activates nothing", async () => {
  const { metadata, pool, group, table, fence, workerId } = await makeStream();
  await using _ = metadata;
  await pool.query("update _pg_flo.streams set lease_until = now() - interval '1 second'");
  const other = await makeWorker(pool, group, "other");
  const newFence = await take(pool, group, other);
  assert.equal(newFence.epoch, fence.epoch + 1n);
  assert.deepEqual(await commitBatch(pool, makeBatch(fence, table, 1n, 150)), { result: "fenced" });
  assert.equal(await movePosition(pool, { ...fence, batch: 0n, position: at(150) }), "fenced");
  assert.deepEqual(await activateStream(pool, fence, at(150), []), { result: "fenced" });
  assert.equal(await markStreamLost(pool, fence), false);
  assert.equal(await releaseStream(pool, fence), false);
  assert.deepEqual((await heartbeat(pool, { workerId, figures: {}, leaseMs: testLeaseMs })).streams, []);
  assert.deepEqual(await paths(pool, group), []);
  assert.equal((await readStream(pool, { group, stream: 1 }))?.position, at(99));
});

test("a worker that takes its own stream again fences its own commits that are still under way", async () => {
  const { metadata, pool, group, table, fence, workerId } = await makeStream();
  await using _ = metadata;
  await take(pool, group, workerId);
  assert.deepEqual(await commitBatch(pool, makeBatch(fence, table, 1n, 150)), { result: "fenced" });
});

test("a commit that waits for a takeover of the stream stores nothing after it", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const other = await makeWorker(pool, group, "other");
  const blocker = await metadata.database.connect();
  await blocker.query("begin; update _pg_flo.streams set lease_until = now() - interval '1 second'");
  await take(blocker, group, other);
  const commit = commitBatch(pool, makeBatch(fence, table, 1n, 150));
  await waitForLock(metadata.database.client);
  await blocker.query("commit");
  assert.deepEqual(await commit, { result: "fenced" });
  assert.deepEqual(await paths(pool, group), []);
});

test("two commits of the same batch at once store it once, and both are told that it is durable", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const batch = makeBatch(fence, table, 1n, 150);
  const results = await Promise.all([commitBatch(pool, batch), commitBatch(pool, batch), commitBatch(pool, batch)]);
  for (const { result } of results) assert.equal(result, "committed");
  assert.deepEqual(await paths(pool, group), ["app/t/1.parquet"]);
  const [stored] = await readTables(pool, group);
  assert.deepEqual([stored?.changeRows, stored?.changeFiles], [10, 1]);
});

test("a commit whose reply is lost is found to be done, and doing it again changes nothing", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const batch = makeBatch(fence, table, 1n, 150);
  await assert.rejects(commitBatch(await breaking(metadata, "commit", "after"), batch));
  assert.equal(await batchCommitted(pool, fence, 1n), "committed");
  assert.equal(await batchCommitted(pool, fence, 2n), "not-committed");
  assert.deepEqual(await commitBatch(pool, batch), { result: "committed", refusedPaths: [] });
  assert.deepEqual(await paths(pool, group), ["app/t/1.parquet"]);
  const again = await take(pool, group, fence.workerId);
  assert.equal((await readStream(pool, { group, stream: 1 }))?.batch, 1n);
  assert.equal(await batchCommitted(pool, fence, 1n), "fenced");
  assert.equal((await commitBatch(pool, makeBatch(again, table, 2n, 160))).result, "committed");
});

test("a commit whose connection breaks before it is found not to be done, and is done by doing it again", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const batch = makeBatch(fence, table, 1n, 150);
  await assert.rejects(commitBatch(await breaking(metadata, "commit", "before"), batch));
  assert.equal(await batchCommitted(pool, fence, 1n), "not-committed");
  assert.deepEqual(await commitBatch(pool, batch), { result: "committed", refusedPaths: [] });
  assert.deepEqual(await paths(pool, group), ["app/t/1.parquet"]);
});

test("a batch number that another batch has already got is fenced, not taken for done", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  await commitBatch(pool, makeBatch(fence, table, 1n, 150));
  const different = makeBatch(fence, table, 1n, 170, { files: [newFile(table, "app/t/different.parquet")] });
  assert.deepEqual(await commitBatch(pool, different), { result: "fenced" });
  assert.deepEqual(await commitBatch(pool, makeBatch(fence, table, 3n, 170)), { result: "fenced" });
  assert.deepEqual(await paths(pool, group), ["app/t/1.parquet"]);
});

test("a position never moves backward", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  assert.equal(await movePosition(pool, { ...fence, batch: 0n, position: at(200) }), "moved");
  assert.equal(await movePosition(pool, { ...fence, batch: 0n, position: at(150) }), "moved");
  assert.equal((await readStream(pool, { group, stream: 1 }))?.position, at(200));
  await assert.rejects(commitBatch(pool, makeBatch(fence, table, 1n, 150)), isInternal);
  assert.deepEqual(await paths(pool, group), []);
});

test("an idle move cannot overtake a batch that it does not know of", async () => {
  const { metadata, pool, table, fence } = await makeStream();
  await using _ = metadata;
  await commitBatch(pool, makeBatch(fence, table, 1n, 150));
  assert.equal(await movePosition(pool, { ...fence, batch: 0n, position: at(200) }), "fenced");
  assert.equal(await movePosition(pool, { ...fence, batch: 1n, position: at(200) }), "moved");
});

test("files of a table that failed, or began anew, are refused while the rest of the batch is committed", async () => {
  const { metadata, pool, group, tables, fence } = await makeStream(["good", "failed", "anew"]);
  await using _ = metadata;
  const [good, failed, anew] = tables;
  await setTableError(pool, failed!, { code: "TABLE_FAILED", message: "no" });
  await copyAgain(pool, group, anew!);
  const files = tables.map((table) => newFile(table, `${table.name}.parquet`));
  const commit = await commitBatch(pool, makeBatch(fence, good!, 1n, 150, { files }));
  assert.deepEqual(commit, { result: "committed", refusedPaths: ["failed.parquet", "anew.parquet"] });
  assert.deepEqual(await paths(pool, group), ["good.parquet"]);
});

test("a file of an older generation is refused when its table has a new cut already", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  await copyAgain(pool, group, table);
  await takeCut(pool, { group, fence, tables: [{ ...table, generation: 2 }], lsn: at(120) });
  const old = await commitBatch(pool, makeBatch(fence, table, 1n, 150));
  assert.deepEqual(old, { result: "committed", refusedPaths: ["app/t/1.parquet"] });
  const [anew] = await readTables(pool, group);
  assert.deepEqual([anew?.state, anew?.generation, anew?.changeFiles, anew?.changeRows], ["streaming", 2, 0, 0]);
  await commitBatch(pool, makeBatch(fence, anew!, 2n, 160));
  assert.deepEqual(await paths(pool, group), ["app/t/2.parquet"]);
});

test("a commit that waits while a table begins anew does not write to it", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const blocker = await metadata.database.connect();
  await blocker.query("begin");
  await blocker.query(
    `update _pg_flo.tables set generation = generation + 1, state = 'pending', cut_lsn = null where table_id = $1`,
    [table.tableId],
  );
  const commit = commitBatch(pool, makeBatch(fence, table, 1n, 150));
  await waitForLock(metadata.database.client);
  await blocker.query("commit");
  assert.deepEqual(await commit, { result: "committed", refusedPaths: ["app/t/1.parquet"] });
  assert.deepEqual(await paths(pool, group), []);
});

test("a file that begins before its table's cut stops the worker and stores nothing", async () => {
  const { metadata, pool, group, table, fence } = await makeStream();
  await using _ = metadata;
  const files = [newFile(table, "early.parquet", { lsnStart: at(99) })];
  await assert.rejects(commitBatch(pool, makeBatch(fence, table, 1n, 150, { files })), isInternal);
  assert.deepEqual(await paths(pool, group), []);
  assert.equal(await batchCommitted(pool, fence, 1n), "not-committed");
});

test("a heartbeat renews the leases, a clean stop gives them back at once", async () => {
  const { metadata, pool, group, workerId, fence } = await makeStream();
  await using _ = metadata;
  await pool.query("update _pg_flo.streams set lease_until = now() - interval '1 second'");
  const beat = await heartbeat(pool, { workerId, figures: { rows: 1 }, leaseMs: testLeaseMs });
  assert.deepEqual(beat, { alive: true, streams: [{ stream: 1, epoch: fence.epoch }], rangeIds: [] });
  const other = await makeWorker(pool, group, "other");
  const claim = { group, stream: 1, workerId: other, leaseMs: testLeaseMs };
  assert.equal((await claimStream(pool, claim)).taken, false);
  await releaseWorker(pool, workerId);
  await releaseWorker(pool, workerId);
  assert.equal((await claimStream(pool, claim)).taken, true);
  assert.equal((await heartbeat(pool, { workerId, figures: {}, leaseMs: testLeaseMs })).alive, false);
});

test("a worker that is silent for longer than a lease is cleaned away, and can claim nothing afterwards", async () => {
  const { metadata, pool, group, workerId, fence, table } = await makeStream();
  await using _ = metadata;
  await pool.query("update _pg_flo.workers set heartbeat_at = now() - interval '1 hour'");
  const cleaned = await cleanExpiredWorkers(pool, group, testLeaseMs);
  assert.deepEqual([cleaned.workerIds, cleaned.streams.map(({ stream }) => stream)], [[workerId], [1]]);
  assert.deepEqual((await cleanExpiredWorkers(pool, group, testLeaseMs)).workerIds, []);
  assert.equal((await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs })).taken, false);
  assert.deepEqual(await commitBatch(pool, makeBatch(fence, table, 1n, 150)), { result: "fenced" });
});

function isInternal(error: unknown): boolean {
  return error instanceof PgFloError && error.code === "INTERNAL";
}

/** A connection that the network cuts just before or just after the server gets a statement. */
async function breaking(
  metadata: { readonly database: { connect(): Promise<Queryable> } },
  statement: string,
  when: "before" | "after",
): Promise<Queryable> {
  const client = await metadata.database.connect();
  return {
    async query(text, values) {
      if (text !== statement) return client.query(text, values);
      if (when === "after") await client.query(text, values);
      await client.query("select pg_terminate_backend(pg_backend_pid())");
      throw new Error("unreachable: the connection is gone");
    },
  };
}
