// One round of the long test of types: random values that Postgres made go through the copy and through the stream of real
// workers, in both profiles, and come back from the files as Postgres has them.
import assert from "node:assert/strict";
import pg from "pg";
import { readTables, readTypes } from "../../src/postgres/catalog.ts";
import { planColumns } from "../../src/types/registry.ts";
import { fileRows } from "./mirrored-rows.ts";
import type { Value } from "./parquet-readers.ts";
import type { TestDatabase, TestServer } from "./postgres.ts";
import { furtherFunctionsSql, furtherTypes } from "./random-further-values.ts";
import { arrayOfNeighboursSql, commonTypes, functionsSql } from "./random-values.ts";
import { makeRun } from "./replication-run.ts";
import { expectedTree, readTypeCatalog, type Tree, treeSql } from "./value-trees.ts";

export interface RoundOptions {
  /** An integer; the same one makes the same values. */
  readonly seed: number;
  /** Of each of the four tables: half of them are copied, the others streamed, some of the first updated. */
  readonly rowCount: number;
}

export interface RoundFigures {
  readonly values: number;
  readonly inexact: number;
}

const profiles = ["portable", "native"] as const;

const tables: Readonly<Record<string, { readonly types: readonly string[]; readonly sql: string }>> = {
  common: scalars(commonTypes),
  further: scalars(furtherTypes),
  common_arrays: arrays("common", Object.keys(commonTypes)),
  further_arrays: arrays("further", Object.keys(furtherTypes)),
};

const quoted = (type: string): string => pg.escapeIdentifier(`v ${type}`);

/** SQL of values of `made.<table>`, for rows 1 to $rows. */
function scalars(types: Readonly<Record<string, string>>) {
  const values = Object.entries(types).map(([type, sql]) => `case when rnd(12) > 0 then (${sql})::${type} end`);
  return { types: Object.keys(types), sql: `select i, ${values.join(",\n")} from generate_series(1, $rows) i` };
}

function arrays(of: string, types: readonly string[]) {
  const values = types.map((type) => arrayOfNeighboursSql(pg.escapeIdentifier(`v ${type}`)));
  const sql = `select id, ${values.join(",\n")} from made.${of} window w as (order by id)`;
  return { types: types.map((type) => `${type}[]`), sql };
}

/** Fails at the first value that differs, told by its table, column, row, profile and seed. */
export async function runTypeRound(server: TestServer, { seed, rowCount }: RoundOptions): Promise<RoundFigures> {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("set timezone = 'UTC'; set jit = off; create schema made");
  await client.query(functionsSql);
  await client.query(furtherFunctionsSql);
  await client.query(`select setseed(${(Math.abs(seed) % 1_000_003) / 1_000_003})`);
  for (const [name, { types, sql }] of Object.entries(tables)) {
    const columns = types.map((type) => `${quoted(type.replace("[]", ""))} ${type}`).join(", ");
    await client.query(
      `create table made.${name} (id int primary key, ${columns}); create table ${name} (like made.${name} including all)`,
    );
    await client.query(`insert into made.${name} ${sql.replace("$rows", String(rowCount))}`);
    await client.query(`insert into ${name} select * from made.${name} where id <= ${rowCount / 2}`);
  }
  // One array without a binary form, and the whole stream of a group that has it comes as text.
  await client.query("create table as_text (id int primary key, acl aclitem[])");
  const withText = (profile: (typeof profiles)[number]): boolean => ((seed >> profiles.indexOf(profile)) & 1) === 1;
  const makeOne = (profile: (typeof profiles)[number]) => {
    const names = [...Object.keys(tables), ...(withText(profile) ? ["as_text"] : [])];
    const schemas = `{ public: { ${names.map((name) => `${name}: {}`).join(", ")} } }`;
    return makeRun({ source: database.config, group: profile, schemas, more: [`profile: ${profile}`] });
  };
  await using portable = await makeOne("portable");
  await using native = await makeOne("native");
  const catchUp = () => Promise.all([portable.catchUp(), native.catchUp()]);
  await catchUp();
  const copied = await expectedOfAll(database);
  await change(client, rowCount);
  await catchUp();
  const streamed = await expectedOfAll(database);
  const figures = { values: 0, inexact: 0 };
  for (const [profile, { root }] of Object.entries({ portable, native })) {
    for (const name of Object.keys(tables)) {
      for (const [kind, expected] of Object.entries({ copy: copied, stream: streamed })) {
        const rows = await fileRows(root, profile, `public.${name}`, kind as "copy" | "stream", "id");
        const where = `${profile} profile, ${kind} of ${name}, seed ${seed}${withText(profile as "native") ? ", as text" : ""}`;
        const wanted = expected.get(`${profile} ${name}`)!;
        assert.equal(rows.length, kind === "copy" ? rowCount / 2 : rowCount / 2 + Math.floor(rowCount / 10), where);
        for (const row of rows) compareRow(where, row, wanted.get(Number(row.id))!, figures);
      }
    }
  }
  return figures;
}

