// A copy that goes on under another snapshot while updates move rows with TOASTed values, which they do not touch, from
// ranges that are not copied yet into copied ones: the mirror is equal row by row, and the test proves that rows moved so.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client } from "pg";
import { readManifest } from "../../src/metadata/status.ts";
import { connect, endClient } from "../../src/postgres/connect.ts";
import { compareTables } from "../../src/verify/compare.ts";
import { spawnCli } from "../support/cli.ts";
import { type FailpointRun, makeFailpointRun } from "../support/failpoint-run.ts";
import { completesCopy } from "../support/manifest-check.ts";
import { assertEqualToSource, openMirror } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** Ranges of one megabyte each, one after the other. */
const COPY = "{ parallel: 1, file_size: 1MB }";

/** Rows with a document outside of the heap, and holes in the first blocks that updated rows move into. */
const documents = (name: string, key: string, rows: number, partitioning = "", parts: readonly number[] = []) => `
  create table ${name} (id int not null, part int not null default 0, n int not null default 0, amount numeric(12,2),
    exact numeric, note text, body text, primary key (${key})) ${partitioning};
  ${parts.map((part) => `create table ${name}_${part} partition of ${name} for values in (${part});`).join("\n")}
  alter table ${name} alter body set storage external;
  insert into ${name} select k, ${parts.length > 0 ? `k % ${parts.length}` : 0}, 0, case when k % 10 = 0 then 'NaN' else k / 7.0 end, 1e-30 * k, repeat('n', 80),
    repeat(md5(k::text), 90) from generate_series(1, ${rows}) k;`;

const makeHoles = async (client: Client, name: string, where: string) => {
  await client.query(`delete from ${name} where ${where}`);
  await client.query(`vacuum ${name}`);
};

/** Where every row is now. */
const rememberPlaces = (client: Client, name: string) =>
  client.query(
    `create temp table places on commit preserve rows as select id, tableoid as heap, ctid as place from ${name}`,
  );

/** Ids of rows that left a block that was not copied for one that was. */
async function movedIntoCopied(client: Client, name: string): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>(
    `with done as (select heap_oid, block_from, coalesce(block_to, 1e9) as block_to from _pg_flo.copy_ranges r
         join _pg_flo.tables t using (table_id) where t.table_name = $1 and r.state = 'done'),
       block as (select p.id, p.heap, (p.place::text::point)[0] as old, now.tableoid as heap_now, (now.ctid::text::point)[0] as new
         from places p join ${name} now using (id))
     select id from block where exists (select from done where heap_oid = heap_now and new >= block_from and new < block_to)
       and not exists (select from done where heap_oid = heap and old >= block_from and old < block_to) order by id`,
    [name],
  );
  return rows.map(({ id }) => id);
}

/** Ids of rows that were read again to complete the copy. */
async function completed(client: Client, run: FailpointRun, name: string): Promise<number[]> {
  await using mirror = await openMirror({ source: client, root: run.root, group: run.group });
  const files = mirror.files.filter((file) => file.table === name && completesCopy(file));
  if (files.length === 0) return [];
  const list = files.map((file) => `'${run.root}/${file.path}'`).join(", ");
  return (await mirror.rows(`select id from read_parquet([${list}]) order by id`)).map(({ id }) => Number(id));
}

const state = async (client: Client, name: string) => {
  const { rows } = await client.query(
    `select state, generation, cut_lsn::text as cut, copied_lsn::text as copied, ranges_done as done, ranges_total as total
     from _pg_flo.tables where table_name = $1`,
    [name],
  );
  return rows[0] as { state: string; generation: number; cut: string; copied: string; done: number; total: number };
};

