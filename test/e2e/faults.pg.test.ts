// Servers that restart, connections that end, transactions that run long: the worker goes on by itself, nothing is lost.
import assert from "node:assert/strict";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { takeTurn } from "../../src/postgres/sessions.ts";
import type { CliProcess } from "../support/cli.ts";
import { sampleOf } from "../support/long-form.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { makePipeline } from "../support/pipeline.ts";
import { connectTo, startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, seededRandom, until } from "../support/replication-run.ts";

let source: TestServer;
let elsewhere: TestServer;
before(async () => {
  [source, elsewhere] = await Promise.all([startPostgres(), startPostgres()]);
});
after(() => Promise.all([source[Symbol.asyncDispose](), elsewhere[Symbol.asyncDispose]()]));

const tables = `create table keyed (id int primary key, n int not null default 0, x text);
  create table plain (id int, x text);
  create table documents (id int primary key, n int, body text);
  insert into keyed select n, 0, md5(n::text) from generate_series(1, 60000) n;
  insert into plain select n % 100, md5(n::text) from generate_series(1, 30000) n;
  insert into documents select n, 0, (select string_agg(md5(n::text || i), '') from generate_series(1, 100) i) from generate_series(1, 600) n`;
const names = ["keyed", "plain", "documents"];

/** Writes until it is stopped, over lost connections. Whatever the server committed counts. */
async function write(database: string, signal: AbortSignal): Promise<void> {
  for (let step = 0; !signal.aborted; ) {
    try {
      const client = await connectTo(source.config(database));
      try {
        for (; !signal.aborted; step++) {
          await client.query(
            `begin; update keyed set n = n + 1 where id % 500 = ${step % 500}; insert into plain select ${step}, 'w' from generate_series(1, 5);
             update documents set n = n + 1 where id % 50 = ${step % 50}; update keyed set id = -id where id = ${(step * 7) % 60000};
             delete from keyed where id = ${(step * 13) % 60000}; commit`,
          );
          await sleep(2);
        }
      } finally {
        await client.end().catch(() => {});
      }
    } catch {
      await sleep(50); // the server is away
    }
  }
}

async function survives(
  fault: (worker: CliProcess, run: ReplicationRun, database: string) => Promise<void>,
  options: { readonly metadata?: TestServer; readonly sql?: string } = {},
): Promise<void> {
  const database = `d${Math.floor(Math.random() * 1e9)}`;
  await source.query(`create database ${database}`);
  await source.query(tables, database);
  if (options.metadata) await options.metadata.query(`create database ${database}`);
  await using run = await makeRun({
    group: database, // slots are named for the group, and this server has those of all tests
    source: source.config(database),
    ...(options.metadata && { metadata: options.metadata.config(database) }),
    more: ["lease: 5s"],
  });
  const stop = new AbortController();
  const writing = write(database, stop.signal);
  try {
    await using worker = run.start();
    await fault(worker, run, database);
    assert.ok(worker.running, `the worker ended by itself: ${worker.stderr}`);
    stop.abort();
    await writing;
    const client = await connectTo((options.metadata ?? source).config(database));
    const rows = await source.query<{ lsn: string }>(
      "select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn",
      database,
    );
    const behind = `select (select count(*) from _pg_flo.tables where state <> 'streaming')
      + (select count(*) from _pg_flo.streams where coalesce(position, 0) < $1) as n`;
    await until("everything is durable", async () => {
      assert.ok(worker.running, `the worker ended by itself: ${worker.stderr}`);
      return Number((await client.query(behind, [rows[0]?.lsn])).rows[0].n) === 0;
    }).catch((error) => assert.fail(`${error.message}\n${worker.stderr}`));
    await client.end();
    worker.kill("SIGTERM");
    assert.equal((await worker.ended).code, 0, worker.stderr);
  } finally {
    stop.abort();
    await writing;
  }
  const client = await connectTo(source.config(database));
  const metadata = options.metadata ? await connectTo(options.metadata.config(database)) : client;
  await assertEqualToSource(
    { source: client, metadata, root: run.root, group: database },
    names.map((name) => ({ name })),
  );
  await Promise.all([client.end(), metadata === client ? undefined : metadata.end()]);
  await source.query(
    `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '${database}'`,
  );
}

const copyRuns = (worker: CliProcess) => worker.saw(/copying/).then(() => sleep(Math.random() * 400));
const streamRuns = async (worker: CliProcess) => {
  await worker.saw(/(table copied.*\s[\s\S]*){3}/);
  await sleep(Math.random() * 500);
};

