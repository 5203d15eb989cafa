// The stream on real servers: whatever is committed, however it is cut into batches and wherever it is stopped, the
// committed files give the source's rows.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { sampledVersions } from "../../test/support/long-form.ts";
import { type PostgresVersion, startPostgres } from "../../test/support/postgres.ts";
import { mark, sourceRows } from "../../test/support/stream-compare.ts";
import { sortedRows, type TableState } from "../../test/support/stream-log.ts";
import { applyBatch, INSERT_PUBLICATION, PUBLICATION, StreamLog } from "../../test/support/stream-run.ts";
import { PgFloError } from "../base/errors.ts";
import { openReplication } from "../postgres/replication.ts";
import type { Storage } from "../storage/storage.ts";
import type { StreamTable } from "./stream-table.ts";

// The least: whatever has more than a few hundred changes is streamed.
const settings = { wal_level: "logical", wal_sender_timeout: "3s", logical_decoding_work_mem: "64kB" };

const schema = `
  create table accounts (id int primary key, balance bigint not null, note text);
  create table pairs (note text, a text, b int, doc text, primary key (a, b));
  create table whole (id int primary key, v text, doc text);
  create table bag (v text, w int, doc text);
  create table logbook (v text, w int);
  alter table pairs alter doc set storage external, alter a set storage external;
  alter table whole alter doc set storage external, replica identity full;
  alter table bag alter doc set storage external, replica identity full;
  create publication ${PUBLICATION} for table accounts, pairs, whole, bag;
  create publication ${INSERT_PUBLICATION} for table logbook with (publish = 'insert, truncate');
  insert into accounts select i, 100, 'before the slot' from generate_series(1, 20) i`;

/** Numbers from a seed, the same on every machine: https://en.wikipedia.org/wiki/Linear_congruential_generator */
function dice(seed: number): (sides: number) => number {
  let state = seed >>> 0;
  return (sides) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * sides);
  };
}

/** One statement that may fail for a key that is taken. */
function statement(roll: (sides: number) => number): string {
  const id = roll(30);
  const doc = ["null", "'short'", "repeat(md5(random()::text), 120)"][roll(3)]!;
  const a = ["'x'", "'y'", "repeat('long key ', 250)"][roll(3)]!;
  const moves = "a = a || '!'";
  const statements = [
    `update accounts set balance = balance - ${roll(9)} where id = ${1 + (id % 20)}`,
    `insert into pairs values ('n', ${a}, ${id}, ${doc})`,
    `update pairs set note = '${roll(99)}' where b % 7 = ${id % 7}`,
    `update pairs set doc = ${doc} where b = ${id}`,
    `update pairs set b = b + 100, note = 'moved' where b = ${id}`,
    `update pairs set b = b - 100 where b >= 100`,
    `update pairs set ${moves} where b = ${id} and length(a) < 5`,
    `delete from pairs where b = ${id}`,
    `insert into whole values (${id}, '${roll(99)}', ${doc}) on conflict (id) do update set v = excluded.v`,
    `update whole set v = '${roll(99)}' where id < ${id}`,
    `update whole set id = id + 50 where id = ${id}`,
    `delete from whole where id = ${id}`,
    `insert into bag select '${roll(3)}', ${roll(3)}, ${doc} from generate_series(1, ${1 + roll(4)})`,
    `update bag set w = w + 1 where v = '${roll(3)}'`,
    `delete from bag where w > 4`,
    `insert into logbook values ('${roll(99)}', ${id})`,
    ...(roll(12) === 0 ? [`truncate ${["bag", "whole", "logbook, pairs", "bag, whole"][roll(4)]}`] : []),
  ];
  return statements[roll(statements.length)]!;
}

/** Streamed for certain, with keys that move, TOASTed values that do not, and a part that is rolled back. */
const manyChanges = `
  insert into pairs select 'many', 'k', 1000 + i, repeat(md5(i::text), 90) from generate_series(1, 400) i
    on conflict do nothing;
  update pairs set b = b + 5000, note = 'far' where b between 1000 and 4000;
  savepoint many;
  update pairs set b = b + 5000, doc = null where b > 4000;
  delete from pairs where b > 10000 and b % 3 = 0;
  rollback to many;
  update pairs set b = b + 5000 where b > 4000 and b % 2 = 0;
  delete from pairs where b > 1000 and b % 5 = 0;
  update pairs set b = b + 1000000, a = md5(random()::text), doc = 'short' where b > 1000 and b % 5 = 1;
  delete from pairs where b between 1000 and 999999 or b % 3 = 0 and b > 999999`;

