// Values of 200 MB, copied and streamed: what comes out is what went in, and the process holds a few of them, not many.
// In the short form only bytea has such values, one of the other types smaller ones, and there are not ten of them after
// each other.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { measure } from "../../bench/support/measured-process.ts";
import { isLongForm, sampleOf } from "../support/long-form.ts";
import { openMirror } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, seededRandom } from "../support/replication-run.ts";

const LARGE_BYTES = 200e6;
const valueBytesOf = (type: string) => (isLongForm || type === "bytea" ? LARGE_BYTES : LARGE_BYTES / 5);
/** Of the process without large values, with room. */
const BASE_BYTES = 200e6;
/** So many values may be in memory at a time. */
const VALUES_MAX = 5;

let server: TestServer;
before(async () => {
  server = await startPostgres({ settings: { shared_buffers: "128MB", max_wal_size: "8GB", autovacuum: "off" } });
});
after(() => server[Symbol.asyncDispose]());

const made = (count: number) => Math.round(count / 32);
/** Of n, what a value of about so many bytes is made of: hashes, which hardly compress. */
const types: Readonly<Record<string, (sizeBytes: number) => string>> = {
  text: (sizeBytes) => `(select string_agg(md5((i * n)::text), '') from generate_series(1, ${made(sizeBytes)}) i)`,
  jsonb: (sizeBytes) =>
    `(select jsonb_agg(md5((i * n)::text)) from generate_series(1, ${Math.round(sizeBytes / 36)}) i)`,
  bytea: (sizeBytes) =>
    `(select string_agg(sha256((i * n)::text::bytea), '') from generate_series(1, ${made(sizeBytes)}) i)`,
};

/** Catches up and gives the peak memory of the process. */
async function peakBytes(run: ReplicationRun, { config }: TestDatabase): Promise<number> {
  const args = ["bin/pg-flo.js", "replicate", "--until-caught-up", "--config", run.config];
  const { peakBytes } = await measure(process.execPath, args, {
    env: { ...process.env, SOURCE_PASSWORD: config.password },
  });
  return peakBytes;
}

function assertFew(peak: number, valueBytes: number, what: string): void {
  const values = ((peak - BASE_BYTES) / valueBytes).toFixed(1);
  console.log(`# ${what}: peak ${Math.round(peak / 1e6)} MB, ${values} values above ${BASE_BYTES / 1e6} MB`);
  assert.ok(peak <= BASE_BYTES + VALUES_MAX * valueBytes, `${what} took ${Math.round(peak / 1e6)} MB`);
}

/** By their hashes: nothing holds two of them. */
async function assertSame(run: ReplicationRun, { client }: TestDatabase, type: string): Promise<void> {
  const value = type === "jsonb" ? "v::text" : "v";
  const { rows } = await client.query(`select id, n, md5(${value}) as hash from large order by id`);
  await using mirror = await openMirror({ source: client, root: run.root });
  await mirror.state({ name: "large" }, "mirrored");
  const found = await mirror.rows("select id, n, md5(v) as hash from mirrored order by id");
  assert.deepEqual(found, rows);
}

for (const type of [...sampleOf(["text", "jsonb"], 1, seededRandom().next), "bytea"]) {
  const expression = types[type]!;
  const valueBytes = valueBytesOf(type);
  test(`a ${type} of ${valueBytes / 1e6} MB is copied, inserted and updated with few of it in memory`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create table large (id int primary key, n int, v ${type});
      alter table large alter v set storage external`);
    await using run = await makeRun({ source: database.config, copy: "{}", stream: "{}" });
    await client.query(`insert into large select 1, n, ${expression(valueBytes)} from (values (1)) as g(n)`);
    assertFew(await peakBytes(run, database), valueBytes, `${type}, copied`);
    await client.query(`insert into large select 2, n, ${expression(valueBytes)} from (values (2)) as g(n)`);
    assertFew(await peakBytes(run, database), valueBytes, `${type}, inserted`);
    await client.query(`update large set n = 3, v = ${expression(valueBytes).replaceAll("n)", "3)")} where id = 2`);
    await client.query("update large set n = 4 where id = 1"); // its value is not in the log
    assertFew(await peakBytes(run, database), valueBytes, `${type}, updated`);
    await assertSame(run, database, type);
  });
}

async function tenOfThem(): Promise<void> {
  const valueBytes = 64e6;
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(
    "create table large (id int primary key, n int, v text); alter table large alter v set storage external",
  );
  await using run = await makeRun({ source: database.config, copy: "{ parallel: 1 }", stream: "{}" });
  const insert = `insert into large select n, n, ${types.text!(valueBytes)} from generate_series`;
  await client.query(`${insert}(1, 10) n`);
  assertFew(await peakBytes(run, database), 2 * valueBytes, "ten copied");
  await client.query(`${insert}(11, 20) n`);
  assertFew(await peakBytes(run, database), 2 * valueBytes, "ten inserted in one transaction");
  await client.query(`do $$ #variable_conflict use_variable
    begin for n in 21..30 loop
    update large set n = 0, v = ${types.text!(valueBytes)} where id = 1; end loop; end $$`);
  const updated = await peakBytes(run, database);
  console.log(`# ten updates of one row in one transaction: peak ${Math.round(updated / 1e6)} MB`);
  await assertSame(run, database, "text");
}

if (isLongForm) {
  test(
    "ten of them after each other take no more than one, copied, in one transaction, and as updates of one row",
    tenOfThem,
  );
}

test("a copy whose last row fills its file keeps that file", async () => {
  await using database = await server.createDatabase();
  await database.client.query(`create table large (id int primary key, n int, v bytea);
    alter table large alter v set storage external`);
  await using run = await makeRun({ source: database.config, copy: "{ file_size: 1MB }" });
  // More than a row group, so that it is on its way to the file before the end of the data is read.
  await database.client.query(`insert into large select n, n, ${types.bytea!(70e6)} from generate_series(1, 2) n`);
  await run.catchUp();
  await assertSame(run, database, "bytea");
});
