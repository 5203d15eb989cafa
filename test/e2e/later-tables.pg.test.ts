// Tables that come, go and change while the stream runs and an application writes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { CliProcess } from "../support/cli.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const makeTables = (...names: string[]) =>
  names
    .map(
      (name) => `create table ${name} (id int primary key, x text, n int not null default 0);
        insert into ${name} select n, md5(n::text) from generate_series(1, 20000) n;`,
    )
    .join("\n");

/** Inserts, updates, deletes and moves rows of these tables until it is stopped. */
async function work(database: TestDatabase, tables: readonly string[], signal: AbortSignal): Promise<void> {
  const client = await database.connect();
  for (let step = 0; !signal.aborted; step++) {
    for (const table of tables) {
      await client.query(
        `begin; update ${table} set n = n + 1, x = 'u' || ${step} where id % 97 = ${step % 97};
         insert into ${table} (id, x) select ${100_000 + step * 10} + n, 'new' from generate_series(0, 9) n;
         delete from ${table} where id % 1009 = ${step % 1009};
         update ${table} set id = -id where id = ${100_000 + step * 10}; commit`,
      );
    }
    await sleep(5);
  }
}

async function whileWorking(
  database: TestDatabase,
  tables: readonly string[],
  what: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const working = work(database, tables, stop.signal).catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  await Promise.all([working, what(stop.signal).finally(() => stop.abort())]);
}

const copied = (database: TestDatabase, table: string) => async () => {
  const there = await database.client.query("select to_regclass('_pg_flo.tables') is not null as yes");
  if (!there.rows[0].yes) return false;
  const { rows } = await database.client.query("select state from _pg_flo.tables where table_name = $1", [table]);
  return rows[0]?.state === "streaming";
};

async function equal(database: TestDatabase, run: ReplicationRun, ...names: string[]): Promise<void> {
  await assertEqualToSource(
    { source: database.client, root: run.root },
    names.map((name) => ({ name })),
  );
}

async function kill(worker: CliProcess): Promise<void> {
  assert.ok(worker.running, worker.stderr);
  worker.kill("SIGKILL");
  await worker.ended;
}

for (const killed of [false, true]) {
  const suffix = killed ? ", with the worker killed in the middle" : "";

  test(`tables added to the config are copied with the stream running${suffix}`, async () => {
    await using database = await server.createDatabase();
    await database.client.query(makeTables("first", "second", "third"));
    await database.client.query(
      "create table plain (id int, x text, n int); insert into plain select n, 'x', 0 from generate_series(1, 5000) n",
    );
    await using run = await makeRun({ source: database.config, schemas: "{ public: { first: {} } }" });
    await whileWorking(database, ["first", "second", "third"], async () => {
      await run.catchUp();
      await run.configure({ schemas: "{ public: { first: {}, second: {}, third: {}, plain: {} } }" });
      if (killed) {
        await using worker = run.start();
        await worker.saw(/creating a snapshot/);
        await sleep(Math.random() * 200);
        await kill(worker);
      }
      await using worker = run.start();
      for (const table of ["second", "third", "plain"]) await until(`${table} is copied`, copied(database, table));
      if (killed) await kill(worker);
      await sleep(300);
    });
    await run.catchUp();
    await equal(database, run, "first", "second", "third", "plain");
  });

  test(`a column whose type changes while streaming: the table is copied again by itself, the others go on${suffix}`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(makeTables("changing", "other"));
    await using run = await makeRun({ source: database.config });
    await whileWorking(database, ["changing", "other"], async () => {
      await using worker = run.start();
      await until("the copy is done", copied(database, "changing"));
      await client.query("alter table changing alter n type bigint");
      await client.query("update changing set n = id where id < 100");
      const again = "select 1 from _pg_flo.tables where table_name = 'changing' and generation > 1";
      await until("the table begins anew", async () => (await client.query(again)).rows.length > 0);
      if (!killed) await until("it is copied again", copied(database, "changing"));
      else await kill(worker);
    });
    await run.catchUp();
    await equal(database, run, "changing", "other");
    const { rows } = await client.query("select generation from _pg_flo.tables where table_name = 'other'");
    assert.equal(rows[0].generation, 1);
  });
}