/** A transaction in which the sum of balances stays, with savepoints of which some are rolled back. */
async function transact(client: Client, roll: (sides: number) => number): Promise<void> {
  await client.query("begin");
  const [from, to, amount] = [1 + roll(20), 1 + roll(20), roll(50)];
  const taken = await client.query(`update accounts set balance = balance - ${amount} where id = ${from}`);
  for (let i = roll(6); i > 0; i--) {
    const change = statement(roll);
    await client.query("savepoint s");
    try {
      await client.query(change);
      if (roll(5) === 0 || change.startsWith("update accounts")) await client.query("rollback to s");
    } catch (error) {
      if ((error as { code?: string }).code !== "23505") throw error;
      await client.query("rollback to s");
    }
  }
  if (roll(20) === 0) await client.query(`insert into bag select 'many', i, null from generate_series(1, 5000) i`);
  if (roll(15) === 0) await client.query(manyChanges);
  if (roll(6) === 0) {
    // A swap of two keys through a third.
    await client.query(`update accounts set id = -1 where id = ${from}`);
    await client.query(`update accounts set id = ${from} where id = ${to} and ${to} <> ${from}`);
    await client.query(`update accounts set id = ${to} where id = -1`);
  }
  const given = await client.query(`update accounts set balance = balance + ${amount} where id = ${to}`);
  // No row: the other writer moved it while we waited for its lock.
  const failed = taken.rowCount !== 1 || given.rowCount !== 1 || roll(10) === 0;
  await client.query(failed ? "rollback" : "commit");
}

/** Applies every batch and checks what must hold for each; gives the tables' rows at the end. */
async function replay(log: StreamLog, states: Map<StreamTable, TableState>): Promise<void> {
  const seen = new Map<bigint, { readonly batch: bigint; readonly xid: string }>();
  let newest = 0n;
  const accounts = [...log.tables.values()].find(({ name }) => name === "accounts");
  for (const batch of log.batches) {
    const lsns = new Set<bigint>();
    for (const [table, rows] of await log.rows(batch)) {
      for (const { lsn, xid } of rows) {
        const earlier = seen.get(lsn);
        assert.ok(!earlier || (earlier.batch === batch.number && earlier.xid === xid), `transaction ${lsn} is split`);
        seen.set(lsn, { batch: batch.number, xid });
        lsns.add(lsn);
      }
      states.set(table, applyBatch(table, states.get(table)!, rows));
    }
    const sorted = [...lsns].sort((a, b) => (a < b ? -1 : 1));
    if (batch.cut === null) {
      assert.ok(sorted.length === 0 || sorted[0]! > newest, "transactions come in commit order");
      newest = sorted.at(-1) ?? newest;
    }
    assert.ok(sorted.every((lsn) => lsn <= batch.position));
    for (const { table, lsnStart, lsnEnd } of batch.files) {
      assert.ok(lsnStart <= lsnEnd && lsns.has(lsnStart) && lsns.has(lsnEnd), table.name);
    }
    if (accounts) {
      const balances = [...states.get(accounts)!.values()].map((row) => Number(row[1]));
      assert.equal(
        balances.reduce((sum, balance) => sum + balance, 0),
        2000,
        `batch ${batch.number} holds whole transactions`,
      );
    }
  }
}

for (const version of sampledVersions) {
  test(`PostgreSQL ${version}: random transactions, stopped and failed at random, give the source's rows`, async (t) => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
    t.diagnostic(`SEED=${seed}`);
    await survives(version, seed);
  });
}

