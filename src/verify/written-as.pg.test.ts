// Columns that the config has written in another way are found equal too; what cannot be compared is told, not claimed.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { makePipeline } from "../../test/support/pipeline.ts";
import { startPostgres } from "../../test/support/postgres.ts";
import { readManifest } from "../metadata/status.ts";
import { connect } from "../postgres/connect.ts";
import { compareTables } from "./compare.ts";

test("overrides and the native profile's values are compared; its structs and maps are told not to be", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create extension hstore; create type pair as (a int, b text);
    create table t (id int primary key, d numeric, s numeric, x numeric, ds numeric[], i interval, f numeric(3,3), u uuid,
      ti time, j jsonb, m money, r regclass);
    create table nested (id int primary key, p point, h hstore, c pair, spans int4range[])`);
  const insert = (id: number) =>
    client.query(`insert into t values
      (${id}, 0.10, 0.10, 1.2345, '{1.50,NULL,NaN}', '1 mon 2 days 03:00', 0.5, gen_random_uuid(), '12:34:56.7', '{"a": 1}',
        12.5, 'pg_class'),
      (${id + 1}, 1e30, -1e30, 1e-30, '{}', 'infinity', -0.05, null, '24:00', 'null', -0.01, 0),
      (${id + 2}, 'NaN', 'NaN', 'NaN', '{{1,2}}', null, null, null, null, null, null, null),
      (${id + 3}, 0.1000000000000000000001, 0, 5, '[0:0]={0.1}', '-1 day', 0, null, null, null, null, null);
      insert into nested values (${id}, '(1,2)', 'a=>1', row(1, 'x'), '{"[1,2)"}')`);
  await insert(1);
  const overrides = '{ d: double, s: string, x: "decimal(20,4)", ds: double, i: string }';
  const schemas = `{ public: { t: { types: ${overrides} }, nested: {} } }`;
  await using pipeline = await makePipeline({ source: database.config, schemas });
  await writeFile(pipeline.config, `${await readFile(pipeline.config, "utf8")}\nprofile: native\n`);
  for (const work of [() => Promise.resolve(), () => insert(11)]) {
    await work();
    const result = await pipeline.run(["replicate", "--until-caught-up"]);
    assert.equal(result.code, 0, result.stderr);
  }
  const source = await connect(database.config, { applicationName: "test" });
  try {
    const manifest = await readManifest(source, "app");
    const tables = await compareTables({ source, manifest, storageRoot: pipeline.dataFolder });
    const [nested, t] = tables.sort((a, b) => (a.name < b.name ? -1 : 1));
    assert.partialDeepStrictEqual(t, {
      name: "t",
      equal: true,
      sourceRows: 8,
      changeRows: 4,
      problem: null,
      samples: [],
    });
    assert.partialDeepStrictEqual(nested, { name: "nested", equal: false });
    assert.match(nested?.problem ?? "", /native profile yet: p, h, c, spans$/);
  } finally {
    await source.end();
  }
});
