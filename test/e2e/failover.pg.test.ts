// The source fails over to a standby: the stream goes on there with no row lost or doubled, whether the standby had
// everything or not as much as the files; and where it lacks what they have, that is told, never passed over.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { isLongForm } from "../support/long-form.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { connectTo, type PostgresVersion, startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, until } from "../support/replication-run.ts";
import { startStandby, type TestStandby } from "../support/standby.ts";
import { startSwitch } from "../support/switch.ts";

const database = "shop";
const names = [{ name: "keyed" }, { name: "plain" }];
const tables = `create table keyed (id int primary key, n int not null default 0, x text);
  create table plain (id int, x text); alter table plain replica identity full;
  insert into keyed select n, 0, md5(n::text) from generate_series(1, 20000) n;
  insert into plain select n % 100, md5(n::text) from generate_series(1, 5000) n`;

function step(number: number): string {
  return `begin; update keyed set n = n + 1 where id % 100 = ${number % 100};
    insert into plain select ${number}, 'w' from generate_series(1, 3); delete from plain where id = ${number - 50};
    update keyed set id = -id where id = ${number * 7}; insert into keyed values (${100_000 + number}, 1, 'new'); commit`;
}

interface Pair {
  readonly primary: TestServer;
  readonly standby: TestStandby;
  readonly metadata: TestServer;
  readonly run: ReplicationRun;
  readonly meta: Client;
}

async function withPair(version: PostgresVersion, test: (pair: Pair) => Promise<void>): Promise<void> {
  await using primary = await startPostgres({ version });
  await using metadata = await startPostgres();
  await primary.query(`create database ${database}`);
  await metadata.query(`create database ${database}`);
  await primary.query(tables, database);
  await using run = await makeRun({ source: primary.config(database), metadata: metadata.config(database) });
  await run.catchUp();
  await using standby = await startStandby(primary);
  await keptByStandby(primary, standby, run);
  const meta = await connectTo(metadata.config(database));
  try {
    await test({ primary, standby, metadata, run, meta });
  } finally {
    await meta.end();
  }
}

/** The standby keeps its copy of the slot only when it has the log from where the slot stands. */
async function keptByStandby(primary: TestServer, standby: TestStandby, run: ReplicationRun): Promise<void> {
  await using worker = run.start();
  await until("the standby has the slot", async () => {
    assert.ok(worker.running, worker.stderr);
    // Without transactions of its own: each would make the slot's catalog_xmin old again.
    await primary.query("select pg_log_standby_snapshot()", database);
    await sleep(500);
    await standby.caughtUp();
    await standby.syncSlots();
    const slots = await standby.query("select from pg_replication_slots where synced and not temporary");
    return slots.length === 1;
  });
  worker.kill("SIGTERM");
  await worker.ended;
}

async function compare({ standby, run, meta }: Pair): Promise<void> {
  const source = await connectTo(standby.config(database));
  await assertEqualToSource({ source, metadata: meta, root: run.root }, names);
  await source.end();
}

async function position(meta: Client): Promise<bigint> {
  const { rows } = await meta.query<{ position: string }>("select position from _pg_flo.streams");
  return BigInt(rows[0]!.position);
}

for (const version of isLongForm ? ([17, 18] as const) : ([17] as const)) {
  test(`PostgreSQL ${version}: the stream goes on at the promoted standby, from a slot that is behind the position`, async () => {
    await withPair(version, async (pair) => {
      const { primary, standby, run, meta } = pair;
      assert.deepEqual(
        await primary.query(
          "select slot_name, failover from pg_replication_slots where not temporary and slot_type = 'logical'",
        ),
        [{ slot_name: "pg_flo_app_1", failover: true }],
      );
      const writer = await connectTo(primary.config(database));
      for (let number = 1; number <= 40; number++) await writer.query(step(number));
      await run.catchUp();
      await standby.caughtUp();
      await standby.syncSlots();
      // More becomes durable and is confirmed, which the standby's copy of the slot does not know.
      await using worker = run.start();
      for (let number = 41; number <= 80; number++) {
        await writer.query(step(number));
        await sleep(10);
      }
      const before = await position(meta);
      await until("more is durable", async () => (await position(meta)) > before);
      await writer.end();
      await standby.caughtUp();
      await primary.kill();
      await standby.promote();
      worker.kill("SIGKILL");
      await worker.ended;
      await run.configure({ source: standby.config(database) });
      const [slot] = await standby.query<{ behind: boolean }>(
        `select confirmed_flush_lsn - '0/0'::pg_lsn <= ${await position(meta)} as behind from pg_replication_slots
         where slot_name = 'pg_flo_app_1'`,
      );
      assert.equal(slot!.behind, true, "the slot's copy is older than what is durable");
      const next = await connectTo(standby.config(database));
      for (let number = 81; number <= 120; number++) await next.query(step(number));
      await next.end();
      await run.catchUp();
      await compare(pair);
      const { rows } = await meta.query("select message from _pg_flo.events where code = 'FAILOVER'");
      assert.equal(rows.length, 1);
      await run.catchUp(); // and that is remembered
      await compare(pair);
    });
  });
}