async function survives(version: PostgresVersion, seed: number): Promise<void> {
  const roll = dice(seed);
  await using server = await startPostgres({ version, settings });
  await using database = await server.createDatabase();
  await database.client.query(schema);
  await using log = await StreamLog.create(database);
  const states = new Map<StreamTable, TableState>([...log.tables.values()].map((table) => [table, new Map()]));
  const accounts = [...states.keys()].find(({ name }) => name === "accounts")!;
  for (const row of await sourceRows(database, accounts)) {
    states.get(accounts)!.set(JSON.stringify([JSON.parse(row)[0]]), JSON.parse(row) as string[]);
  }
  let writing = true;
  const writers = [1, 2].map(async (number) => {
    const client = await database.connect();
    const own = dice(seed + number);
    for (let i = 0; i < 150; i++) {
      try {
        await transact(client, own);
      } catch (error) {
        if ((error as { code?: string }).code !== "40P01" && (error as { code?: string }).code !== "23505") throw error;
        await client.query("rollback"); // a deadlock of the two writers, or a key that the other one took
      }
    }
  });
  const written = Promise.all(writers).finally(() => {
    writing = false;
  });
  const lost = new PgFloError("LEASE_LOST", "a commit that fails");
  while (writing) {
    const fails = roll(3);
    const after = roll(6);
    let commits = 0;
    const fail = async () => {
      if (++commits > after) throw lost;
    };
    const run = await log.start({
      binary: roll(2) === 0,
      flushIntervalMs: [1, 15, 200][roll(3)]!,
      fileSizeBytes: [1, 5000, 1_000_000][roll(3)]!,
      memoryBytes: [1, 100_000, 128_000_000][roll(3)]!,
      ...(fails === 0 && { beforeCommit: fail }),
      ...(fails === 1 && { afterCommit: fail }),
    });
    const end = roll(3);
    await Promise.race([sleep(50 + roll(400)), run.ended.catch(() => {}), written.catch(() => {})]);
    if (end === 0) run.connection.destroy();
    else run.stop();
    await run.ended.catch((error: unknown) => {
      assert.ok(error instanceof PgFloError && error.action === "retry", String(error));
    });
  }
  await written;
  await log.reach(await mark(database.client));
  assert.ok(log.batches.length > 5, `${log.batches.length} batches`);
  await replay(log, states);
  for (const [table, state] of states) {
    assert.deepEqual(sortedRows(state), await sourceRows(database, table), table.name);
  }
  assert.deepEqual(log.failedTables, []);
}

test("a later table: its copy under the cut's snapshot and the changes held for it are every row once", async () => {
  await using server = await startPostgres({ settings });
  await using database = await server.createDatabase();
  await database.client.query(`
    create table late (id serial primary key, v text); create table early (id serial primary key);
    create publication ${PUBLICATION} for table late, early;
    create publication ${INSERT_PUBLICATION} with (publish = 'insert, truncate')`);
  await using log = await StreamLog.create(database, { late: "unknown" });
  const late = [...log.tables.values()].find(({ name }) => name === "late")!;
  const run = await log.start({ flushIntervalMs: 5 });
  let writing = true;
  const writers = [1, 2, 3].map(async () => {
    const client = await database.connect();
    while (writing) {
      await client.query("begin");
      await client.query("insert into late (v) values ('a'), ('b'); insert into early default values");
      await client.query(Math.random() < 0.1 ? "rollback" : "commit");
    }
  });
  await sleep(200);
  const awaited = run.stream.awaitCut(new Map([[late.tableId, 2]]));
  assert.deepEqual(awaited, [late]);
  // A first slot that could not be created: what was held for it does not count.
  await sleep(100);
  run.stream.awaitCut(new Map([[late.tableId, 2]]));
  const replication = await openReplication(database.config, { applicationName: "test cut" });
  const { consistentPoint, snapshotName } = await replication.createSlot("late", {
    temporary: true,
    snapshot: "export",
  });
  const copying = await database.connect();
  await copying.query("begin isolation level repeatable read");
  await copying.query(`set transaction snapshot '${snapshotName}'`);
  const copied = (await copying.query<{ id: number }>("select id from late")).rows.map(({ id }) => String(id));
  await sleep(200);
  await run.stream.cutTaken(awaited, consistentPoint);
  assert.deepEqual([late.cut, late.generation], [consistentPoint, 2]);
  await sleep(100);
  writing = false;
  await Promise.all(writers);
  await copying.query("commit");
  await replication.close();
  run.stop();
  await run.ended;
  await log.reach(await mark(database.client));
  const streamed: string[] = [];
  for (const batch of log.batches) {
    for (const [table, rows] of await log.rows(batch)) {
      if (table !== late) continue;
      assert.ok(rows.every(({ lsn, operation }) => lsn >= consistentPoint && operation === "INSERT"));
      streamed.push(...rows.map(({ row }) => row![0] as string));
    }
  }
  const { rows } = await database.client.query<{ id: number }>("select id from late");
  assert.ok(copied.length > 0 && streamed.length > 0);
  assert.deepEqual([...copied, ...streamed].sort(), rows.map(({ id }) => String(id)).sort());
  const cuts = log.batches.filter(({ cut }) => cut !== null);
  assert.deepEqual(
    cuts.map(({ cut }) => [cut!.lsn, cut!.tables.map(({ name }) => name)]),
    [[consistentPoint, ["late"]]],
  );
});