const phases = [
  ["the copy", copyRuns],
  ["the stream", streamRuns],
] as const;
for (const [when, phase] of sampleOf(phases, 1, seededRandom().next)) {
  test(`the source is restarted in order, at once, and by SIGKILL during ${when}`, async () => {
    await survives(async (worker) => {
      await phase(worker);
      await source.restart({ mode: "fast" });
      await sleep(800);
      await source.restart({ mode: "immediate" });
      await sleep(800);
      await source.kill();
      await source.server.start();
      await sleep(500);
    });
  });

  test(`walsender, copiers and every other connection are terminated again and again during ${when}`, async () => {
    await survives(async (worker, _, database) => {
      await phase(worker);
      for (let time = 0; time < 6; time++) {
        const which = [
          "true",
          "backend_type = 'walsender'",
          "application_name like '%copy%'",
          "application_name like '%metadata%'",
        ];
        await source.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}' and application_name like 'pg-flo%'
           and ${which[time % which.length]}`,
        );
        await sleep(200 + Math.random() * 400);
      }
    });
  });

  test(`a metadata server of its own is restarted during ${when}`, async () => {
    await survives(
      async (worker) => {
        await phase(worker);
        for (const mode of ["fast", "immediate"] as const) {
          await elsewhere.server.halt(mode);
          await sleep(700);
          await elsewhere.server.start();
          await sleep(500);
        }
      },
      { metadata: elsewhere },
    );
  });
}

test("the session that reads the definitions is ended in the middle: they are read again", async () => {
  await using database = await source.createDatabase("catalog");
  const { client } = database;
  await client.query("create table t (id int primary key); insert into t values (1)");
  await using run = await makeRun({ source: database.config, group: "catalog" });
  assert.ok(await takeTurn(client, "definitions", "catalog", 0)); // the worker waits for it
  await using worker = run.start();
  await until("it was ended", async () => {
    assert.ok(worker.running, worker.stderr);
    const { rows } = await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pg-flo catalog catalog'
       and query like '%pg_try_advisory_lock%'`,
    );
    return rows.length === 1;
  });
  await worker.saw(/CONNECTION_LOST/);
  await client.query("select pg_advisory_unlock_all()");
  await worker.saw(/table copied/);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
});

test("a transaction that runs while the slot is made is in the mirror whole", async () => {
  await using database = await source.createDatabase("slow");
  const { client } = database;
  await client.query(
    "create table t (id int primary key, x text); insert into t select n, 'before' from generate_series(1, 1000) n",
  );
  const long = await database.connect();
  await long.query("begin; insert into t values (5000, 'early'); update t set x = 'early' where id < 10");
  await using run = await makeRun({ source: database.config, group: "slow" });
  await using worker = run.start();
  await worker.saw(/creating the replication slot/);
  await client.query("insert into t values (6000, 'meanwhile'); update t set id = 7000 where id = 500");
  await sleep(1000);
  await long.query("delete from t where id = 20; insert into t values (5001, 'late'); commit");
  await worker.saw(/table copied/);
  await client.query("insert into t values (6001, 'after')");
  worker.kill("SIGTERM");
  await worker.ended;
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root, group: "slow" }, [{ name: "t" }]);
});

test("a table with a damaged page stops alone, with the server's words, and is copied when it is mended", async () => {
  await using server = await startPostgres();
  await server.query("create database app");
  await server.query("create table hurt (id int primary key, x text); create table whole (id int primary key)", "app");
  await server.query("insert into hurt select n, md5(n::text) from generate_series(1, 1000) n", "app");
  const [heap] = await server.query<{ path: string }>("select pg_relation_filepath('hurt') as path", "app");
  await using pipeline = await makePipeline({ source: server.config("app") });
  const secondPage = async (bytes: Uint8Array): Promise<Uint8Array> => {
    await server.server.halt();
    await using file = await open(join(server.server.dataFolder, heap!.path), "r+");
    const before = Buffer.alloc(8192);
    await file.read(before, 0, 8192, 8192);
    await file.write(bytes, 0, 8192, 8192);
    await server.server.start();
    return before;
  };
  const good = await secondPage(Buffer.alloc(8192, 0xa5));
  await using worker = pipeline.spawn(["replicate"]);
  await worker.saw(/TABLE_FAILED\S* copy range \d+ of public.hurt, .*invalid page.*XX001.*pg-flo resync/);
  await worker.saw(/table copied.*public.whole/);
  await secondPage(good);
  await pipeline.run(["resync", "public.hurt"]);
  await worker.saw(/table copied.*public.hurt/);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  const client = await connectTo(server.config("app"));
  try {
    const tables = [{ name: "hurt" }, { name: "whole" }];
    await assertEqualToSource({ source: client, root: pipeline.dataFolder, group: pipeline.group }, tables);
  } finally {
    await client.end();
  }
});
