import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Client } from "pg";
import { makePipeline, type TestPipeline } from "../../test/support/pipeline.ts";
import { connectTo, startPostgres } from "../../test/support/postgres.ts";
import { createShop } from "../demo/shop.ts";
import { runWorkload } from "../demo/workload.ts";
import { readManifest } from "../metadata/status.ts";
import { connect } from "../postgres/connect.ts";
import { compareTables, type TableComparison } from "./compare.ts";
import { quoteText, ScratchDatabase } from "./scratch-database.ts";

const endless = new AbortController().signal;

async function catchUp(pipeline: TestPipeline): Promise<void> {
  const result = await pipeline.run(["replicate", "--until-caught-up"]);
  assert.equal(result.code, 0, result.stderr);
}

async function compare(source: Client, pipeline: TestPipeline): Promise<TableComparison[]> {
  const manifest = await readManifest(source, "app");
  return compareTables({ source, manifest, storageRoot: pipeline.dataFolder });
}

const unequal = (tables: readonly TableComparison[]) => tables.filter(({ equal }) => !equal);

test("a shop at work is found equal in all tables, and each kind of difference is found and told", async () => {
  await using server = await startPostgres();
  const config = server.config();
  await createShop(config, 0.05);
  await using pipeline = await makePipeline({ group: "app", source: config, schemas: '{ shop: "*" }' });
  await catchUp(pipeline);
  await runWorkload(config, endless, { transactions: 600, ratePerSecond: 0 });
  await catchUp(pipeline);
  const source = await connect(config, { applicationName: "test" });
  try {
    const tables = await compare(source, pipeline);
    assert.deepEqual(unequal(tables), []);
    assert.equal(tables.length, 11);
    for (const table of tables) assert.ok(table.changeRows > 0 && table.sourceRows === table.mirrorRows, table.name);

    await source.query("insert into shop.customers (id, email, name) values (100001, 'x', 'y')");
    await source.query("delete from shop.order_lines where order_id = (select min(order_id) from shop.order_lines)");
    await source.query("update shop.stock set quantity = quantity + 1 where shelf = 7");
    await source.query("insert into shop.clicks values (now(), 1, '/', 1)");
    await source.query("delete from shop.clicks where ctid in (select ctid from shop.clicks limit 2)");
    const [clicks, customers, lines, stock] = unequal(await compare(source, pipeline)).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    );
    assert.partialDeepStrictEqual(clicks, { name: "clicks", missing: 1, extra: 2, different: 0, samples: [] });
    assert.partialDeepStrictEqual(customers, { name: "customers", missing: 1, extra: 0, different: 0 });
    assert.deepEqual(customers?.samples, [{ kind: "missing", key: { id: "100001" }, columns: [] }]);
    assert.partialDeepStrictEqual(lines, { name: "order_lines", missing: 0, different: 0 });
    assert.ok(lines && lines.extra > 0 && lines.samples[0]?.kind === "extra");
    assert.partialDeepStrictEqual(stock, { name: "stock", missing: 0, extra: 0, different: 1 });
    assert.deepEqual(stock?.samples[0]?.columns, ["quantity"]);
  } finally {
    await source.end();
  }
});

test("one changed value in a file, and a file that is gone, are found", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(
    "create table t (id int primary key, v text); insert into t select n, 'v' || n from generate_series(1, 100) n",
  );
  await client.query("create table other (id int primary key); insert into other values (1)");
  await using pipeline = await makePipeline({ group: "app", source: database.config });
  await catchUp(pipeline);
  await client.query("update t set v = 'changed' where id <= 10");
  await catchUp(pipeline);
  const source = await connect(database.config, { applicationName: "test" });
  try {
    assert.deepEqual(unequal(await compare(source, pipeline)), []);
    const { tables } = await readManifest(source, "app");
    const files = tables.find(({ table }) => table.name === "t")!.files;
    const stream = join(pipeline.dataFolder, files.find(({ kind }) => kind === "stream")!.path);
    const copied = join(pipeline.dataFolder, files.find(({ kind }) => kind === "copy")!.path);
    await rewrite(stream, "SELECT * REPLACE (CASE id WHEN 7 THEN 'tampered' ELSE v END AS v)");
    const [changed, ...others] = unequal(await compare(source, pipeline));
    assert.deepEqual(others, []);
    assert.partialDeepStrictEqual(changed, { name: "t", missing: 0, extra: 0, different: 1 });
    assert.deepEqual(changed?.samples, [{ kind: "different", key: { id: "7" }, columns: ["v"] }]);
    await rm(copied);
    const [unread] = unequal(await compare(source, pipeline));
    assert.equal(unread?.name, "t");
    assert.match(unread?.problem ?? "", /cannot be read/);
  } finally {
    await source.end();
  }
});

async function rewrite(path: string, select: string): Promise<void> {
  await using db = await ScratchDatabase.open();
  await db.run(`CREATE TABLE rewritten AS ${select} FROM read_parquet(${quoteText(path)})`);
  await db.run(`COPY rewritten TO ${quoteText(path)} (FORMAT parquet)`);
}

test("types that are mirrored by their text print in the copy as in the stream, whatever a cast to text would say", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table t (id int primary key, address inet, net cidr, "char" "char", range int8range, item point);
    create type pair as (a int, b inet); alter table t add p pair, add addresses inet[]`);
  const insert = `insert into t values ($1, '10.0.0.1', '10.0.0.0/8', 'x', '[1,2]', '(1,2)', '(1,10.0.0.1)', '{10.0.0.1,NULL}'),
    ($1 + 1, '::1/64', null, null, null, null, null, null)`;
  await client.query(insert.replaceAll("$1", "1"));
  await using pipeline = await makePipeline({ group: "app", source: database.config });
  await catchUp(pipeline);
  await client.query(insert.replaceAll("$1", "3"));
  await catchUp(pipeline);
  const source = await connect(database.config, { applicationName: "test" });
  try {
    const [table] = await compare(source, pipeline);
    assert.deepEqual([table?.equal, table?.sourceRows, table?.changeRows, table?.samples], [true, 4, 2, []]);
  } finally {
    await source.end();
  }
});

test("rows without a key are counted: equal ones are as many as at the source", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const client = await connectTo(database.config);
  try {
    await client.query("create table t (a int, b text); alter table t replica identity full");
    await client.query("insert into t select n / 3, repeat('x', 5000) from generate_series(1, 30) n");
    await using pipeline = await makePipeline({ group: "app", source: database.config });
    await catchUp(pipeline);
    await client.query("delete from t where ctid = (select min(ctid) from t where a = 4)");
    await client.query("update t set a = 5 where ctid = (select min(ctid) from t where a = 6)");
    await client.query("insert into t values (5, null), (5, null)");
    await catchUp(pipeline);
    const source = await connect(database.config, { applicationName: "test" });
    try {
      const [table] = await compare(source, pipeline);
      assert.deepEqual([table?.equal, table?.sourceRows, table?.changeRows], [true, 31, 4]);
      await client.query("delete from t where ctid = (select max(ctid) from t)");
      assert.partialDeepStrictEqual((await compare(source, pipeline))[0], { equal: false, missing: 0, extra: 1 });
      await client.query("truncate t");
      await client.query("insert into t values (1, 'after')");
      await catchUp(pipeline);
      assert.partialDeepStrictEqual((await compare(source, pipeline))[0], { equal: true, sourceRows: 1 });
    } finally {
      await source.end();
    }
  } finally {
    await client.end();
  }
});
