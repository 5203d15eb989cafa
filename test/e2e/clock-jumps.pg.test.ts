// Clocks jump: that of the process, and that of the metadata server, by which leases run. Batches go out in time, nobody
// loses a stream to a clock for good, and nothing is lost or doubled.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Client } from "pg";
import { spawnCli } from "../support/cli.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, until } from "../support/replication-run.ts";

const jumpingClock = pathToFileURL(fileURLToPath(new URL("../support/jumping-clock.mjs", import.meta.url))).href;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

async function makeTables({ client }: TestDatabase): Promise<void> {
  await client.query(`create table keyed (id int primary key, n int);
    insert into keyed select n, n from generate_series(1, 20000) n`);
}

async function change(client: Client, times: number): Promise<bigint> {
  for (let step = 0; step < times; step++) {
    await client.query(`update keyed set n = n + 1 where id % 100 = ${step % 100}`);
    await sleep(10);
  }
  const { rows } = await client.query<{ lsn: string }>(
    "select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn",
  );
  return BigInt(rows[0]!.lsn);
}

async function durable({ client }: TestDatabase, lsn: bigint): Promise<void> {
  const sql = `select bool_and(t.state = 'streaming') and bool_and(coalesce(s.position, 0) >= $1) as yes
    from _pg_flo.tables t join _pg_flo.streams s using (group_name)`;
  await until("everything is durable", async () => (await client.query(sql, [lsn])).rows[0].yes === true);
}

function startJumping(run: ReplicationRun, { config }: TestDatabase) {
  const env = { SOURCE_PASSWORD: config.password, NODE_OPTIONS: `--import=${jumpingClock}` };
  return spawnCli(["replicate", "--config", run.config], { env });
}

test("the wall clock of the process jumps by hours in both directions", async () => {
  await using database = await server.createDatabase();
  await makeTables(database);
  await using run = await makeRun({ source: database.config, more: ["lease: 5s"] });
  await using worker = startJumping(run, database);
  await worker.saw(/streaming/);
  const lsn = await change(database.client, 200);
  await durable(database, lsn);
  assert.ok(worker.running, worker.stderr);
  assert.doesNotMatch(worker.stderr, /trying again|LEASE_LOST/);
  const { rows } = await database.client.query("select count(*)::int as n from _pg_flo.files where kind = 'stream'");
  assert.ok(rows[0].n > 3, "batches went out while the clock jumped");
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await assertEqualToSource({ source: database.client, root: run.root }, [{ name: "keyed" }]);
});

test("the metadata server's clock jumps: every lease has run out at once, and its owner goes on", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await makeTables(database);
  await using run = await makeRun({ source: database.config, more: ["lease: 2s"] });
  await using worker = run.start();
  await worker.saw(/streaming/);
  for (const interval of ["-1 day", "1 day", "-1 hour"]) {
    await change(client, 20);
    // What a jump of the clock by as much the other way makes of what is stored.
    await client.query("update _pg_flo.workers set heartbeat_at = heartbeat_at + $1::interval", [interval]);
    await client.query("update _pg_flo.streams set lease_until = lease_until + $1::interval", [interval]);
    await client.query("update _pg_flo.copy_ranges set lease_until = lease_until + $1::interval", [interval]);
  }
  const lsn = await change(client, 20);
  await durable(database, lsn);
  assert.ok(worker.running, worker.stderr);
  // Taken by another one in that moment, it cannot do harm any more: the epoch decides, not a clock.
  await client.query("update _pg_flo.workers set heartbeat_at = heartbeat_at - interval '1 day'");
  await client.query("update _pg_flo.streams set lease_until = lease_until - interval '1 day'");
  const [first] = (await client.query("select epoch from _pg_flo.streams")).rows;
  await client.query("update _pg_flo.streams set owner = null, epoch = epoch + 1");
  const next = await change(client, 20);
  await until("the stream was taken again, or its worker stopped", async () => {
    const [{ epoch }] = (await client.query("select epoch from _pg_flo.streams")).rows;
    return !worker.running || BigInt(epoch) > BigInt(first.epoch) + 1n;
  });
  if (worker.running) worker.kill("SIGTERM");
  await worker.ended;
  await run.catchUp();
  await durable(database, next);
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "keyed" }]);
});
