// What goes into consolidation and what comes out of it, counted by table, kept with the batch, and shown.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { StatusDocument } from "../../src/cli/status-document.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres({ settings: { logical_decoding_work_mem: "64kB" } });
});
after(() => server[Symbol.asyncDispose]());

async function readStatus(run: ReplicationRun): Promise<StatusDocument> {
  const { code, stdout, stderr } = await run.run(["status", "--json"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as StatusDocument;
}

async function changesOf(run: ReplicationRun): Promise<Record<string, [operations: number, rows: number]>> {
  const { tables } = await readStatus(run);
  return Object.fromEntries(tables.map(({ name, changes }) => [name, [changes.operations, changes.rows]]));
}

test("a thousand updates of one row in a transaction give one row, and status tells 1000 in, 1 out", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table counter (id int primary key, n int); insert into counter values (1, 0);
    create table gone (id int primary key); create table plain (n int); create table quiet (id int primary key)`);
  await using run = await makeRun({ source: database.config });
  await run.catchUp();
  assert.deepEqual(await changesOf(run), { counter: [0, 0], gone: [0, 0], plain: [0, 0], quiet: [0, 0] });
  await client.query("do $$ begin for i in 1..1000 loop update counter set n = n + 1; end loop; end $$");
  await run.catchUp();
  assert.deepEqual((await changesOf(run)).counter, [1000, 1]);

  await client.query("begin; insert into gone select generate_series(1, 50); delete from gone; commit");
  await client.query("begin; insert into plain select generate_series(1, 30); update counter set n = -1; commit");
  const { stderr } = await run.catchUp();
  const expected = { counter: [1001, 2], gone: [100, 0], plain: [30, 30], quiet: [0, 0] };
  assert.deepEqual(await changesOf(run), expected);
  assert.match(stderr, /"changes":131,"rows":31|changes[=:]\s*131.*rows[=:]\s*31/, stderr);
  const people = await run.run(["status"]);
  assert.match(people.stdout, /\bchanges +written\b/);
  assert.match(people.stdout, /public\.counter .* 1001 +2 /);
  await run.catchUp();
  assert.deepEqual(await changesOf(run), expected, "nothing is counted twice");
  await assertEqualToSource({ source: client, root: run.root }, [
    { name: "counter" },
    { name: "gone" },
    { name: "plain" },
  ]);
});

test("a spilled transaction counts each change once, and status tells what is open and what was spilled", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key, n int, x text)");
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 200ms, memory: 16MB }" });
  await using worker = run.start();
  await worker.saw(/table copied/);
  await client.query("begin; insert into t select n, 0, repeat(md5(n::text), 12) from generate_series(1, 60000) n");
  await client.query("update t set id = -id where id % 3 = 0; savepoint s; update t set n = n + 1; rollback to s");
  await until("it is open and spilled", async () => {
    const [stream] = (await readStatus(run)).streams;
    return stream!.openTransactionCount === 1 && stream!.spilledTransactionCount! >= 1 && stream!.spilledBytes! > 16e6;
  });
  const people = await run.run(["status"]);
  assert.match(people.stdout, /\bopen +spilled +kept WAL\b/);
  await client.query("commit");
  await until("it is durable", async () => (await changesOf(run)).t![1] > 0);
  assert.deepEqual((await changesOf(run)).t, [80_000, 60_000]);
  await until("nothing is open", async () => (await readStatus(run)).streams[0]!.openTransactionCount === 0);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  assert.equal((await readStatus(run)).streams[0]!.openTransactionCount, null);
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "t" }]);
});
