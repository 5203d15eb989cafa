// Postgres as the oracle: random values that it made itself, copied in binary and as text, and what it prints of them.
// PG_FLO_SEED repeats a run.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import { copyTable, printedValues } from "../../test/support/copied-tables.ts";
import { expectedValue } from "../../test/support/expected-values.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { isLongForm } from "../../test/support/long-form.ts";
import { type Columns, readEverywhere, sameColumns } from "../../test/support/parquet-readers.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { arrayOfNeighboursSql, commonTypes, functionsSql } from "../../test/support/random-values.ts";
import { writeTable } from "../../test/support/table-files.ts";
import { readTables, readTypes } from "../postgres/catalog.ts";
import { connect } from "../postgres/connect.ts";
import { type ColumnPlan, planColumns } from "./registry.ts";

const seed = Number(process.env.PG_FLO_SEED ?? Math.random().toFixed(9));
const rowCount = isLongForm ? 3000 : 1000;

// Made from timestamps: the same values, and none that daylight saving could shift.
const alsoTimestamptz = "timestamptz";

const scalarTypes = [...Object.keys(commonTypes), alsoTimestamptz];
const columnName = (type: string) => `v ${type}`;
const quoted = (type: string) => pg.escapeIdentifier(columnName(type));

// Tables are declared: the type of an expression would have lost its modifier.
const declare = (table: string, brackets: "" | "[]") =>
  `create table ${table} (i int, ${scalarTypes.map((type) => `${quoted(type)} ${type}${brackets}`).join(", ")});`;

const scalarsSql = `
  ${declare("copied", "")}
  insert into copied select i, ${Object.entries(commonTypes)
    .map(([type, sql]) => `case when rnd(12) > 0 then (${sql})::${type} end`)
    .join(",\n")} from generate_series(1, ${rowCount}) i;
  create table random_values as
    select i, ${Object.keys(commonTypes).map(quoted).join(", ")}, ${quoted("timestamp")} at time zone 'UTC' as ${quoted(alsoTimestamptz)}
    from copied;
  truncate copied;
  insert into copied table random_values;`;

// An array is made of a row's value and of those of its neighbours.
const arraysSql = `
  ${declare("arrays", "[]")}
  insert into arrays select i, ${scalarTypes
    .map((type) => arrayOfNeighboursSql(quoted(type)))
    .join(",\n")} from copied window w as (order by i);`;

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test(`random values of every family come out of the file as Postgres prints them (PG_FLO_SEED=${seed})`, async () => {
  await using database = await server.createDatabase();
  await using folder = await makeTestFolder();
  const admin = await database.connect();
  await admin.query(`set timezone = 'UTC'; select setseed(${seed})`);
  await admin.query(functionsSql);
  await admin.query(scalarsSql);
  await admin.query(arraysSql);
  for (const table of ["copied", "arrays"]) {
    const client = await connect(database.config, { applicationName: "test" });
    const types = await readTypes(client);
    const source = (await readTables(client)).find(({ name }) => name === table)!;
    await client.end();
    const plans = planColumns(source.columns, types);
    assert.ok(
      plans.every(({ binary }) => binary),
      "every column has a binary decoder",
    );
    const printed = await printedValues(admin, table);
    const byBinary = await readEverywhere(
      folder,
      `${table}.parquet`,
      await copyTable(database.config, folder.path, table, plans, rowCount),
    );
    compare(plans, byBinary, printed);
    const parsed = plans.map((plan, index) =>
      printed.map((row) => (row[index] === null ? null : plan.parse(row[index]!))),
    );
    const byText = await readEverywhere(folder, `${table}-text.parquet`, await writeTable(plans, parsed));
    sameColumns("decoded from text", byText, byBinary);
  }
});

function compare(plans: readonly ColumnPlan[], read: Columns, printed: readonly (readonly (string | null)[])[]): void {
  const exactTexts = printed.map((row, number) => {
    const exact: [string, string][] = [];
    for (const [index, plan] of plans.entries()) {
      const kind = plan.source.typeName.startsWith("character(") ? "trimmed" : "plain";
      const expected = expectedValue(plan.parquet, kind, row[index]!);
      const what = `${plan.source.name}, row ${number}, printed as ${row[index]}`;
      assert.deepEqual(read[index]!.values[number], expected.value, what);
      if (!expected.exact) exact.push([plan.source.name, row[index]!]);
    }
    return exact;
  });
  for (const [number, exact] of exactTexts.entries()) {
    const given = read.at(-1)!.values[number] as string | null;
    assert.deepEqual(
      given === null ? {} : JSON.parse(given),
      Object.fromEntries(exact),
      `exact texts of row ${number}`,
    );
  }
}
