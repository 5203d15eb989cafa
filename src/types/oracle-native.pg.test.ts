// The oracle for the native profile, and for the stream in both: random values that Postgres made itself, and what it
// prints of them. PG_FLO_SEED repeats a run.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import pg from "pg";
import { copyTable, printedValues } from "../../test/support/copied-tables.ts";
import { expectedNative } from "../../test/support/expected-native.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { isLongForm } from "../../test/support/long-form.ts";
import { queryDuckdb, readEverywhere, sameColumns } from "../../test/support/parquet-readers.ts";
import { makePipeline, replicate } from "../../test/support/pipeline.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { furtherFunctionsSql, furtherTypes } from "../../test/support/random-further-values.ts";
import { arrayOfNeighboursSql, commonTypes, functionsSql } from "../../test/support/random-values.ts";
import { writeTable } from "../../test/support/table-files.ts";
import { readTables, readTypes } from "../postgres/catalog.ts";
import { connect } from "../postgres/connect.ts";
import { type ColumnPlan, planColumns } from "./registry.ts";

const seed = Number(process.env.PG_FLO_SEED ?? Math.random().toFixed(9));
const rowCount = isLongForm ? 400 : 150;
const randomTypes: Readonly<Record<string, string>> = { ...commonTypes, ...furtherTypes };
const typeNames = Object.keys(randomTypes);
const quoted = (type: string): string => pg.escapeIdentifier(`v ${type}`);

const declare = (table: string, brackets: "" | "[]"): string =>
  `create table ${table} (id int primary key, ${typeNames.map((type) => `${quoted(type)} ${type}${brackets}`).join(", ")});`;

const tablesSql = `
  ${declare("plain", "")}
  insert into plain select i, ${Object.entries(randomTypes)
    .map(([type, sql]) => `case when rnd(12) > 0 then (${sql})::${type} end`)
    .join(",\n")} from generate_series(1, ${rowCount}) i;
  ${declare("arrays", "[]")}
  insert into arrays select id, ${typeNames.map((type) => arrayOfNeighboursSql(quoted(type))).join(",\n")}
    from plain window w as (order by id);`;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

async function fill({ client }: TestDatabase): Promise<void> {
  await client.query("set timezone = 'UTC'; create type mood as enum ('sad', 'ok', 'Größe, \"happy\"', 'null', '')");
  await client.query(functionsSql.replace(/create type mood.*/, ""));
  await client.query(furtherFunctionsSql);
  await client.query(`select setseed(${seed})`);
  await client.query(tablesSql);
}

test(`random values are in native files as Postgres prints them (PG_FLO_SEED=${seed})`, async () => {
  await using database = await server.createDatabase();
  await using folder = await makeTestFolder();
  await fill(database);
  const special = await database.client.query<{ name: string; kind: "char" | "money" }>(
    `select attname as name, case atttypid when 790 then 'money' else 'char' end as kind
     from pg_attribute a join pg_class c on c.oid = a.attrelid
     where c.relkind = 'c' and atttypid in ('money'::regtype, 'bpchar'::regtype)`,
  );
  const kinds = new Map(special.rows.map(({ name, kind }) => [name, kind]));
  for (const table of ["plain", "arrays"]) {
    const { native, portable } = await plansOf(database, table);
    const byBinary = await readEverywhere(
      folder,
      `${table}.parquet`,
      await copyTable(database.config, folder.path, table, native, rowCount),
    );
    const printed = await printedValues(database.client, table);
    const exactTexts = byBinary.at(-1)!.values.map((text) => (text === null ? {} : JSON.parse(text as string)));
    for (const [index, plan] of native.entries()) {
      // What both profiles write alike is compared in the other oracles.
      if (JSON.stringify(plan.parquet) === JSON.stringify(portable[index]!.parquet)) continue;
      for (const [row, texts] of printed.entries()) {
        const what = `${plan.source.name}, row ${row}, printed as ${texts[index]}`;
        const expected = expectedNative(plan.parquet, texts[index]!, kinds);
        assert.deepEqual(byBinary[index]!.values[row], expected.value, what);
        assert.equal(exactTexts[row][plan.source.name], expected.exact ? undefined : texts[index], what);
      }
    }
    const parsed = native.map((plan, index) =>
      printed.map((row) => (row[index] === null ? null : plan.parse(row[index]!))),
    );
    const byText = await readEverywhere(folder, `${table}-text.parquet`, await writeTable(native, parsed));
    sameColumns("decoded from text", byText, byBinary);
  }
});

async function plansOf(database: TestDatabase, name: string): Promise<Record<"native" | "portable", ColumnPlan[]>> {
  const client = await connect(database.config, { applicationName: "test" });
  try {
    const types = await readTypes(client);
    const table = (await readTables(client)).find((each) => each.name === name)!;
    const columns = table.columns.map((column) => ({ ...column, writtenAs: "native" }));
    return { native: planColumns(columns, types), portable: planColumns(table.columns, types) };
  } finally {
    await client.end();
  }
}

for (const profile of ["portable", "native"] as const) {
  test(`random values come through the stream as through the copy, profile ${profile} (PG_FLO_SEED=${seed})`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    await fill(database);
    await client.query(`create table streamed_plain (like plain including indexes);
      create table streamed_arrays (like arrays including indexes)`);
    await using pipeline = await makePipeline({ source: database.config });
    await writeFile(pipeline.config, `${await readFile(pipeline.config, "utf8")}\nprofile: ${profile}\n`);
    await replicate(pipeline, database);
    await client.query("insert into streamed_plain table plain; insert into streamed_arrays table arrays");
    await replicate(pipeline, database);
    for (const table of ["plain", "arrays"]) {
      const files = (name: string): string =>
        `read_parquet('${pipeline.dataFolder}/app/public.${name}/**/*.parquet', hive_partitioning = false)`;
      const columns = ["id", "_pg_flo_exact", ...typeNames.map((type) => `v ${type}`.replaceAll(".", "_"))];
      const chosen = columns.map((name) => `"${name.replaceAll('"', '""')}"`).join(", ");
      const copied = await queryDuckdb(`select ${chosen} from ${files(table)} order by id`);
      const streamed = await queryDuckdb(`select ${chosen} from ${files(`streamed_${table}`)} order by id`);
      assert.equal(copied[0]!.values.length, rowCount);
      sameColumns(`streamed ${table}`, streamed, copied);
    }
  });
}
