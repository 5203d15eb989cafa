// What `status` says of a group that replicates, of one whose source is gone, and of tables it cannot see wholly.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { makePipeline, PASSWORD_VARIABLE, replicate } from "../../test/support/pipeline.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { runCommandLine } from "./main.ts";
import type { Output } from "./output.ts";
import type { StatusDocument } from "./status-document.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** Events and ids left out: the names that design and docs promise. */
function keysOf(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return true;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, keysOf(item)]));
}

test("status tells tables, streams, workers and files while a worker runs, and that none runs after it", async () => {
  await using database = await server.createDatabase();
  await database.client.query(`create table "Ord.ers" (id int primary key, note text);
    insert into "Ord.ers" select g, 'x' from generate_series(1, 500) g;
    create table later (id int primary key)`);
  await using pipeline = await makePipeline({
    source: database.config,
    schemas: "{ public: { Ord.ers: {}, later: { mode: stream-only } } }",
  });
  await using worker = pipeline.spawn(["replicate"]);
  await worker.saw(/table copied/);
  await database.client.query('delete from "Ord.ers" where id > 490; insert into later values (1)');
  let status = await pipeline.json<StatusDocument>(["status"]);
  for (let tries = 0; tries < 50 && status.tables.some(({ changes }) => changes.rows === 0); tries++) {
    await sleep(200);
    status = await pipeline.json<StatusDocument>(["status"]);
  }
  // What is durable now is told with the next heartbeat.
  for (let tries = 0; tries < 50 && status.tables.some(({ lagMs }) => lagMs !== 0); tries++) {
    await sleep(200);
    status = await pipeline.json<StatusDocument>(["status"]);
  }
  const [orders, later] = status.tables.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  assert.deepEqual(orders!.copy, { rangesDone: 1, rangesTotal: 1, rows: 500, bytes: orders!.copy.bytes });
  assert.deepEqual(
    [orders!.changes, orders!.state, orders!.stream],
    [{ operations: 10, rows: 10, files: 1 }, "streaming", "app_1"],
  );
  assert.deepEqual([later!.mode, later!.changes.rows, later!.error], ["stream-only", 1, null]);
  assert.deepEqual(status.files, { count: 3, bytes: orders!.files.bytes + later!.files.bytes });
  const [stream] = status.streams;
  assert.deepEqual([stream!.name, stream!.slot, stream!.worker], ["app_1", "pg_flo_app_1", status.workers[0]!.id]);
  assert.match(stream!.position!, /^[0-9A-F]+\/[0-9A-F]+$/);
  assert.equal(status.position, stream!.position);
  assert.ok(stream!.lagBytes! >= 0 && stream!.retainedWalBytes! >= 0);
  assert.deepEqual([status.workers[0]!.pid, status.workers[0]!.alive, status.notes], [worker.pid, true, []]);
  assert.deepEqual(Object.keys(keysOf(status) as object).slice(0, 6), [
    ...["group", "position", "tables", "streams", "workers", "files"],
  ]);

  assert.deepEqual([orders!.lagMs, later!.lagMs], [0, 0], "what changed is durable");
  assert.ok(orders!.lagBytes! >= 0 && orders!.lagBytes! <= stream!.lagBytes!);
  assert.equal(typeof stream!.walBytesPerSecond === "number" || stream!.walBytesPerSecond === null, true);

  const people = await pipeline.run(["status"]);
  assert.match(people.stdout, /^group app {2}\| {2}position [0-9A-F/]+ {2}\| {2}3 files, /);
  assert.match(people.stdout, /public\.Ord\.ers +copy-and-stream +streaming +100% \(1\/1\) +500 /);
  assert.match(people.stdout, /public\.later +stream-only +streaming +- /);
  assert.match(people.stdout, /app_1 +pg_flo_app_1 +active +\S+:\d+ /);

  worker.kill("SIGKILL");
  await worker.ended;
  const stopped = await pipeline.json<StatusDocument>(["status"]);
  assert.deepEqual(
    [stopped.workers[0]!.alive, stopped.streams[0]!.worker, stopped.streams[0]!.lagMs],
    [false, null, null],
  );
  assert.deepEqual([stopped.tables[0]!.lagBytes, stopped.tables[0]!.lagMs], [null, null]);
  // Without a worker status itself looks twice at what the slot keeps.
  assert.equal(typeof stopped.streams[0]!.burnBytesPerSecond, "number");
  assert.deepEqual(stopped.notes, ["no worker runs: start one with pg-flo replicate"]);
  await database.client.query("select pg_terminate_backend(active_pid, 5000) from pg_replication_slots");
  await database.client.query("select pg_drop_replication_slot('pg_flo_app_1')");
  assert.match((await pipeline.run(["status"])).stdout, /! replication slot pg_flo_app_1 does not exist any more/);
});

