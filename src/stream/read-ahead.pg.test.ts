// While a large transaction is brought into its batch, another one that runs is read on.
import assert from "node:assert/strict";
import { readdir, readlink, rm } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { makeTestFolder } from "../../test/support/folder.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { compare, mark } from "../../test/support/stream-compare.ts";
import { INSERT_PUBLICATION, PUBLICATION, StreamLog, type StreamRun } from "../../test/support/stream-run.ts";
import { PgFloError } from "../base/errors.ts";

let server: TestServer;
before(async () => {
  const settings = { wal_level: "logical", logical_decoding_work_mem: "64kB", wal_sender_timeout: "3s" };
  server = await startPostgres({ settings });
});
after(() => server?.[Symbol.asyncDispose]());

const insert = (from: number) =>
  `insert into t select ${from} + i, repeat(md5(i::text), 4) from generate_series(1, 30000) i`;

/** A large transaction that has committed, and waits until the batch before it is durable: until `release`. */
async function startWithLarge() {
  const database = await server.createDatabase();
  await database.client.query(`create table t (id int primary key, v text);
    create publication ${PUBLICATION} for all tables;
    create publication ${INSERT_PUBLICATION} with (publish = 'insert, truncate')`);
  const log = await StreamLog.create(database);
  const folder = await makeTestFolder();
  const first = Promise.withResolvers<void>();
  const run = await log.start({
    memoryBytes: 1_500_000,
    spillFolder: folder.path,
    flushIntervalMs: 1,
    beforeCommit: ({ number }) => (number === 1n ? first.promise : Promise.resolve()),
  });
  await database.client.query("insert into t values (0, 'the large one waits until this is durable')");
  await database.client.query(insert(100_000));
  await seen(run, () => run.progress.spilledTransactionCount === 1 && run.progress.openTransactionCount === 0);
  const other = await database.connect();
  await other.query("begin");
  return {
    ...{ database, log, folder, run, other, release: first.resolve, refuse: first.reject },
    [Symbol.asyncDispose]: async () => {
      first.resolve();
      run.stop();
      await run.ended.catch(() => {});
      await log[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function seen(run: StreamRun, what: () => boolean): Promise<void> {
  while (!what()) await Promise.race([sleep(5), run.ended]);
}

/** Until it has read what was sent, or holds reading back. */
async function quiet({ progress }: StreamRun): Promise<void> {
  let bytes: number;
  do {
    bytes = progress.receivedBytes;
    await sleep(500);
  } while (progress.receivedBytes > bytes);
}

test("it is read and spilled, past savepoints that are rolled back", async () => {
  await using waiting = await startWithLarge();
  const { database, log, folder, run, other, release } = waiting;
  await other.query(insert(200_000));
  await other.query("savepoint s; delete from t where id % 3 = 0; rollback to s; delete from t where id % 7 = 0");
  await other.query(insert(300_000));
  await seen(run, () => run.progress.spilledTransactionCount === 2);
  await quiet(run);
  const bytes = run.progress.spilledBytes;
  await other.query(insert(400_000));
  await seen(run, () => run.progress.spilledBytes > bytes + 1_000_000);
  assert.deepEqual([run.progress.changeCount, log.batches.length], [1, 0], "the large one still waits");
  await database.client.query("insert into t values (-1, 'behind the large one')");
  await other.query("commit");
  await database.client.query("update t set v = 'behind both' where id in (-1, 100001, 200001)");
  const target = await mark(database.client);
  release();
  await seen(run, () => log.position >= target);
  run.stop();
  await run.ended;
  assert.deepEqual(await readdir(folder.path), []);
  await compare(database, log);
});

test("files of those that are rolled back are given back meanwhile", async () => {
  await using waiting = await startWithLarge();
  const { database, log, folder, run, other, release } = waiting;
  const files = async () => {
    const targets = (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ""));
    return (await Promise.all(targets)).filter((target) => target.startsWith(folder.path)).length;
  };
  for (const count of [2, 3, 4]) {
    await other.query(insert(200_000));
    await seen(run, () => run.progress.spilledTransactionCount === count);
    await other.query("rollback; begin");
    await quiet(run);
    assert.equal(await files(), 1, "the large one's");
  }
  const target = await mark(database.client);
  release();
  await seen(run, () => log.position >= target);
  await compare(database, log);
});

test("when it cannot be spilled the large one is durable before the stream fails, and nothing after it", async () => {
  await using waiting = await startWithLarge();
  const { database, log, folder, run, other, release } = waiting;
  await rm(folder.path, { recursive: true });
  await other.query(insert(200_000));
  await quiet(run);
  release();
  await assert.rejects(run.ended, (error) => error instanceof PgFloError && error.code === "STORAGE_FAILED");
  const rowCounts = () => log.batches.map(({ files }) => files.reduce((sum, { rowCount }) => sum + rowCount, 0));
  assert.deepEqual(rowCounts(), [1, 30_000]);
  await sleep(200);
  assert.deepEqual(rowCounts(), [1, 30_000]);
  await other.query("commit");
  await log.reach(await mark(database.client));
  await compare(database, log);
});

test("when the large one fails, the stream ends after what is being spilled, and closes its file", async () => {
  await using waiting = await startWithLarge();
  const { log, folder, run, other, refuse } = waiting;
  await other.query(insert(200_000));
  await seen(run, () => run.progress.spilledTransactionCount === 2);
  refuse(new PgFloError("CONNECTION_LOST", "the batch before it"));
  await assert.rejects(run.ended, /the batch before it/);
  assert.deepEqual([log.batches.length, await readdir(folder.path)], [0, []]);
});