test("a new table of a wildcard comes at the next start, and one that was taken out gets nothing more", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`${makeTables("stays", "goes")} create schema more; create table more.one (id int primary key)`);
  await using run = await makeRun({ source: database.config, schemas: '{ public: "*", more: "*" }' });
  await run.catchUp();
  await client.query(
    "create table more.two (id int primary key); insert into more.two values (1); insert into goes (id) values (-5)",
  );
  await run.configure({ schemas: '{ public: { stays: {} }, more: "*" }' });
  await run.catchUp();
  await client.query(
    "insert into more.two values (2); insert into stays (id) values (-1); insert into goes (id) values (-1)",
  );
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "stays" }, { schema: "more", name: "two" }]);
  const { rows } = await client.query(
    "select state, change_files::int as files from _pg_flo.tables where table_name = 'goes'",
  );
  assert.deepEqual(rows[0], { state: "removed", files: 0 });
  await run.configure({ schemas: '{ public: "*", more: "*" }' });
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "goes" }, { name: "stays" }]);
});

test("definitions that changed several times while no worker ran", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key, x text, n int); create table u (id int primary key, x text)");
  await client.query("insert into t select n, md5(n::text), n from generate_series(1, 1000) n");
  await using run = await makeRun({ source: database.config });
  await run.catchUp();
  for (const type of ["bigint", "text", "int using n::int", "numeric(10,2)"]) {
    await client.query(`update t set n = n where id % 3 = 0; alter table t alter column n type ${type}`);
    await client.query(
      "delete from t where id = (select min(id) from t); insert into u (id, x) select count(*) + 1, 'u' from u",
    );
    await client.query(
      `update t set id = id + 1000 where id % 7 = 0; alter table u add column c${type.slice(0, 3)} int`,
    );
  }
  await run.catchUp();
  await equal(database, run, "t", "u");
});

const alterations: readonly (readonly [what: string, sql: string])[] = [
  ["a column of another type", "alter table t alter column n type bigint"],
  [
    "a column of another type and back",
    "alter table t alter column n type bigint; update t set n = 2 where id < 50; alter table t alter column n type int",
  ],
  ["a renamed column", "alter table t rename column x to y"],
  ["a dropped column", "alter table t drop column x"],
  ["another key", "alter table t drop constraint t_pkey; alter table t add primary key (n, id)"],
  [
    "a part of the key less",
    "alter table t drop constraint t_pkey; alter table t add constraint k unique (id); alter table t replica identity using index k",
  ],
  ["REPLICA IDENTITY FULL", "alter table t replica identity full"],
  [
    "a table made anew under the same name",
    "drop table t; create table t (id int primary key, x text, n int not null default 0); insert into t (id) values (1), (2)",
  ],
  ["a rewritten table", "cluster t using t_pkey; update t set n = 3 where id % 2 = 0; vacuum full t"],
];

for (const [what, sql] of alterations) {
  test(`the stream meets ${what}, and source and mirror are equal`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(
      "create table t (id int primary key, x text, n int not null default 0); create table other (id int primary key)",
    );
    await client.query("insert into t select n, md5(n::text), n from generate_series(1, 1000) n");
    await using run = await makeRun({ source: database.config });
    await run.catchUp();
    await using worker = run.start();
    await worker.saw(/streaming/);
    await client.query("update t set n = n + 1 where id < 100; insert into other values (1)");
    for (const statement of sql.split("; ")) await client.query(statement);
    await client.query(
      "update t set id = id + 5000 where id < 10; delete from t where id = 20; insert into t (id) values (-1)",
    );
    await client.query("insert into other values (2)");
    await sleep(1000);
    assert.ok(worker.running, worker.stderr);
    worker.kill("SIGTERM");
    assert.equal((await worker.ended).code, 0, worker.stderr);
    await run.catchUp();
    await equal(database, run, "t", "other");
  });
}