/** By three readings of the files: the tests' own, the product's proof (which reads exact values too), and its views. */
async function assertEqual(database: TestDatabase, run: FailpointRun, names: readonly string[]): Promise<void> {
  const { client } = database;
  const without = ["amount", "exact"]; // NaN and what DECIMAL(38,18) does not hold
  await assertEqualToSource(
    { source: client, root: run.root, group: run.group },
    names.map((name) => ({ name, without })),
  );
  const source = await connect(database.config, { applicationName: "test compare" });
  try {
    const manifest = await readManifest(source, run.group);
    for (const compared of await compareTables({ source, manifest, storageRoot: run.root })) {
      assert.ok(compared.equal, JSON.stringify(compared));
    }
  } finally {
    await endClient(source);
  }
  for (const name of names) {
    const sums = `select count(*), sum(id), sum(n), sum(length(body)), sum(hash) from (select *, ascii(md5(body)) as hash from ${name})`;
    const { stdout, stderr } = await run.run(["query", "--format", "csv", `${sums} as summed`]);
    const { rows } = await client.query<string[]>({ text: `${sums} as summed`, rowMode: "array" });
    assert.equal(stdout.trim().split("\n").at(-1), rows[0]!.map(String).join(","), stderr);
  }
}

test("rows that untouched documents follow into copied ranges are read again, by their keys, and nothing is copied twice", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(documents("doc", "id", 2000));
  await makeHoles(client, "doc", "id < 700 and id % 4 > 0");
  await using run = await makeFailpointRun({ source: database.config, copy: COPY });
  await run.killedAt("copy.after-range-commit", { nth: 2 });
  const before = await state(client, "doc");
  assert.deepEqual([before.state, before.done], ["copying", 2]);
  assert.ok(before.total > 4, `${before.total} ranges`);

  await rememberPlaces(client, "doc");
  await client.query("update doc set n = n + 1, note = note || '!' where id > 1000 and id % 3 = 1"); // moves
  const moved = await movedIntoCopied(client, "doc");
  assert.ok(moved.length > 20, `${moved.length} rows moved into copied ranges`);
  await client.query("update doc set id = -id where id > 1900 and id % 3 = 1"); // to keys that no copy has
  await client.query("update doc set id = -id where id between -1920 and -1910"); // and back
  await client.query("delete from doc where id between 1100 and 1120");
  await client.query(`insert into doc (id, body) select k, repeat('again', 700) from generate_series(1110, 1115) k`);
  await client.query("update doc set n = n + 1 where id between 1110 and 1115");
  await client.query("update doc set body = repeat('touched', 500) where id between 1200 and 1230");

  // Under a second snapshot, killed again; under a third it ends.
  await run.killedAt("copy.after-range-commit", { nth: 1 });
  await client.query(
    "update doc set n = n + 1 where id % 5 = 0; update doc set id = id + 10000 where id between 1500 and 1510",
  );
  await run.killedAt("completion.files-durable");
  await client.query("update doc set n = n + 1, note = 'last' where id % 7 = 0");
  await run.restart();

  const after = await state(client, "doc");
  assert.equal(after.state, "streaming");
  assert.equal(after.generation, before.generation, "it was not copied anew");
  assert.equal(after.cut, before.cut);
  const again = new Set(await completed(client, run, "doc"));
  assert.ok(again.size > 0);
  const { rows: standing } = await client.query(
    "select id from doc where id = any($1) and id <= 1900 and not id between 1200 and 1230",
    [moved],
  );
  assert.ok(standing.length > 10);
  for (const { id } of standing) assert.ok(again.has(id), `row ${id} moved and was not read again`);
  await client.query("update doc set n = n + 1 where id % 2 = 0"); // over what was completed
  await run.restart();
  await assertEqual(database, run, ["doc"]);
});

