// A table comes to a group of two hundred while a transaction of the application stays open for long: its slot waits for
// that, and no other table waits for it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

const TABLES = 200;
const ROUNDS = 30;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("a table added to 200 others with a long transaction open waits alone: what the others commit becomes durable", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  const names = Array.from({ length: TABLES }, (_, n) => `t${n}`);
  await client.query(
    names
      .map((name) => `create table ${name} (id int primary key, x text); insert into ${name} values (1, 'a');`)
      .join(""),
  );
  await using run = await makeRun({ source: database.config, more: ["discovery_interval: 1s"] });
  await using worker = run.start();
  const states = async (state: string): Promise<number> =>
    (await client.query("select count(*)::int as n from _pg_flo.tables where state = $1", [state])).rows[0].n;
  await worker.saw(/streaming slot=/);
  await until("all are copied", async () => (await states("streaming")) === TABLES);

  const long = await database.connect();
  await long.query("begin; insert into t0 values (2, 'long')");
  await client.query("create table added (id int primary key); insert into added select generate_series(1, 1000)");
  const waits = async () => {
    const { rows } = await client.query(
      `select 1 from pg_replication_slots where temporary and active and confirmed_flush_lsn is null`,
    );
    return rows.length === 1;
  };
  await until("its slot is being created", waits);
  const lagsMs: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    await client.query(
      `insert into t${round} values (${round + 1}, 'meanwhile'); update added set id = -id where id = ${round}`,
    );
    const { rows } = await client.query("select (pg_current_wal_lsn() - '0/0')::text as written");
    const from = performance.now();
    const durable = async () => {
      const { rows: now } = await client.query("select position >= $1::numeric - 1 as yes from _pg_flo.streams", [
        rows[0].written,
      ]);
      if (now[0].yes) return true;
      await client.query("select pg_logical_emit_message(true, 'test', '')"); // a commit behind it moves the position
      return false;
    };
    await until("what was committed is durable", durable);
    lagsMs.push(Math.round(performance.now() - from));
  }
  assert.ok(await waits(), "the added table's slot still waits for the long transaction");
  assert.equal(await states("pending"), 1);
  const sorted = lagsMs.toSorted((a, b) => a - b);
  console.log(
    `# until durable meanwhile: median ${sorted[ROUNDS / 2]} ms, most ${sorted.at(-1)} ms, last ${lagsMs.at(-1)} ms`,
  );

  await long.query("commit");
  await until("the added table is copied", async () => (await states("streaming")) === TABLES + 1);
  await sleep(300);
  assert.equal(worker.stderr.match(/ streaming slot=/g)?.length, 1, worker.stderr);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await run.catchUp();
  await assertEqualToSource(
    { source: client, root: run.root },
    ["added", "t0", "t1", `t${ROUNDS}`].map((name) => ({ name })),
  );
});
