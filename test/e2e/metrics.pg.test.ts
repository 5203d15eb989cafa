// A real worker is scraped: what happens shows in its figures, and its health follows the metadata database.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { CliProcess } from "../support/cli.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { type Family, parsePrometheus, readingOf } from "../support/prometheus-text.ts";
import { makeRun, until } from "../support/replication-run.ts";

let source: TestServer;
before(async () => {
  source = await startPostgres({ settings: { max_slot_wal_keep_size: "1GB" } });
});
after(() => source[Symbol.asyncDispose]());

interface Http {
  readonly url: string;
  status(path: string): Promise<number>;
  text(path: string): Promise<string>;
  scrape(query?: string): Promise<Map<string, Family>>;
}

async function httpOf(worker: CliProcess): Promise<Http> {
  await worker.saw(/HTTP server listens/);
  const url = /HTTP server listens .*url=(\S+)/.exec(worker.stderr)![1]!;
  const text = async (path: string) => (await fetch(url + path)).text();
  return {
    url,
    text,
    status: async (path) => (await fetch(url + path)).status,
    scrape: async (query = "") => {
      const answer = await fetch(`${url}/metrics${query}`);
      assert.deepEqual(
        [answer.status, answer.headers.get("content-type")],
        [200, "text/plain; version=0.0.4; charset=utf-8"],
      );
      return parsePrometheus(await answer.text());
    },
  };
}

test("rows, changes, sizes, lag and errors of a worker move as it works, and it ends with its server", async () => {
  await using database = await source.createDatabase();
  const { client } = database;
  await client.query(`create table orders (id int primary key, note text);
    create table "we\\ird ""na
me" (id int primary key); create table plain (id int);
    insert into orders select n, 'x' from generate_series(1, 5000) n`);
  await using run = await makeRun({
    group: database.name,
    source: database.config,
    stream: "{ flush_interval: 2s }",
    more: ["http: 127.0.0.1:0"],
  });
  await using worker = run.start();
  const http = await httpOf(worker);
  await until("all is copied", async () => {
    const figures = await http.scrape();
    return readingOf(figures, "pg_flo_group_tables", { state: "streaming" }) === 3;
  });
  await until("it is ready", async () => (await http.status("/readyz")) === 200);
  const stream = { stream: `${database.name}_1`, group: database.name };
  const orders = { schema: "public", table: "orders" };
  const copied = await http.scrape();
  assert.equal(readingOf(copied, "pg_flo_copy_rows_total"), 5000);
  assert.equal(readingOf(copied, "pg_flo_group_copied_rows_total"), 5000);
  assert.equal(readingOf(copied, "pg_flo_table_copied_rows_total", orders), 5000);
  assert.equal(readingOf(copied, "pg_flo_table_files", { table: 'we\\ird "na\nme' }), 0, "any name is a label");
  assert.equal(readingOf(copied, "pg_flo_group_ranges_planned"), readingOf(copied, "pg_flo_group_ranges_done"));
  assert.deepEqual(
    [readingOf(copied, "pg_flo_group_ranges_waiting"), readingOf(copied, "pg_flo_group_streams_waiting")],
    [0, 0],
  );
  assert.equal(readingOf(copied, "pg_flo_group_workers", { state: "alive" }), 1);

  // One transaction updates a row a hundred times: much comes in, little goes out.
  await client.query(`begin; do $$ begin for n in 1..100 loop update orders set note = n::text where id = 1; end loop; end $$;
    insert into orders select n, 'y' from generate_series(10001, 10010) n; commit`);
  let lagSeen = false;
  await until("the changes are durable", async () => {
    const figures = await http.scrape();
    const lag = readingOf(figures, "pg_flo_stream_lag_seconds", stream)!;
    const tableLag = readingOf(figures, "pg_flo_table_lag_seconds", orders)!;
    lagSeen ||= lag > 0 && tableLag > 0 && readingOf(figures, "pg_flo_table_lag_seconds", { table: "plain" }) === 0;
    return readingOf(figures, "pg_flo_table_changes_total", orders) === 110 && lag === 0 && tableLag === 0;
  });
  assert.ok(lagSeen, "between commit and batch there is lag, of the table that changed");
  const changed = await http.scrape();
  const of = (name: string) => readingOf(changed, `pg_flo_stream_${name}`, stream);
  assert.deepEqual(
    [of("changes_total"), of("rows_total"), of("transactions_total"), of("batches_total")],
    [110, 11, 1, 1],
  );
  assert.deepEqual([of("files_total"), of("batch_rows_sum"), of("batch_rows_count")], [1, 11, 1]);
  assert.deepEqual([of("transaction_changes_sum"), of("transaction_changes_count")], [110, 1]);
  assert.ok(of("received_bytes_total")! > 1000 && of("batch_bytes_sum") === of("file_bytes_total"));
  assert.ok(of("batch_seconds_sum")! > 0 && of("durable_lsn")! > 0);
  await until("the slot was looked at", async () => {
    const safe = readingOf(await http.scrape(), "pg_flo_slot_safe_wal_bytes", { slot: `pg_flo_${database.name}_1` });
    return safe !== undefined && safe > 1e8;
  });
  assert.ok(readingOf(changed, "process_cpu_seconds_total")! > 0);

  // A lost connection is an error that is counted, and figures go on from where they were.
  assert.equal(readingOf(changed, "pg_flo_errors_total", { code: "CONNECTION_LOST" }), 0);
  await client.query(`select pg_terminate_backend(active_pid, 5000) from pg_replication_slots
    where slot_name = 'pg_flo_${database.name}_1'`);
  await client.query("insert into orders values (20000, 'z')");
  await until("it is counted, and the stream goes on", async () => {
    const figures = await http.scrape();
    return (
      readingOf(figures, "pg_flo_errors_total", { code: "CONNECTION_LOST" }) === 1 &&
      readingOf(figures, "pg_flo_stream_changes_total", stream) === 111 &&
      readingOf(figures, "pg_flo_table_changes_total", orders) === 111
    );
  });
  assert.ok(readingOf(await http.scrape(), "pg_flo_group_stream_takes_total", stream)! >= 2);

  // Many who ask cost the metadata database one connection.
  await Promise.all(Array.from({ length: 25 }, () => http.scrape()));
  const { rows } = await client.query("select count(*)::int as n from pg_stat_activity where application_name = $1", [
    `pg-flo ${database.name} metrics`,
  ]);
  assert.equal(rows[0].n, 1);
  const few = await http.scrape("?tables=1");
  assert.equal(few.get("pg_flo_table_files")!.samples.length, 1);
  assert.equal(readingOf(few, "pg_flo_tables_left_out"), 2);
  assert.equal(await http.status("/metrics?tables=x"), 400);
  assert.match(await http.text("/"), /<a href="metrics">/);

  const taken = await run.configure({ more: [`http: ${new URL(http.url).host}`] }).then(() => run.run(["replicate"]));
  assert.equal(taken.code, 1);
  assert.match(
    taken.stderr,
    /^\[HTTP_FAILED\] http 127\.0\.0\.1:\d+, is in use by another process; stop that process, or/m,
  );

  worker.kill("SIGTERM");
  const { code } = await worker.ended;
  assert.equal(code, 0);
  await assert.rejects(fetch(http.url));
});