/** The first two pages that a terminal gets, each in one write. */
async function pagesOnTerminal(args: readonly string[], password: string): Promise<string[]> {
  const pages: string[] = [];
  const post = (text: string) => assert.fail(text);
  const quiet = { post, closed: false, isTty: false, columns: 80, write: async () => {} };
  const stdout: Output = {
    ...quiet,
    isTty: true,
    write: async (text) => void pages.push(text),
    get closed() {
      return pages.length === 2;
    },
  };
  assert.equal(await runCommandLine(args, { env: { [PASSWORD_VARIABLE]: password }, stdout, stderr: quiet }), 0);
  return pages;
}

test("a table without identity says what cannot be seen, how much of it happened, and the two fixes", async () => {
  await using database = await server.createDatabase();
  await database.client.query(`create table "no key" (a int); insert into "no key" values (1), (2), (3);
    create table parts (a int) partition by range (a); create table part_1 partition of parts for values from (0) to (9);
    insert into parts values (1)`);
  await using pipeline = await makePipeline({ source: database.config });
  await replicate(pipeline, database);
  await database.client.query(`update "no key" set a = 5 where a < 3; delete from "no key" where a = 3;
    update parts set a = 2`);
  await database.client.query("select pg_stat_force_next_flush()");
  const { tables } = await pipeline.json<StatusDocument>(["status"]);
  const unseen = Object.fromEntries(tables.map((table) => [table.name, table.unseen]));
  assert.deepEqual(unseen, { "no key": { updates: 2, deletes: 1 }, parts: { updates: 1, deletes: 0 } });
  const people = await pipeline.run(["status"]);
  assert.match(
    people.stdout,
    /! public\.no key: .*cannot be seen; the source counts 2 updates and 1 deletes .*ALTER TABLE "public"\."no key" ADD PRIMARY KEY \(…\); or ALTER TABLE "public"\."no key" REPLICA IDENTITY FULL;\n/,
  );
});

test("with metadata of its own, status works while the source is down, and makes nothing", async () => {
  await using source = await startPostgres();
  const sourceDatabase = await source.createDatabase(); // gone with its server
  await using metadata = await server.createDatabase();
  await sourceDatabase.client.query("create table a (id int primary key); insert into a values (1)");
  await sourceDatabase.client.query("create table b (line text)");
  await using pipeline = await makePipeline({ source: sourceDatabase.config, metadata: metadata.config });
  await replicate(pipeline, metadata, sourceDatabase);
  const live = await pipeline.json<StatusDocument>(["status"]);
  assert.ok(live.streams[0]!.lagBytes !== null);
  await sourceDatabase.client.end();
  await source.server.stop();
  const down = await pipeline.json<StatusDocument>(["status"]);
  const [stream] = down.streams;
  assert.deepEqual([stream!.lagBytes, stream!.retainedWalBytes, down.sourcePosition], [null, null, null]);
  assert.equal(stream!.position, live.streams[0]!.position);
  assert.match(down.notes[0]!, /^the source does not answer, lag is not known: connect to .*ECONNREFUSED/);
  const [a, b] = down.tables;
  assert.deepEqual([a!.copy.rows, b!.unseen], [1, null]);
  assert.match(b!.notes[0]!, /how many happened is not known/);
  assert.equal((await pipeline.run(["query", "select count(*) as n from a", "--format", "csv"])).stdout, "n\n1\n");
});

test("while no worker runs status tells how fast the kept WAL grows and how long that can go on; --watch repeats it", async () => {
  await using limited = await startPostgres({ settings: { max_slot_wal_keep_size: "4GB" } });
  await using database = await limited.createDatabase();
  await database.client.query("create table a (id int primary key, t text)");
  await using pipeline = await makePipeline({ source: database.config });
  await replicate(pipeline, database);
  await using watching = pipeline.spawn(["status", "--watch", "1", "--json"]);
  while (watching.stdout.split("\n").length < 4) {
    await database.client.query("insert into a select coalesce(max(id), 0) + 1, repeat('x', 5000) from a");
  }
  watching.kill("SIGTERM");
  await watching.ended;
  const documents = watching.stdout.split("\n").slice(0, 3);
  for (const document of documents) {
    const [stream] = (JSON.parse(document) as StatusDocument).streams;
    assert.ok(stream!.burnBytesPerSecond! > 0 && stream!.walBytesPerSecond! > 0, document);
    assert.ok(stream!.walTimeLeftMs! > 0 && stream!.walTimeLeftMs! < 1e12, document);
  }
  const pages = await pagesOnTerminal(
    ["status", "--watch", "1", "--config", pipeline.config],
    database.config.password!,
  );
  for (const page of pages) {
    assert.ok(page.startsWith("\u001b[H\u001b[2J\u001b[3Jgroup app "), "the terminal is cleared first");
    assert.match(page, /\n\ntable +mode /);
  }
  assert.match(
    (await pipeline.run(["status", "--watch", "0"])).stderr,
    /--watch 0, is no number of seconds; give a number/,
  );
});
