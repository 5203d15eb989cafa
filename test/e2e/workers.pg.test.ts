// Several workers of one group: who streams, who copies, and what happens when one of them goes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { CliProcess } from "../support/cli.ts";
import { makeFailpointRun } from "../support/failpoint-run.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const owner = async ({ client }: TestDatabase): Promise<number | null> => {
  const { rows } = await client.query(
    "select w.pid from _pg_flo.streams s left join _pg_flo.workers w on w.worker_id = s.owner",
  );
  return rows[0]?.pid ?? null;
};

const count = async ({ client }: TestDatabase, sql: string): Promise<number> => {
  const { rows } = await client.query(`select count(*)::int as count from ${sql}`);
  return rows[0].count;
};

const owned = (database: TestDatabase, worker: CliProcess) => async () => (await owner(database)) === worker.pid;

async function stop(worker: CliProcess): Promise<void> {
  assert.ok(worker.running, worker.stderr);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
}

test("a second worker stands by, and goes on with the stream when the first is stopped or killed", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key, x text); insert into t values (1, 'copied')");
  await using run = await makeRun({ source: database.config, more: ["lease: 2s"] });
  await using first = run.start();
  await first.saw(/streaming/);
  await using second = run.start();
  await second.saw(/standing by/);
  await client.query("insert into t values (2, 'first')");
  await stop(first);
  await until("the second streams", owned(database, second));
  await client.query("insert into t values (3, 'second')");
  await using third = run.start();
  await third.saw(/standing by/);
  second.kill("SIGKILL");
  await client.query("update t set x = 'third', id = -id where id = 2");
  await until("the third streams", owned(database, third));
  await third.saw(/lease ran out/);
  await until("the event", async () => (await count(database, "_pg_flo.events where code = 'TAKEOVER'")) === 1);
  await stop(third);
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "t" }]);
});

const ended = ({ client }: TestDatabase) =>
  client
    .query("select 1 from _pg_flo.tables where state in ('pending', 'copying')")
    .then(({ rows }) => rows.length === 0);

for (const signal of ["SIGKILL", "SIGSTOP"] as const) {
  test(`the worker that made the snapshot gets ${signal} in mid-copy: the other one finishes under the same snapshot`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create table t (id int primary key, x text);
      insert into t select n, repeat(md5(n::text), 4) from generate_series(1, 60000) n`);
    // No key: under another snapshot it would have to be copied again from the start.
    await client.query("create table plain (n int, x text); insert into plain select id, x from t where id <= 30000");
    await using run = await makeFailpointRun({
      source: database.config,
      copy: "{ parallel: 1, file_size: 1MB }",
      more: ["lease: 2s"],
    });
    await using first = run.armed("copy.range-read:3=delay(40000)"); // its copier's thread alone
    await first.saw(/failpoint copy.range-read/);
    await using second = run.start();
    await second.saw(/took over a snapshot/);
    await client.query("update t set x = 'moved', id = -id where id % 100 = 0; insert into plain values (-1, 'new')");
    const done = "_pg_flo.files where kind = 'copy'";
    await until("the second copies", async () => (await count(database, done)) >= 5);
    const listed = (await client.query(`select path from ${done}`)).rows.map(({ path }) => path);
    first.kill(signal);
    await until("all is copied", () => ended(database));
    await until("the second streams", owned(database, second));
    if (signal === "SIGSTOP") {
      first.kill("SIGCONT");
      await first.saw(/standing by|LEASE_LOST/);
      await client.query("insert into t values (1000000, 'after')");
      await stop(first);
    }
    await stop(second);
    await run.catchUp();
    const kept = `${done} and path = any(array['${listed.join("', '")}'])`;
    assert.equal(await count(database, kept), listed.length, "what was done is kept");
    assert.equal(await count(database, `(select distinct lsn_start from ${done}) snapshots`), 1);
    await assertEqualToSource({ source: client, root: run.root }, [{ name: "t" }, { name: "plain" }]);
  });
}

const shares = async ({ client }: TestDatabase): Promise<string> => {
  const { rows } = await client.query(
    `select string_agg(coalesce(w.pid::text, 'none'), ' ' order by w.pid) as owners
     from _pg_flo.streams s left join _pg_flo.workers w on w.worker_id = s.owner`,
  );
  return rows[0].owners;
};

test("three streams are spread over the workers that there are, and tables keep theirs", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  const names = ["a", "b", "c", "d"];
  for (const name of names) {
    await client.query(`create table ${name} (id int primary key, x text);
      insert into ${name} select n, 'copied' from generate_series(1, 1000) n`);
  }
  const change = (x: string) =>
    client.query(names.map((name) => `insert into ${name} select max(id) + 1, '${x}' from ${name}`).join("; "));
  await using run = await makeRun({
    source: database.config,
    schemas: "{ public: { a: {}, b: {}, c: {}, d: { mode: copy-only } } }",
    stream: "{ flush_interval: 200ms, streams: 3 }",
    more: ["lease: 3s"],
  });
  await using first = run.start();
  const owners = (...workers: CliProcess[]) =>
    workers
      .map(({ pid }) => pid)
      .sort((a, b) => a - b)
      .join(" ");
  const owned =
    (...workers: CliProcess[]) =>
    async () =>
      (await shares(database)) === owners(...workers);
  await first.saw(/streaming/);
  await until("one has all", owned(first, first, first));
  await client.query("insert into a values (0, 'first')");
  await using second = run.start();
  await until("two share", owned(first, first, second));
  await change("two");
  await using third = run.start();
  await until("each has one", owned(first, second, third));
  await change("three");
  first.kill("SIGKILL");
  await until("two share again", async () => {
    const now = await shares(database);
    return now === owners(second, second, third) || now === owners(second, third, third);
  });
  await stop(second);
  await until("the third has all", owned(third, third, third));
  await change("alone");
  const { rows } = await client.query(
    "select table_name as name, stream from _pg_flo.tables where stream is not null order by stream",
  );
  assert.deepEqual(
    rows.map(({ stream }) => stream),
    [1, 2, 3],
  );
  assert.deepEqual(rows.map(({ name }) => name).sort(), ["a", "b", "c"]);
  await stop(third);
  // A smaller number takes no stream away, and a table that is new goes to one of those that are wanted.
  await client.query("create table e (id int primary key); insert into e values (1)");
  await run.configure({
    schemas: "{ public: { a: {}, b: {}, c: {}, d: { mode: copy-only }, e: {} } }",
    stream: "{ streams: 1 }",
  });
  await run.catchUp();
  const e = await client.query("select stream from _pg_flo.tables where table_name = 'e'");
  assert.equal(e.rows[0].stream, 1);
  await assertEqualToSource(
    { source: client, root: run.root },
    ["a", "b", "c", "e"].map((name) => ({ name })),
  );
  const dropped = await run.run(["drop", "--yes"]);
  assert.equal(dropped.code, 0, dropped.stderr);
  const left =
    "select 1 from pg_replication_slots where database = current_database() union all select 1 from pg_publication";
  assert.deepEqual((await client.query(left)).rows, []);
});
