// Large transactions on real servers, streamed while they run: many at once, with parts and wholes aborted, with changed
// definitions, larger than the memory for them, stopped in the middle.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { makeTestFolder } from "../../test/support/folder.ts";
import { sampledVersions } from "../../test/support/long-form.ts";
import { type PostgresVersion, startPostgres } from "../../test/support/postgres.ts";
import { compare, mark } from "../../test/support/stream-compare.ts";
import { INSERT_PUBLICATION, PUBLICATION, StreamLog } from "../../test/support/stream-run.ts";
import { openReplication } from "../postgres/replication.ts";

const settings = { wal_level: "logical", logical_decoding_work_mem: "64kB", wal_sender_timeout: "3s" };
const publications = `create publication ${PUBLICATION} for all tables;
  create publication ${INSERT_PUBLICATION} with (publish = 'insert, truncate')`;

/** One of many that are open at the same time: each has rows of its own, some keys pass from one to the other. */
async function runOne(client: Client, number: number): Promise<void> {
  const from = number * 1000;
  await client.query("begin");
  await client.query(
    `insert into t select ${from} + i, repeat(md5(i::text), 5), 'first' from generate_series(1, 150) i`,
  );
  await client.query("savepoint a");
  await client.query(`update t set v = 'rolled back', id = id + 500 where id between ${from} and ${from} + 400`);
  await client.query("savepoint b");
  await client.query(`delete from t where id between ${from} and ${from} + 999`);
  await client.query(number % 2 ? "rollback to a" : "rollback to b");
  await client.query(`insert into bag select v, ${number} from t where id between ${from} and ${from} + 999 limit 50`);
  await client.query(`update t set id = id + 400, w = 'moved' where id between ${from} and ${from} + 60`);
  await client.query(`delete from t where id % 7 = 0 and id between ${from} and ${from} + 999`);
}

for (const version of sampledVersions) {
  test(`PostgreSQL ${version}: hundreds open at once, a third aborted, with savepoints rolled back`, async () => {
    await manyAtOnce(version, version === 18 ? 500 : 120);
  });
}

async function manyAtOnce(version: PostgresVersion, count: number): Promise<void> {
  // All the clients write from this process too, which has little time left for status updates meanwhile.
  const patient = { ...settings, wal_sender_timeout: "30s", max_connections: count + 50 };
  await using server = await startPostgres({ version, settings: patient });
  await using database = await server.createDatabase();
  await database.client.query(`create table t (id int primary key, v text, w text); create table bag (v text, n int);
    alter table bag replica identity full; ${publications}`);
  await using log = await StreamLog.create(database);
  await using folder = await makeTestFolder();
  const run = await log.start({ memoryBytes: count * 20_000, spillFolder: folder.path });
  const clients = await Promise.all(Array.from({ length: count }, () => database.connect()));
  await Promise.all(clients.map(runOne));
  const target = await mark(database.client);
  while (run.progress.reached < target) await Promise.race([sleep(20), run.ended]);
  assert.deepEqual(log.batches, [], "nothing is visible before COMMIT");
  assert.ok(run.progress.openTransactionCount >= count * 0.9, `${run.progress.openTransactionCount} open`);
  await Promise.all(clients.map((client, index) => client.query(index % 3 === 0 ? "rollback" : "commit")));
  const end = await mark(database.client);
  while (log.position < end) {
    run.stream.flush();
    await Promise.race([sleep(20), run.ended]);
  }
  assert.equal(run.progress.openTransactionCount, 0);
  assert.ok(run.progress.spilledTransactionCount > 0);
  run.stop();
  await run.ended;
  assert.deepEqual(await readdir(folder.path), []);
  await compare(database, log);
}

