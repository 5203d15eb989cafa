// What the source keeps for the slot becomes too much: told once, acted on by policy, and told when it is over.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres({ settings: { max_slot_wal_keep_size: "256MB" } });
});
after(() => server[Symbol.asyncDispose]());

/** A transaction that stays open has the server keep all that is written since it began. */
async function keeping(database: TestDatabase): Promise<Client> {
  const client = await database.connect();
  await client.query("begin; insert into t values (-1)");
  return client;
}

const filler = (name: string) =>
  `create table ${name} as select repeat(md5(n::text), 20) as x from generate_series(1, 5000) n`;

async function replicating(database: TestDatabase, group: string, walBudget: string) {
  await database.client.query("create table t (id int primary key); insert into t values (1)");
  const more = [`wal_budget: ${walBudget}`, "discovery_interval: 1s"];
  const run = await makeRun({ source: database.config, group, schemas: "{ public: { t: {} } }", more });
  const worker = run.start();
  await worker.saw(/table copied/);
  const events = async () => {
    const { rows } = await database.client.query(
      "select code from _pg_flo.events where code like 'WAL%' or code like 'SLOT%' order by event_id",
    );
    return rows.map(({ code }) => code);
  };
  return { run, worker, events };
}

describe("the WAL budget", { concurrency: 3 }, () => {
  test("warns, tells what is critical, each once, and that it is over", async () => {
    await using database = await server.createDatabase();
    const { run, worker, events } = await replicating(database, "warned", "{ warning: 1MB, critical: 3MB }");
    await using _run = run;
    await using _worker = worker;
    const open = await keeping(database);
    await database.client.query(filler("first"));
    await until("it is critical", async () => (await events()).includes("WAL_BUDGET_CRITICAL"));
    const status = JSON.parse((await run.run(["status", "--json"])).stdout);
    assert.match(
      status.notes.join("\n"),
      /replication slot pg_flo_warned_1 keeps \d.* of WAL at the source, critical from 3\.0 MB on/,
    );
    await open.query("commit");
    for (let again = 0; again < 60 && !(await events()).includes("WAL_BUDGET_OK"); again++) {
      await database.client.query("insert into t select max(id) + 1 from t; checkpoint");
      await sleep(500);
    }
    const told = await events();
    assert.equal(told.at(-1), "WAL_BUDGET_OK");
    assert.ok(new Set(told).size === told.length, `each once: ${told}`);
    worker.kill("SIGTERM");
    assert.equal((await worker.ended).code, 0, worker.stderr);
  });

  test("lets the copy wait while it is critical, and the stream go on", async () => {
    await using database = await server.createDatabase();
    const { run, worker, events } = await replicating(
      database,
      "throttled",
      "{ critical: 3MB, action: throttle copy }",
    );
    await using _run = run;
    await using _worker = worker;
    const open = await keeping(database);
    await database.client.query(filler("first"));
    await until("it is critical", async () => (await events()).includes("WAL_BUDGET_CRITICAL"));
    await database.client.query(
      "create table later (id int primary key); insert into later select generate_series(1, 100)",
    );
    await open.query("commit"); // its slot waits for it
    await run.configure({ schemas: "{ public: { t: {}, later: {} } }" });
    assert.equal((await run.run(["reload"])).code, 0);
    const later = async () =>
      (await database.client.query("select state, ranges_done from _pg_flo.tables where table_name = 'later'")).rows[0];
    await until("it has its cut", async () => (await later()).state === "copying");
    await database.client.query("insert into t values (2)");
    await until("the stream goes on", async () => {
      const { rows } = await database.client.query(
        "select change_rows::int as n from _pg_flo.tables where table_name = 't'",
      );
      return rows[0].n === 1;
    });
    for (let again = 0; again < 60 && (await later()).state !== "streaming"; again++) {
      await database.client.query("insert into t select max(id) + 1 from t; checkpoint");
      await sleep(500);
    }
    assert.deepEqual((await later()).state, "streaming", (await events()).join());
    worker.kill("SIGTERM");
    assert.equal((await worker.ended).code, 0, worker.stderr);
    await run.catchUp();
    await assertEqualToSource({ source: database.client, root: run.root, group: "throttled" }, [
      { name: "t" },
      { name: "later" },
    ]);
  });

  test("drops the slot by that policy, and the group stops with what to do", async () => {
    await using database = await server.createDatabase();
    const { run, worker, events } = await replicating(database, "given_up", "{ critical: 3MB, action: drop slot }");
    await using _run = run;
    await using _worker = worker;
    const open = await keeping(database);
    await database.client.query(filler("first"));
    const ended = await worker.ended;
    assert.equal(ended.code, 1, ended.stderr);
    assert.match(ended.stderr, /SLOT_LOST.*pg_flo_given_up_1.*was dropped by wal_budget.action/);
    const { rows } = await database.client.query(
      "select 1 from pg_replication_slots where database = current_database()",
    );
    assert.deepEqual(rows, []);
    assert.deepEqual(await events(), ["WAL_BUDGET_CRITICAL", "SLOT_DROPPED"]);
    await open.query("commit");
  });
});