/** The second half of the rows comes, and every fifth of the first half becomes another one in every column. */
async function change(client: pg.Client, rowCount: number): Promise<void> {
  for (const [name, { types }] of Object.entries(tables)) {
    await client.query(`insert into ${name} select * from made.${name} where id > ${rowCount / 2}`);
    const columns = types.map((type) => quoted(type.replace("[]", "")));
    await client.query(
      `update ${name} t set (${columns.join(", ")}) = row(${columns.map((column) => `m.${column}`).join(", ")})
       from made.${name} m where m.id = t.id + 1 and t.id % 5 = 0 and t.id <= ${rowCount / 2}`,
    );
  }
}

type ExpectedRow = ReadonlyMap<string, { readonly value: Value; readonly exact: boolean; readonly text: string }>;

/** By profile and table, then id: of the rows as they are now. */
async function expectedOfAll(database: TestDatabase): Promise<Map<string, Map<number, ExpectedRow>>> {
  const client = await database.connect();
  await client.query("set timezone = 'UTC'; set jit = off");
  const [catalog, types, found] = [await readTypeCatalog(client), await readTypes(client), await readTables(client)];
  const all = new Map<string, Map<number, ExpectedRow>>();
  for (const name of Object.keys(tables)) {
    const source = found.find((table) => table.schema === "public" && table.name === name)!;
    for (const profile of profiles) {
      const columns = source.columns.map((column) => ({ ...column, writtenAs: profile }));
      const rows = new Map<number, Map<string, { value: Value; exact: boolean; text: string }>>();
      for (const { parquet, source: column } of planColumns(columns, types)) {
        const own = pg.escapeIdentifier(column.name);
        const tree = treeSql(catalog, column.typeOid, parquet, own);
        const iso = /^interval(\[\])?$/.test(column.typeName) && profile === "portable";
        await client.query(`set intervalstyle = ${iso ? "iso_8601" : "postgres"}`);
        const trees = await client.query<{ id: number; tree: Tree }>(
          `select id, ${tree} as tree from ${name} order by id`,
        );
        await client.query("set intervalstyle = postgres");
        const texts = await client.query<{ text: string }>(
          `select format('%s', ${own}) as text from ${name} order by id`,
        );
        for (const [k, { id, tree: parts }] of trees.rows.entries()) {
          if (!rows.has(id)) rows.set(id, new Map());
          rows.get(id)!.set(column.name, { ...expectedTree(parquet, parts), text: texts.rows[k]!.text });
        }
      }
      all.set(`${profile} ${name}`, rows);
    }
  }
  return all;
}

function compareRow(
  where: string,
  row: Readonly<Record<string, Value>>,
  expected: ExpectedRow,
  figures: { values: number; inexact: number },
): void {
  const exactTexts: Record<string, string> = {};
  for (const [name, { value, exact, text }] of expected) {
    assert.deepEqual(row[name], value, `${where}: ${name} of row ${row.id}, printed as ${text}`);
    figures.values++;
    if (exact) continue;
    figures.inexact++;
    exactTexts[name] = text;
  }
  const given = row._pg_flo_exact as string | null;
  assert.deepEqual(given === null ? {} : JSON.parse(given), exactTexts, `${where}: exact texts of row ${row.id}`);
}
