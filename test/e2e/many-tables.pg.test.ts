// A thousand tables that change in one transaction: one batch, a file each, and no memory for all of them at once.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { openMirror } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

const TABLES = 1000;
const ROWS = 20;
const PEAK_BYTES = 640e6;

let server: TestServer;
before(async () => {
  server = await startPostgres({ settings: { max_locks_per_transaction: 1000 } });
});
after(() => server[Symbol.asyncDispose]());

test("a thousand tables change in one batch", async (t) => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`do $$ begin for n in 1..${TABLES} loop
    execute format('create table t%s (id int primary key, a text, b numeric, c timestamptz, d jsonb)', n); end loop; end $$`);
  const names = Array.from({ length: TABLES }, (_, n) => `t${n + 1}`);
  const schemas = `{ public: { ${names.map((name) => `${name}: { mode: stream-only }`).join(", ")} } }`;
  await using run = await makeRun({ source: database.config, schemas });
  await using worker = run.start();
  await worker.saw(/streaming/);
  await client.query(`do $$ begin for n in 1..${TABLES} loop
    execute format('insert into t%s select g, repeat(md5(g::text), 10), g, now(), ''{"a": 1}'' from generate_series(1, ${ROWS}) g', n);
    execute format('update t%s set a = ''second'' where id = 1', n); end loop; end $$`);
  const files = "select count(*)::int as files, count(distinct batch_id)::int as batches from _pg_flo.files";
  await until("the batch is durable", async () => (await client.query(files)).rows[0].files > 0);
  assert.deepEqual((await client.query(files)).rows[0], { files: TABLES, batches: 1 });
  const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${worker.pid}/status`, "utf8"))!;
  t.diagnostic(`peak ${Math.round(Number(peak[1]) / 1000)} MB`);
  assert.ok(Number(peak[1]) * 1024 < PEAK_BYTES, `peak ${peak[1]} kB`);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await using mirror = await openMirror({ source: client, root: run.root });
  for (const name of ["t1", "t500", "t1000"]) assert.equal(await mirror.compare({ name }), ROWS);
  const [counts] = await mirror.rows(
    `SELECT count(*) AS rows, count(DISTINCT _pg_flo_table) AS tables, count(*) FILTER (a = 'second') AS second
     FROM read_parquet('${run.root}/**/*.parquet', hive_partitioning = false)`,
  );
  assert.deepEqual(counts, { rows: BigInt(TABLES * ROWS), tables: BigInt(TABLES), second: BigInt(TABLES) });
});
