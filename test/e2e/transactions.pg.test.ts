// What a transaction did is in the mirror all at once, for all tables, at every batch's position.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { batchPositions, copiedFrom } from "../support/manifest-check.ts";
import { assertEqualToSource, openMirror } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const ACCOUNTS = 50;
const FUNDS = 1000;

/** Money moves inside of a table and between two, with accounts that are closed, opened and renumbered. */
async function transfer(client: Client): Promise<void> {
  const [from, to] = [1 + Math.floor(Math.random() * ACCOUNTS), 1 + Math.floor(Math.random() * ACCOUNTS)];
  const amount = Math.floor(Math.random() * 100);
  const changed = async (sql: string, values: unknown[]) => {
    if ((await client.query(sql, values)).rowCount !== 1) throw new Error("nobody has this number now");
  };
  await client.query("begin");
  await changed("update checking set balance = balance - $2 where abs(id) = $1", [from, amount]);
  await changed("update saving set balance = balance + $2 where id = $1", [to, amount]);
  const kind = Math.random();
  if (kind < 0.2) await changed("update checking set id = -id where abs(id) = $1", [from]);
  else if (kind < 0.4) {
    const { rows } = await client.query("delete from saving where id = $1 returning balance", [to]);
    await client.query("insert into saving values ($1, $2)", [to, rows[0].balance]);
  } else if (kind < 0.5 && from !== to) {
    await changed("update checking set id = 100000 where id = $1", [from]);
    await changed("update checking set id = $1 where id = $2", [from, to]);
    await changed("update checking set id = $1 where id = 100000", [to]);
  }
  await client.query("insert into moves values ($1, $2, $3)", [from, to, amount]);
  await client.query(Math.random() < 0.1 ? "rollback" : "commit");
}

test("the sum over all accounts is the same at every batch's position while transfers run", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table checking (id int primary key, balance bigint not null);
    create table saving (id int primary key, balance bigint not null);
    create table moves (source int, target int, amount int);
    insert into checking select n, ${FUNDS} from generate_series(1, ${ACCOUNTS}) n;
    insert into saving select n, ${FUNDS} from generate_series(1, ${ACCOUNTS}) n`);
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 100ms }" });
  const stop = new AbortController();
  const clients = [await database.connect(), await database.connect(), await database.connect()];
  const writing = clients.map(async (each) => {
    while (!stop.signal.aborted) {
      await transfer(each).catch(async (error) => {
        await each.query("rollback");
        if (error.code !== "40P01" && !/nobody has/.test(error.message)) throw error; // a deadlock is the application's
      });
    }
  });
  const replicating = async () => {
    for (const batches of [5, 12, 20]) {
      await using worker = run.start();
      await worker.saw(/streaming/);
      const enough = `select count(distinct batch_id) >= $1 and not exists (
        select from _pg_flo.tables where state <> 'streaming') as yes from _pg_flo.files`;
      await until(`${batches} batches`, async () => (await client.query(enough, [batches])).rows[0].yes);
      assert.ok(worker.running, worker.stderr);
    }
  };
  await Promise.all([...writing, replicating().finally(() => stop.abort())]);
  await run.catchUp();
  await using mirror = await openMirror({ source: client, root: run.root });
  const positions = batchPositions(mirror.files).filter(({ lsnEnd }) => lsnEnd >= copiedFrom(mirror.files));
  assert.ok(positions.length > 10, `${positions.length} batches are too few to show anything`);
  for (const { batch, lsnEnd } of positions) {
    for (const name of ["checking", "saving"]) await mirror.state({ name }, name, lsnEnd);
    const [total] = await mirror.rows(
      "SELECT (SELECT sum(balance) FROM checking) + (SELECT sum(balance) FROM saving) AS sum",
    );
    assert.equal(Number(total?.sum), 2 * ACCOUNTS * FUNDS, `batch ${batch}`);
  }
  await assertEqualToSource({ source: client, root: run.root }, [
    { name: "checking" },
    { name: "saving" },
    { name: "moves" },
  ]);
});

test("nothing of a slow transaction is in any file before its COMMIT, and all of it in one batch after", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table orders (id int primary key, note text); create table lines (id int, part text);
    create table other (id int primary key)`);
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 100ms }" });
  await using worker = run.start();
  await worker.saw(/streaming/);
  const slow = await database.connect();
  await slow.query("begin");
  for (let step = 0; step < 12; step++) {
    await slow.query("insert into orders select n, 'slow' from generate_series($1::int, $1 + 99) n", [step * 100]);
    await slow.query("insert into lines select n, 'slow' from generate_series($1::int, $1 + 99) n", [step * 100]);
    await client.query("insert into other values ($1)", [step]);
    await sleep(200);
  }
  const others = "select sum(row_count)::int as n from _pg_flo.files where table_name = 'other'";
  await until("the quick transactions are durable", async () => (await client.query(others)).rows[0].n === 12);
  const files = await client.query("select count(*)::int as n from _pg_flo.files where table_name <> 'other'");
  assert.equal(files.rows[0].n, 0, "a file of a transaction that is not committed");
  const { rows } = await slow.query("select pg_current_xact_id()::text::bigint % 4294967296 as xid");
  await slow.query("commit");
  const lines = "select count(*)::int as n from _pg_flo.files where table_name = 'lines'";
  await until("the slow transaction is durable", async () => (await client.query(lines)).rows[0].n > 0);
  const batches = await client.query("select distinct batch_id from _pg_flo.files where table_name <> 'other'");
  assert.equal(batches.rows.length, 1);
  await using mirror = await openMirror({ source: client, root: run.root });
  for (const name of ["orders", "lines"]) {
    await mirror.state({ name }, "now");
    const [found] = await mirror.rows("SELECT count(*) AS n FROM now");
    assert.equal(found?.n, 1200n);
    const [change] = await mirror.rows(
      "SELECT count(DISTINCT _pg_flo_lsn) AS n, any_value(_pg_flo_xid) AS xid FROM changes",
    );
    assert.deepEqual(change, { n: 1n, xid: BigInt(rows[0].xid) });
  }
});