test("a worker that runs goes on by itself when the address of its source leads to the promoted standby", async () => {
  await withPair(18, async (pair) => {
    const { primary, standby, run } = pair;
    await using address = await startSwitch(primary.config());
    await run.configure({ source: { ...primary.config(database), port: address.port } });
    await using worker = run.start();
    await worker.saw(/"?streaming/);
    const writer = await connectTo(primary.config(database));
    for (let number = 1; number <= 60; number++) await writer.query(step(number));
    await writer.end();
    await standby.caughtUp();
    await standby.syncSlots();
    await primary.kill();
    address.to(standby.config()); // a standby at first
    await sleep(1500);
    assert.ok(worker.running, worker.stderr);
    await standby.promote();
    const next = await connectTo(standby.config(database));
    for (let number = 61; number <= 90; number++) await next.query(step(number));
    const { rows } = await next.query<{ lsn: string }>(
      "select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn",
    );
    await next.end();
    await until("all is durable", async () => {
      assert.ok(worker.running, worker.stderr);
      return (await position(pair.meta)) >= BigInt(rows[0]!.lsn);
    }).catch((error) => assert.fail(`${error.message}\n${worker.stderr}`));
    worker.kill("SIGTERM");
    assert.equal((await worker.ended).code, 0, worker.stderr);
    await compare(pair);
  });
});

test("a new primary that lacks transactions which the files have is refused", async () => {
  await withPair(18, async (pair) => {
    const { primary, standby, run, meta } = pair;
    await primary.query(step(1), database);
    await run.catchUp();
    await standby.caughtUp();
    await standby.syncSlots();
    await standby.server.halt(); // it falls behind
    await primary.query("update keyed set n = 777 where id <= 10", database);
    await run.catchUp();
    await primary.kill();
    await cutOff(standby);
    await run.configure({ source: standby.config(database) });
    await standby.query(
      "update keyed set n = 555 where id <= 10; insert into plain select 1, 'x' from generate_series(1, 20000)",
      database,
    );
    const durable = await position(meta);
    const refused = await run.run(["replicate", "--until-caught-up"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /SOURCE_REWOUND.*timeline 2 left the log of 1 at .*durable here is up to/);
    assert.equal(await position(meta), durable, "nothing was changed");
    assert.equal((await run.run(["drop", "--yes"])).code, 0);
    await run.catchUp();
    await compare(pair);
  });
});

test("a position that ran ahead of the new primary over nothing of ours goes back, and no change is passed over", async () => {
  await withPair(18, async (pair) => {
    const { primary, standby, run, meta } = pair;
    await standby.caughtUp();
    await standby.syncSlots();
    await standby.server.halt();
    await primary.query("create table elsewhere as select generate_series(1, 100000)", "postgres");
    const idle = await position(meta);
    await run.catchUp();
    const ahead = await position(meta);
    assert.ok(ahead > idle);
    await primary.kill();
    await cutOff(standby);
    await run.configure({ source: standby.config(database) });
    // These have LSNs below the position.
    await standby.query("update keyed set n = 555 where id <= 10; insert into plain values (1, 'x')", database);
    const [now] = await standby.query<{ below: boolean }>(
      `select pg_current_wal_lsn() - '0/0'::pg_lsn < ${ahead} as below`,
    );
    assert.equal(now!.below, true);
    await run.catchUp();
    await compare(pair);
  });
});

/** Starts it without its primary and promotes it. */
async function cutOff(standby: TestStandby): Promise<void> {
  await standby.server.start();
  await standby.promote();
}