test("partitioned tables go on too; tables that were truncated and tables without a key begin anew, alone", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`${documents("doc", "id, part", 2400, "partition by list (part)", [0, 1, 2])}
    ${documents("cleared", "id", 900)} create table plain (n int, x text);
    insert into plain select k, repeat('x', 500) from generate_series(1, 3000) k`);
  await makeHoles(client, "doc", "id < 1000 and id % 4 > 0");
  await using run = await makeFailpointRun({ source: database.config, copy: COPY });
  await run.killedAt("copy.after-range-commit"); // the table without a key comes first
  assert.equal((await state(client, "plain")).done, 1);
  await client.query("delete from plain where n < 100; update doc set n = n + 1 where id % 100 = 0");
  await run.killedAt("copy.after-range-commit", { nth: 6 });
  assert.deepEqual([(await state(client, "plain")).state, (await state(client, "plain")).generation], ["streaming", 2]);
  const before = await state(client, "doc");
  assert.deepEqual([before.state, before.done, before.generation], ["copying", 4, 1]);

  await rememberPlaces(client, "doc");
  await client.query("update doc set n = n + 1, note = note || '!' where id > 1000"); // moves inside of partitions
  assert.ok((await movedIntoCopied(client, "doc")).length > 0);
  await client.query("update doc set part = (part + 1) % 3 where id % 50 = 7"); // and between them
  await client.query("update doc set n = n + 1 where id % 50 = 7");
  await client.query(
    "begin; update cleared set n = 1; truncate cleared; insert into cleared (id, body) values (5, 'new'); commit",
  );
  await run.killedAt("copy.after-range-commit");
  await client.query("update doc set n = n + 1 where id % 3 = 0; truncate doc_1; insert into cleared (id) values (6)");
  await run.restart(); // doc was rewritten in part, so it began anew
  await assertEqual(database, run, ["doc", "cleared"]);
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "plain" }]);
  assert.equal((await state(client, "doc")).generation, before.generation + 1, "once, whoever met it");
});

test("a snapshot that is too old is let go; a table without a key keeps it, and nothing begins anew", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`${documents("doc", "id", 2000)} create table plain (n int, x text);
    insert into plain select k, repeat('x', 500) from generate_series(1, 6000) k`);
  await makeHoles(client, "doc", "id < 700 and id % 4 > 0");
  await using run = await makeFailpointRun({
    source: database.config,
    copy: "{ parallel: 1, file_size: 1MB, snapshot_max_age: 1s }",
  });
  // The copier stands still in the middle of `plain`, which comes first, until the snapshot is too old.
  const env = { SOURCE_PASSWORD: database.config.password, PG_FLO_FAILPOINTS: "copy.range-read:3=delay(5000)" };
  await using worker = spawnCli(["replicate", "--until-caught-up", "--config", run.config], { env });
  await worker.saw(/failpoint copy.range-read: delay/);
  assert.ok((await state(client, "plain")).done >= 1);
  await client.query("update doc set n = n + 1, note = note || '!' where id > 500; insert into plain values (-1)");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  assert.match(worker.stderr, /older than copy.snapshot_max_age/);
  const [plain, doc] = [await state(client, "plain"), await state(client, "doc")];
  assert.deepEqual([plain.generation, plain.copied], [1, plain.cut], "read under one snapshot");
  assert.deepEqual([doc.generation, doc.state], [1, "streaming"]);
  assert.ok(BigInt(doc.copied) > BigInt(doc.cut), "read under a later one");
  await assertEqual(database, run, ["doc"]);
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "plain" }]);
});

test("the exporter of the snapshot and all who read in it are ended in mid-copy, and the copy goes on under another", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(documents("doc", "id, part", 2000, "partition by list (part)", [0, 1]));
  await makeHoles(client, "doc", "id < 900 and id % 4 > 0");
  await using run = await makeFailpointRun({ source: database.config, copy: COPY });
  const env = { SOURCE_PASSWORD: database.config.password, PG_FLO_FAILPOINTS: "copy.after-range-commit:2=delay(2500)" };
  await using worker = spawnCli(["replicate", "--until-caught-up", "--config", run.config], { env });
  await worker.saw(/failpoint copy.after-range-commit: delay/);
  const before = await state(client, "doc");
  await rememberPlaces(client, "doc");
  await client.query("update doc set n = n + 1, note = note || '!' where id > 1000");
  const moved = await movedIntoCopied(client, "doc");
  assert.ok(moved.length > 0);
  const { rows } = await client.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and application_name in ('pg-flo app snapshot', 'pg-flo app copy')`,
  );
  assert.ok(rows.length >= 2, `${rows.length} sessions ended`);
  assert.equal((await worker.ended).code, 0, worker.stderr);
  const after = await state(client, "doc");
  assert.deepEqual([after.state, after.generation, after.cut], ["streaming", before.generation, before.cut]);
  assert.ok(BigInt(after.copied) > BigInt(after.cut));
  const again = new Set(await completed(client, run, "doc"));
  for (const id of moved) assert.ok(again.has(id), `row ${id} moved and was not read again`);
  await assertEqual(database, run, ["doc"]);
});