test("a definition that a streamed transaction changes stops the stream before its commit, and not when it is aborted", async () => {
  for (const version of [14, 18] as const) {
    await using server = await startPostgres({ version, settings });
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create table t (id int primary key, v text); create table u (id int primary key, v text);
      ${publications}`);
    await using log = await StreamLog.create(database);
    const run = await log.start();
    const fill = (from: number) =>
      `insert into t (id, v) select i, md5(i::text) from generate_series(${from}, ${from} + 999) i`;
    const other = await database.connect();
    // Aborted as a whole, then in a part, while another one streams too.
    await other.query("begin; insert into u select i, md5(i::text) from generate_series(1, 2000) i");
    await client.query(`begin; ${fill(1)}; alter table t add extra int default 7; ${fill(10_001)}`);
    await client.query("rollback");
    await client.query(`begin; ${fill(1)}; savepoint s; alter table t drop column v, add v int; `);
    await client.query(
      `insert into t select i, i from generate_series(20001, 21000) i; rollback to s; ${fill(30_001)}; commit`,
    );
    await client.query("insert into t values (40001, 'plain')");
    await other.query("alter table u add extra int; insert into u select i, '', i from generate_series(3000, 4000) i");
    await other.query("rollback");
    await other.query("begin; insert into u select i, md5(i::text) from generate_series(1, 2000) i; commit");
    const target = await mark(client);
    while (log.position < target) await Promise.race([sleep(20), run.ended]);
    assert.deepEqual(log.failedTables, []);
    await compare(database, log);
    await client.query(`begin; ${fill(50_001)}; alter table t add extra int default 7; ${fill(60_001)}; commit`);
    const end = await mark(client);
    await run.ended;
    assert.ok(log.position >= target && log.position < end, "what came before it is durable, and it is not");
    assert.deepEqual([run.stream.misfit?.table.name, run.stream.misfit?.reason], ["t", 'column "extra" is new']);
    assert.deepEqual(log.failedTables, []);
  }
});

test("one transaction larger than its memory many times over, killed and stopped in the middle, comes out once", async () => {
  await using server = await startPostgres({ settings });
  await using database = await server.createDatabase();
  await database.client.query(`create table t (id int primary key, v text, w text); create table bag (v text, n int);
    alter table bag replica identity full; ${publications}`);
  await using log = await StreamLog.create(database);
  await using folder = await makeTestFolder();
  const { client } = database;
  await client.query("insert into t select -i, 'before', 'x' from generate_series(1, 100) i");
  await client.query("begin");
  await client.query("insert into t select i, md5(i::text), 'x' from generate_series(1, 100000) i");
  await client.query("update t set w = 'y', id = id + 1000000 where id % 2 = 0");
  await client.query("delete from t where id % 10 = 1; insert into bag select v, id from t where id % 10 = 3; commit");
  await client.query("insert into t values (0, 'after', 'z')");
  const options = { memoryBytes: 1_500_000, spillFolder: folder.path };
  for (let attempt = 0; attempt < 6; attempt++) {
    const run = await log.start(options);
    // Sooner or later in it: while it is read, while it is brought together.
    while (run.progress.spilledBytes < attempt * 2_500_000 && log.batches.length < 2)
      await Promise.race([sleep(1), run.ended]);
    if (attempt > 3) while (run.progress.changeCount < 2000) await Promise.race([sleep(1), run.ended]);
    if (attempt % 2) run.connection.destroy();
    else run.stop();
    await run.ended.catch(() => {});
    assert.ok(log.batches.length <= 2, "it is not there in part");
    assert.deepEqual(await readdir(folder.path), []);
  }
  await log.reach(await mark(client), options);
  const large = log.batches.filter(({ files }) => files.reduce((sum, { rowCount }) => sum + rowCount, 0) > 1000);
  assert.equal(large.length, 1, "one batch has all of it");
  await compare(database, log);
});

test("changes that are held for a later table may be larger than memory too", async () => {
  await using server = await startPostgres({ settings });
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table early (id int primary key, v text); create table late (id int primary key, v text);
    ${publications}`);
  await using log = await StreamLog.create(database, { late: "unknown" });
  await using folder = await makeTestFolder();
  const late = [...log.tables.values()].find(({ name }) => name === "late")!;
  const run = await log.start({ memoryBytes: 500_000, spillFolder: folder.path });
  const awaited = run.stream.awaitCut(new Map([[late.tableId, 1]]));
  const replication = await openReplication(database.config, { applicationName: "test cut" });
  const { consistentPoint } = await replication.createSlot("late", { temporary: true, snapshot: "nothing" });
  await replication.close();
  await client.query("insert into late values (0, 'small')");
  // Of each more than the socket may bring in one piece: what comes whole is never spilled.
  for (const from of [10_000, 20_000]) {
    const rows = `select i, repeat(md5(i::text), 16) from generate_series(${from}, ${from + 5999}) i`;
    await client.query("begin");
    for (const table of ["late", "early"]) await client.query(`insert into ${table} ${rows}`);
    await client.query(
      `savepoint s; delete from late; rollback to s; update late set v = 'new' where id % 5 = 1; commit`,
    );
  }
  await client.query("update late set id = -1 where id = 10000");
  const target = await mark(client);
  while (run.progress.reached < target) await Promise.race([sleep(20), run.ended]);
  assert.ok(run.progress.spilledTransactionCount >= 2);
  await run.stream.cutTaken(awaited, consistentPoint);
  await client.query("delete from late where id = 10001");
  const end = await mark(client);
  while (log.position < end) await Promise.race([sleep(20), run.ended]);
  run.stop();
  await run.ended;
  assert.equal(log.batches.filter(({ cut }) => cut !== null).length, 1);
  await compare(database, log);
});