const oneTable = `
  create table t (id int primary key, v text);
  create publication ${PUBLICATION} for table t;
  create publication ${INSERT_PUBLICATION} with (publish = 'insert, truncate')`;

test("commits that take long hold reading back, one at a time, and the connection lives", async () => {
  await using server = await startPostgres({ settings });
  await using database = await server.createDatabase();
  await database.client.query(oneTable);
  await using log = await StreamLog.create(database);
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let committing = 0;
  const run = await log.start({
    fileSizeBytes: 500_000,
    beforeCommit: async () => {
      assert.equal(++committing, 1, "one commit at a time");
      await released;
      committing--;
    },
  });
  const transactions = 300;
  for (let i = 0; i < transactions; i++) {
    await database.client.query(
      `insert into t select ${i} * 1000 + n, repeat('x', 300) from generate_series(1, 1000) n`,
    );
  }
  let changes = -1;
  while (changes !== run.progress.changeCount || changes === 0) {
    changes = run.progress.changeCount;
    await sleep(1000);
  }
  // Two batches, what the socket's buffers hold, and what was received already: of 100 MB.
  assert.ok(changes < 100_000, `${changes} changes were read`);
  assert.equal(log.batches.length, 0);
  await sleep(4000); // longer than the server's patience without answers
  release();
  const target = await mark(database.client);
  while (log.position < target) {
    run.stream.flush();
    await Promise.race([sleep(20), run.ended]);
  }
  run.stop();
  await run.ended;
  const rowCount = log.batches.flatMap(({ files }) => files).reduce((sum, file) => sum + file.rowCount, 0);
  assert.equal(rowCount, transactions * 1000);
});

test("what fails ends the stream with exactly that error, and files that were not asked to be committed are gone", async () => {
  await using server = await startPostgres({ settings });
  await using database = await server.createDatabase();
  await database.client.query(oneTable);
  await using log = await StreamLog.create(database);
  await database.client.query("insert into t select n, 'x' from generate_series(1, 20000) n");
  const failure = new PgFloError("STORAGE_FULL", "nothing fits any more");
  const storage: Storage = { ...log.storage, url: log.storage.url, create: () => Promise.reject(failure) };
  for (const options of [{ storage }, { storage, fileSizeBytes: 1 }] as const) {
    await assert.rejects((await log.start(options)).ended, (error) => error === failure);
  }
  assert.deepEqual(await filesIn(log.folder), []);
  const refused = async () => Promise.reject(failure);
  await assert.rejects((await log.start({ beforeCommit: refused })).ended, (error) => error === failure);
  const asked = await filesIn(log.folder);
  assert.ok(asked.length > 0, "files of a commit whose outcome is not known stay");
  // The first commit fails while a second batch is closed and a third one fills: only the first one's files stay.
  const run = await log.start({
    fileSizeBytes: 1,
    flushIntervalMs: 1,
    beforeCommit: async () => {
      for (let i = 0; i < 20; i++) await database.client.query(`update t set v = '${i}' where id < 1000`);
      await sleep(200);
      throw failure;
    },
  });
  await assert.rejects(run.ended, (error) => error === failure);
  const after = (await filesIn(log.folder)).filter((name) => !asked.includes(name));
  assert.ok(
    after.every((name) => name.startsWith("1-4-00000001-")),
    after.join(),
  );
  await log.reach(await mark(database.client));
  assert.equal(log.batches[0]!.number, 1n);
});

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}