test("a worker whose metadata database is gone is live and not ready, until it is back", async () => {
  await using metadata = await startPostgres();
  await using database = await source.createDatabase();
  await database.client.query("create table a (id int primary key); insert into a values (1)");
  await using run = await makeRun({
    group: database.name,
    source: database.config,
    metadata: metadata.config(),
    more: ["http: 127.0.0.1:0"],
  });
  await using worker = run.start();
  const http = await httpOf(worker);
  assert.equal(await http.status("/healthz"), 200, "it lives before it works");
  await until("it is ready", async () => (await http.status("/readyz")) === 200);
  await metadata.server.halt();
  await until("it is not ready", async () => (await http.status("/readyz")) === 503);
  assert.match(await http.text("/readyz"), /metadata database does not answer|waits after an error/);
  assert.equal(await http.status("/healthz"), 200);
  const cut = await http.scrape();
  assert.equal(readingOf(cut, "pg_flo_group_reachable"), 0);
  assert.equal(readingOf(cut, "pg_flo_group_files"), undefined, "what is not known is not 0");
  await metadata.server.start();
  await until("it is ready again", async () => (await http.status("/readyz")) === 200);
  await database.client.query("insert into a values (2)");
  await until("and works", async () => {
    const figures = await http.scrape();
    return readingOf(figures, "pg_flo_table_changes_total", { table: "a" }) === 1;
  });
});

test("of two workers and two streams each tells its own, and both the same of the group", async () => {
  await using database = await source.createDatabase();
  const { client } = database;
  for (let n = 0; n < 6; n++)
    await client.query(`create table t${n} (id int primary key); insert into t${n} values (1)`);
  await using run = await makeRun({
    group: database.name,
    source: database.config,
    stream: "{ flush_interval: 200ms, streams: 2 }",
    more: ["http: 127.0.0.1:0"],
  });
  await using first = run.start();
  const one = await httpOf(first);
  await until("the first worker works", async () => (await one.status("/readyz")) === 200);
  await using second = run.start();
  const other = await httpOf(second);
  const streams = (figures: Map<string, Family>) =>
    figures.get("pg_flo_stream_durable_lsn")!.samples.map(({ labels }) => labels.stream);
  await until("each reads a stream", async () => {
    const [left, right] = [streams(await one.scrape()), streams(await other.scrape())];
    return left.length === 1 && right.length === 1 && left[0] !== right[0];
  });
  for (let n = 0; n < 6; n++) await client.query(`insert into t${n} values (2)`);
  for (const http of [one, other]) {
    await until("all changes are durable", async () => {
      const figures = await http.scrape();
      return (
        readingOf(figures, "pg_flo_group_changes_total") === 6 &&
        readingOf(figures, "pg_flo_group_workers", { state: "alive" }) === 2 &&
        readingOf(figures, "pg_flo_group_streams_waiting") === 0
      );
    });
  }
  const counted = [await one.scrape(), await other.scrape()].flatMap(
    (figures) => figures.get("pg_flo_stream_changes_total")!.samples,
  );
  assert.equal(
    counted.reduce((sum, { value }) => sum + value, 0),
    6,
    "each change is counted by one worker",
  );
});
