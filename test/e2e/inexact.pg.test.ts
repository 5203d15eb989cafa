// Values that their columns cannot hold, from the command line to the files: counted by column, or the end of their table.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileRows } from "../support/mirrored-rows.ts";
import { makePipeline, replicate } from "../support/pipeline.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

interface Status {
  readonly tables: readonly {
    readonly name: string;
    readonly state: string;
    readonly inexactValues: number;
    readonly inexactColumns: Readonly<Record<string, number>>;
    readonly error: { readonly code: string; readonly message: string } | null;
  }[];
}

test("inexact values are counted by column, those of copy and stream together", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table t (id int primary key, n numeric, "d ü" date, a int[]);
    insert into t values (1, 'NaN', 'infinity', '{{1}}'), (2, 'NaN', null, '{1}'), (3, 1, '2024-01-01', null)`);
  await using pipeline = await makePipeline({ source: database.config });
  await replicate(pipeline, database);
  await client.query(`insert into t values (4, 'NaN', 'infinity', null), (5, 1, null, '{}')`);
  await client.query("alter table t replica identity full; update t set n = 'Infinity' where id = 1");
  await replicate(pipeline, database);
  const { tables } = await pipeline.json<Status>(["status"]);
  const [{ inexactValues, inexactColumns }] = tables as [Status["tables"][number]];
  // Of the copy, of the INSERT, and of the new and the old row of the UPDATE under REPLICA IDENTITY FULL.
  assert.deepEqual(inexactColumns, { n: 2 + 1 + 2, "d ü": 1 + 1 + 2, a: 1 + 0 + 2 });
  assert.equal(inexactValues, 12);
  const people = await pipeline.run(["status"]);
  assert.match(people.stdout, /12 values do not fit their column.*n \(5\)/);
  await client.query("update t set n = 'NaN' where id = 4");
  await replicate(pipeline, database);
  const again = await pipeline.json<Status>(["status"]);
  assert.equal(again.tables[0]!.inexactColumns.n, 7, "the new and the old value of the update");
});

for (const phase of ["copy", "stream"] as const) {
  test(`on_inexact: error stops its table in the ${phase}, with column and number, and no other`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create table strict (id int primary key, n numeric, d date);
      create table loose (id int primary key, n numeric);
      insert into strict values (1, 1, '2024-01-01'); insert into loose values (1, 'NaN')`);
    const bad = `insert into strict select i, 'NaN', case when i < 12 then 'infinity'::date end from generate_series(10, 13) i`;
    const schemas = "{ public: { strict: { on_inexact: error }, loose: {} } }";
    await using pipeline = await makePipeline({ source: database.config, schemas });
    if (phase === "stream") await replicate(pipeline, database);
    await client.query(bad);
    await replicate(pipeline, database);
    await client.query("insert into loose values (2, 2); insert into strict values (3, 3, null)");
    await replicate(pipeline, database);
    const { tables } = await pipeline.json<Status>(["status"]);
    const [loose, strict] = tables as [Status["tables"][number], Status["tables"][number]];
    assert.deepEqual([loose.state, loose.error], ["streaming", null]);
    assert.deepEqual([strict.state, strict.error?.code], ["error", "TABLE_FAILED"]);
    assert.match(strict.error!.message, /strict.*n \(4\), d \(2\).*on_inexact: keep/);
    assert.ok(!strict.error!.message.includes("NaN"));
    const rows = await fileRows(pipeline.dataFolder, "app", "public.loose", "stream", "id");
    assert.deepEqual(
      rows.map(({ id }) => id),
      ["2"],
    );
    const { rows: files } = await client.query(
      "select count(*)::int as count from _pg_flo.files where table_name = 'strict' and kind = $1",
      [phase],
    );
    assert.equal(files[0].count, 0, "nothing of what was refused is in the manifest");
  });
}

test("a composite type that gets and loses attributes while the stream runs makes its table be read anew", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create type pair as (a int, b text);
    create table t (id int primary key, p pair, ps pair[]); create table other (id int primary key);
    insert into t values (1, row(1, 'x'), array[row(1, 'y')::pair])`);
  await using pipeline = await makePipeline({ source: database.config });
  await replicate(pipeline, database);
  await using worker = pipeline.spawn(["replicate"]);
  const caughtUp = async () => {
    const marked = await client.query("select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn");
    for (let tries = 0; tries < 300; tries++) {
      const { rows } = await client.query(
        `select (select state from _pg_flo.tables where table_name = 't') as state,
           (select count(*)::int from _pg_flo.streams where position >= $1) as reached`,
        [marked.rows[0].lsn],
      );
      if (rows[0].state === "streaming" && rows[0].reached === 1) return;
      await sleep(100);
    }
    throw new Error(`not caught up: ${worker.stderr}`);
  };
  await client.query("insert into t values (2, row(2, 'x'), null)");
  await caughtUp();
  await client.query("alter type pair add attribute c int");
  await client.query("insert into t values (3, row(3, 'x', 30), array[row(3, 'y', 31)::pair])");
  await worker.saw(/TABLE_CHANGED[\s\S]*table copied/);
  await caughtUp();
  await client.query("alter type pair drop attribute a");
  await client.query("insert into t values (4, row('x', 40), null); insert into other values (1)");
  await worker.saw(/TABLE_CHANGED[\s\S]*table copied[\s\S]*TABLE_CHANGED[\s\S]*table copied/);
  await caughtUp();
  worker.kill("SIGTERM");
  await worker.ended;
  const { stdout } = await pipeline.run(["query", "select id, p from public.t order by id", "--format", "json"]);
  const rows = stdout.trimEnd().split("\n");
  assert.deepEqual(
    rows.map((line) => JSON.parse(line) as { id: number; p: string }).map(({ id, p }) => [Number(id), JSON.parse(p)]),
    [
      [1, { b: "x", c: null }],
      [2, { b: "x", c: null }],
      [3, { b: "x", c: 30 }],
      [4, { b: "x", c: 40 }],
    ],
  );
});
