// The oracle for the types that tables have less often, and for those that users and extensions make: random values that
// Postgres made itself, copied in binary and as text, and what it makes of them. PG_FLO_SEED repeats a run.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import pg from "pg";
import { copyTable, printedValues } from "../../test/support/copied-tables.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { isLongForm } from "../../test/support/long-form.ts";
import { type Columns, readEverywhere, sameColumns, type Value } from "../../test/support/parquet-readers.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import {
  elementFormsSql,
  formSql,
  furtherFunctionsSql,
  furtherTypes,
} from "../../test/support/random-further-values.ts";
import { arrayOfNeighboursSql, functionsSql } from "../../test/support/random-values.ts";
import { writeTable } from "../../test/support/table-files.ts";
import { readTables, readTypes } from "../postgres/catalog.ts";
import { connect } from "../postgres/connect.ts";
import { type ColumnPlan, planColumns } from "./registry.ts";

const seed = Number(process.env.PG_FLO_SEED ?? Math.random().toFixed(9));
const rowCount = isLongForm ? 800 : 300;
const typeNames = Object.keys(furtherTypes);
const quoted = (type: string) => pg.escapeIdentifier(`v ${type}`);

const declare = (table: string, brackets: "" | "[]") =>
  `create table ${table} (${typeNames.map((type) => `${quoted(type)} ${type}${brackets}`).join(", ")});`;

const tablesSql = `
  ${declare("copied", "")}
  insert into copied select ${Object.entries(furtherTypes)
    .map(([type, sql]) => `case when rnd(12) > 0 then (${sql})::${type} end`)
    .join(",\n")} from generate_series(1, ${rowCount}) i;
  ${declare("arrays", "[]")}
  insert into arrays select ${typeNames.map((type) => arrayOfNeighboursSql(quoted(type))).join(",\n")}
    from copied window w as (order by ctid);`;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test(`random values of further types come out of the file as Postgres prints them (PG_FLO_SEED=${seed})`, async () => {
  await using database = await server.createDatabase();
  await using folder = await makeTestFolder();
  const admin = await database.connect();
  await admin.query("set timezone = 'UTC'; create type mood as enum ('sad', 'ok', 'Größe, \"happy\"', 'null', '')");
  await admin.query(functionsSql.replace(/create type mood.*/, ""));
  await admin.query(furtherFunctionsSql);
  await admin.query(`select setseed(${seed})`);
  await admin.query(tablesSql);
  for (const table of ["copied", "arrays"]) {
    const plans = await plansOf(database, table);
    for (const { binary, source } of plans) assert.ok(binary, `${source.typeName} has a binary decoder`);
    const file = await copyTable(database.config, folder.path, table, plans, rowCount);
    const byBinary = await readEverywhere(folder, `${table}.parquet`, file);
    const printed = await printedValues(admin, table);
    await compare(database, table, byBinary, printed);
    const parsed = plans.map((plan, index) =>
      printed.map((row) => (row[index] === null ? null : plan.parse(row[index]!))),
    );
    const byText = await readEverywhere(folder, `${table}-text.parquet`, await writeTable(plans, parsed));
    sameColumns("decoded from text", byText, byBinary);
  }
});

test("golden forms are what the server makes of the vectors", async () => {
  await using database = await server.createDatabase();
  await database.client.query("set timezone = 'UTC'");
  await database.client.query(readFileSync(new URL("../../test/golden/prelude.sql", import.meta.url), "utf8"));
  const lines = readFileSync(new URL("../../test/golden/forms.jsonl", import.meta.url), "utf8")
    .trimEnd()
    .split("\n");
  for (const { expr, form } of lines.map((line) => JSON.parse(line) as { expr: string; form: string | string[] })) {
    const typed = await database.client.query<{ type: string }>(`select pg_typeof(${expr}) as type`);
    const { type } = typed.rows[0]!;
    await database.client.query(`set intervalstyle = ${type.startsWith("interval") ? "iso_8601" : "postgres"}`);
    const kind = type.startsWith("interval") ? "interval" : "hstore"; // or a composite: to_json of both
    const sql = type.endsWith("[]") ? elementFormsSql(kind, expr) : formSql(kind, `(${expr})`);
    const { rows } = await database.client.query<{ form: unknown }>(`select ${sql} as form`);
    assert.deepEqual(rows[0]!.form, form, expr);
  }
});

async function plansOf(database: TestDatabase, table: string): Promise<ColumnPlan[]> {
  const client = await connect(database.config, { applicationName: "test" });
  try {
    const types = await readTypes(client);
    return planColumns((await readTables(client)).find(({ name }) => name === table)!.columns, types);
  } finally {
    await client.end();
  }
}

/** An array that a LIST cannot tell is NULL with its text beside it, one that counts otherwise has the text too. */
async function compare(
  database: TestDatabase,
  table: string,
  read: Columns,
  printed: readonly (readonly (string | null)[])[],
): Promise<void> {
  const exactTexts = printed.map(() => ({}) as Record<string, string>);
  const client = await database.connect();
  await client.query("set timezone = 'UTC'");
  for (const [index, type] of typeNames.entries()) {
    const column = quoted(type);
    await client.query(`set intervalstyle = ${type === "interval" ? "iso_8601" : "postgres"}`);
    const sql =
      table === "copied"
        ? `select ${formSql(type, column)} as value, true as exact from ${table} order by ctid`
        : `select case when ${column} is not null and coalesce(array_ndims(${column}), 1) = 1
          then ${elementFormsSql(type, column)} end as value,
          ${column} is null or array_ndims(${column}) is null or (array_ndims(${column}) = 1 and array_lower(${column}, 1) = 1) as exact
          from ${table} order by ctid`;
    const { rows } = await client.query<{ value: Value; exact: boolean }>(sql);
    for (const [number, { value, exact }] of rows.entries()) {
      const what = `${type}, row ${number}, printed as ${printed[number]![index]}`;
      assert.deepEqual(read[index]!.values[number], value, what);
      if (!exact) exactTexts[number]![`v ${type}`] = printed[number]![index]!;
    }
  }
  for (const [number, exact] of exactTexts.entries()) {
    const given = read.at(-1)!.values[number] as string | null;
    assert.deepEqual(given === null ? {} : JSON.parse(given), exact, `exact texts of row ${number}`);
  }
}
