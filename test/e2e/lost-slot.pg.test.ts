// A slot that is lost: the stream goes on at a new one, and only rows that differ are read again.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { readManifest } from "../../src/metadata/status.ts";
import { connect } from "../../src/postgres/connect.ts";
import { compareTables } from "../../src/verify/compare.ts";
import { untilAwaited, untilTrue } from "../support/awaited-transaction.ts";
import { makePipeline, type TestPipeline } from "../support/pipeline.ts";
import { startPostgres, type TestDatabase } from "../support/postgres.ts";

const ROWS = 5000;

async function differing(database: TestDatabase, pipeline: TestPipeline): Promise<string[]> {
  const source = await connect(database.config, { applicationName: "test" });
  try {
    const manifest = await readManifest(source, pipeline.group);
    const tables = await compareTables({ source, manifest, storageRoot: pipeline.dataFolder });
    return tables.filter(({ equal }) => !equal).map(({ name }) => name);
  } finally {
    await source.end();
  }
}

const makeTables = `
  create table t (id int primary key, v text, w text not null default repeat('w', 3000));
  alter table t alter w set storage external;
  insert into t select n * 3, 'v' || n from generate_series(1, ${ROWS}) n;
  create table odd (a text, b numeric(9, 2), c jsonb, primary key (b, a));
  insert into odd select 'a' || n, n / 8.0, jsonb_build_object('n', n) from generate_series(1, 500) n;
  create table same (id int primary key); insert into same select generate_series(1, 100);
  create table keyless (v int); insert into keyless select generate_series(1, 100)`;

async function change(client: Client, step: number): Promise<void> {
  await client.query(`update t set v = 'changed ${step}' where id % 300 = 0; delete from t where id % 1000 = ${step};
    insert into t values (${-step}, 'new'); update t set id = id + 1 where id = ${step * 9};
    update odd set c = '{}' where a = 'a${step}'; update odd set b = -b where a = 'a${step + 100}';
    delete from odd where a = 'a${step + 200}'; insert into keyless values (${step})`);
}

async function dropSlot(client: Client): Promise<void> {
  await client.query(`do $$ begin
    for attempt in 1..100 loop
      perform pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = 'pg_flo_app_1' and active;
      begin
        perform pg_drop_replication_slot('pg_flo_app_1'); return;
      exception when object_in_use then perform pg_sleep(0.05);
      end;
    end loop;
  end $$`);
}

test("replicate --resync goes on at a new slot, reads again only what differs, deletes included, and tells the gap", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(makeTables);
  await using pipeline = await makePipeline({ source: database.config });
  const catchUp = (...args: string[]) => pipeline.run(["replicate", "--until-caught-up", ...args]);
  // With nothing lost, and nothing there, it changes nothing.
  assert.equal((await catchUp("--resync")).code, 0);
  await change(client, 1);
  assert.equal((await catchUp()).code, 0);
  await dropSlot(client);
  await change(client, 2);
  const lost = await catchUp();
  assert.equal(lost.code, 1);
  assert.match(lost.stderr, /\[SLOT_LOST\].*replicate --resync/);
  const recovered = await catchUp("--resync");
  assert.equal(recovered.code, 0, recovered.stderr);
  assert.deepEqual(await differing(database, pipeline), []);
  const { rows } = await client.query<{ message: string }>(
    "select message from _pg_flo.events where code = 'SLOT_RECOVERED'",
  );
  const [, compared, read, deleted, again] =
    /(\d+) tables were compared, (\d+) rows read again and (\d+) deleted, (\d+) tables are copied again/.exec(
      rows[0]?.message ?? "",
    ) ?? [];
  // Every 300th row, one new, two moved keys; their former keys are among the deleted.
  assert.deepEqual([compared, again], ["3", "1"], rows[0]?.message);
  assert.ok(Number(read) >= 50 && Number(read) <= 60, rows[0]?.message);
  assert.ok(Number(deleted) >= 3 && Number(deleted) <= 12, rows[0]?.message);
  // Untouched large values of rows that were read again, and of those that were not, are whole afterwards.
  await change(client, 3);
  assert.equal((await catchUp()).code, 0);
  assert.deepEqual(await differing(database, pipeline), []);
  // Two at once: one recovers, the other waits for it.
  await dropSlot(client);
  await change(client, 4);
  for (const { code, stderr } of await Promise.all([catchUp("--resync"), catchUp("--resync")])) {
    assert.equal(code, 0, stderr);
  }
  const { rows: events } = await client.query("select from _pg_flo.events where code = 'SLOT_RECOVERED'");
  assert.equal(events.length, 2);
  assert.deepEqual(await differing(database, pipeline), []);
});

test("a worker whose slot is taken away while it runs goes on by itself where the config says so", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(makeTables);
  await using pipeline = await makePipeline({ source: database.config });
  const config = await readFile(pipeline.config, "utf8");
  await writeFile(pipeline.config, config.replace("flush_interval: 200ms", "flush_interval: 200ms, lost_slot: resync"));
  await using worker = pipeline.spawn(["replicate"]);
  await worker.saw(/table copied table=public\.t /);
  for (const step of [1, 2]) {
    await dropSlot(client);
    await change(client, step);
    for (let tries = 0; ; tries++) {
      const { rows } = await client.query(
        "select count(*)::int as n from _pg_flo.events where code = 'SLOT_RECOVERED'",
      );
      if (rows[0].n === step) break;
      assert.ok(worker.running && tries < 600, worker.stderr);
      await sleep(100);
    }
  }
  await change(client, 3);
  worker.kill("SIGTERM");
  await worker.ended;
  assert.equal((await pipeline.run(["replicate", "--until-caught-up"])).code, 0);
  assert.deepEqual(await differing(database, pipeline), []);
});

// PostgreSQL's own defect: decoding that began while `old` ran does not see what `old` does to definitions after a savepoint.
test("a slot that the server cannot decode is told with what to do, which mends it", async () => {
  await using server = await startPostgres({ settings: { autovacuum: "off" } });
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table t (id int primary key, v text); alter table t alter v set storage external;
    create table other (id int primary key)`);
  await using pipeline = await makePipeline({ source: database.config });
  const [old, running] = [await database.connect(), await database.connect()];
  const row = (id: number) => `insert into t values (${id}, repeat(md5('${id}'), 100))`;
  await old.query("begin; insert into other values (1)");
  await using worker = pipeline.spawn(["replicate"]);
  await untilAwaited(old, client);
  await running.query("begin; insert into other values (2)");
  await old.query(`savepoint s; truncate t; ${row(1)}; commit`);
  await untilAwaited(running, client);
  await client.query("insert into other values (3)");
  await running.query("commit");
  await untilTrue(client, "exists (select from pg_replication_slots where confirmed_flush_lsn is not null)");
  await client.query(row(2));
  await worker.saw(/SERVER_FAILED.*could not map filen.*pg_drop_replication_slot.*--resync/);
  worker.kill("SIGTERM");
  await worker.ended;
  await dropSlot(client);
  const mended = await pipeline.run(["replicate", "--until-caught-up", "--resync"]);
  assert.equal(mended.code, 0, mended.stderr);
  assert.deepEqual(await differing(database, pipeline), []);
});
