// Values of types that files do not have as their text, by way of copy and of stream, are found equal to the source.
// PG_FLO_SEED repeats a run.
import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { makePipeline } from "../../test/support/pipeline.ts";
import { startPostgres } from "../../test/support/postgres.ts";
import { furtherFunctionsSql, furtherTypes } from "../../test/support/random-further-values.ts";
import { arrayOfNeighboursSql, functionsSql } from "../../test/support/random-values.ts";
import { readManifest } from "../metadata/status.ts";
import { connect } from "../postgres/connect.ts";
import { compareTables } from "./compare.ts";

const seed = Number(process.env.PG_FLO_SEED ?? Math.random().toFixed(9));
const types = { ...furtherTypes, regclass: "(1200 + rnd(200))::oid::regclass" };
const names = Object.keys(types);
const quoted = (type: string) => pg.escapeIdentifier(`v ${type}`);
const declare = (table: string, brackets: string) =>
  `create table ${table} (id int primary key, ${names.map((type) => `${quoted(type)} ${type}${brackets}`).join(", ")});`;
const insertSql = (from: number, to: number) => `insert into further select i, ${Object.entries(types)
  .map(([type, sql]) => `case when rnd(12) > 0 then (${sql})::${type} end`)
  .join(",\n")} from generate_series(${from}, ${to}) i;
  insert into further_arrays select id, ${names.map((type) => arrayOfNeighboursSql(quoted(type))).join(",\n")}
    from further where id >= ${from} window w as (order by id);`;

test(`random values of further types are equal after copy and stream (PG_FLO_SEED=${seed})`, async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(functionsSql);
  await client.query(furtherFunctionsSql);
  await client.query(`set timezone = 'UTC'; select setseed(${seed})`);
  await client.query(`${declare("further", "")} ${declare("further_arrays", "[]")}`);
  await client.query(insertSql(1, 200));
  await using pipeline = await makePipeline({ group: "app", source: database.config });
  for (const work of ["", `${insertSql(201, 400)} delete from further where id % 7 = 0;`]) {
    if (work) await client.query(work);
    const result = await pipeline.run(["replicate", "--until-caught-up"]);
    assert.equal(result.code, 0, result.stderr);
  }
  const source = await connect(database.config, { applicationName: "test" });
  try {
    const manifest = await readManifest(source, "app");
    const tables = await compareTables({ source, manifest, storageRoot: pipeline.dataFolder });
    assert.deepEqual(
      tables.map(({ name, equal, changeRows, problem, samples }) => ({
        name,
        equal,
        streamed: changeRows > 0,
        problem,
        samples,
      })),
      ["further", "further_arrays"].map((name) => ({ name, equal: true, streamed: true, problem: null, samples: [] })),
    );
  } finally {
    await source.end();
  }
});
