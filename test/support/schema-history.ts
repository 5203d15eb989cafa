// A random history of changes of rows and of definitions, by seed, with the mirror catching up now and then. At its end
// every table is proved against the source and against a fresh copy.
import assert from "node:assert/strict";
import type { Client } from "pg";
import { makeFailpointRun } from "./failpoint-run.ts";
import { assertLikeFreshCopy } from "./fresh-copy.ts";
import type { TestServer } from "./postgres.ts";

export interface HistoryResult {
  readonly statements: readonly string[];
  /** By event: how often a version was stored, and a table copied again. */
  readonly versions: number;
  readonly copies: number;
}

interface Column {
  readonly name: string;
  readonly type: string;
  readonly key: boolean;
  readonly notNull: boolean;
}

type Random = () => number;

const TABLES = ["keyed", "whole", "parts"] as const;

const SCHEMA = `
  create table keyed (id int primary key, v text, n numeric(8,2), body text);
  alter table keyed alter body set storage external;
  create table whole (id int, v varchar(20)); alter table whole replica identity full;
  create table parts (id int primary key, v varchar(20)) partition by range (id);
  create table parts_low partition of parts for values from (minvalue) to (50);
  create table parts_high partition of parts for values from (50) to (maxvalue);
  insert into keyed select n, 'v' || n, n / 4.0, case when n % 5 = 0 then repeat(md5(n::text), 100) end from generate_series(1, 40) n;
  insert into whole select n % 7, 'v' || n % 3 from generate_series(1, 40) n;
  insert into parts select n, 'v' || n from generate_series(1, 90) n;`;

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
export function randomOf(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Plays `steps` transactions. Fails with the seed and every statement. */
export async function playHistory(server: TestServer, seed: number, steps: number): Promise<HistoryResult> {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(SCHEMA);
  await using run = await makeFailpointRun({ source: database.config, group: `history_${seed}` });
  const statements: string[] = [];
  try {
    await run.restart();
    const random = randomOf(seed);
    for (let step = 0; step < steps; step++) {
      await playTransaction(client, random, step, statements);
      if (random() < 0.35) {
        statements.push("-- caught up");
        await run.restart();
      }
    }
    await run.restart();
    await assertLikeFreshCopy(database, run);
  } catch (error) {
    throw new Error(`seed ${seed}, PostgreSQL ${server.version}:\n${statements.join(";\n")}`, { cause: error });
  }
  const { rows } = await client.query(
    `select count(*) filter (where code = 'DEFINITION_CHANGED')::int as versions,
       count(*) filter (where code = 'TABLE_CHANGED' and message like '%copied again%')::int as copies
     from _pg_flo.events where group_name = $1`,
    [run.group],
  );
  return { statements, ...rows[0] };
}

async function playTransaction(client: Client, random: Random, step: number, statements: string[]): Promise<void> {
  const count = 1 + Math.floor(random() * 4);
  const inside = random() < 0.5;
  const gone = inside && random() < 0.15;
  const play = async (sql: string): Promise<void> => {
    await client.query(sql);
    statements.push(sql);
  };
  if (inside) await play("begin");
  for (let k = 0; k < count; k++) {
    const table = TABLES[Math.floor(random() * TABLES.length)]!;
    const columns = await readColumns(client, table);
    const ddl = random() < 0.3;
    const undone = inside && random() < 0.15;
    if (undone) await play("savepoint s");
    if (ddl) await play(definitionSql(table, columns, random, `${step}_${k}`));
    else for (const sql of changeSql(table, columns, random, step * 10 + k)) await play(sql);
    if (undone) await play("rollback to s");
  }
  if (inside) await play(gone ? "rollback" : "commit");
}

async function readColumns(client: Client, table: string): Promise<Column[]> {
  const { rows } = await client.query<Column>(
    `select attname as name, format_type(atttypid, atttypmod) as type, attname = 'id' as key, attnotnull as "notNull"
     from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [table],
  );
  return rows;
}

function pick<T>(random: Random, list: readonly T[]): T {
  const found = list[Math.floor(random() * list.length)];
  assert.ok(found !== undefined);
  return found;
}

function value(type: string, random: Random): string {
  const n = Math.floor(random() * 1000);
  if (/^(integer|bigint|double)/.test(type)) return String(n);
  if (type.startsWith("numeric")) return String(n / 4);
  if (type.startsWith("timestamp"))
    return random() < 0.1 ? "'infinity'" : `timestamp '2024-01-01' + ${n} * interval '1 h'`;
  if (type === "boolean") return String(n % 2 === 0);
  if (type.endsWith("[]")) return `array['a${n}', null, 'b,c']`;
  return type === "text" && random() < 0.3 ? `repeat(md5('${n}'), 100)` : `'x${n}'`;
}

/** Statements that change rows. */
function changeSql(table: string, columns: readonly Column[], random: Random, step: number): string[] {
  const others = columns.filter(({ key }) => !key);
  const id = () => 1 + Math.floor(random() * 60);
  const where = table === "whole" ? `id % 7 = ${id() % 7}` : `id % 10 = ${id() % 10}`;
  switch (Math.floor(random() * 6)) {
    case 0:
    case 1: {
      const values = [String(1000 + step * 20), ...others.map(({ type }) => value(type, random))];
      const names = ["id", ...others.map(({ name }) => name)];
      return [`insert into ${table} (${names.join(", ")}) values (${values.join(", ")}) returning 1`];
    }
    case 2:
      return [`delete from ${table} where ${where} and id % 3 = 0`];
    case 3:
      return table === "whole" ? [] : [`update ${table} set id = id + 100000 where id = ${id()}`];
    case 4:
      return random() < 0.2 ? [`truncate ${table}`, `insert into ${table} (id) select ${5000 + step} where false`] : [];
    default: {
      if (others.length === 0) return [];
      const column = pick(random, others);
      return [`update ${table} set ${column.name} = ${value(column.type, random)} where ${where}`];
    }
  }
}

const ADDED = [
  "int default 7",
  "text default 'it''s, \"so\"'",
  "numeric(6,1) default 1.5",
  "timestamp default '2020-02-02'",
  "timestamp default 'infinity'",
  "boolean default true not null",
  "text[] default '{a,NULL,\"b,c\"}'",
  "varchar(10)",
  "bigint",
  "timestamp",
];

/** One statement that changes the definition. */
function definitionSql(table: string, columns: readonly Column[], random: Random, unique: string): string {
  const others = columns.filter(({ key }) => !key);
  const alter = `alter table ${table}`;
  const column = others.length > 0 ? pick(random, others) : null;
  const kind = random();
  if (column === null || kind < 0.35) return `${alter} add column c${unique} ${pick(random, ADDED)}`;
  if (kind < 0.5) return `${alter} drop column ${column.name}`;
  if (kind < 0.65) return `${alter} rename ${column.name} to r${unique}`;
  if (kind < 0.72) return `${alter} add column c${unique} float8 default random()`;
  if (kind < 0.8) return column.notNull ? `${alter} alter ${column.name} drop not null` : `analyze ${table}`;
  const wider: readonly (readonly [RegExp, string])[] = [
    [/^character varying/, "text"],
    [/^numeric\(6,1\)/, "numeric(9,1)"],
    [/^numeric/, "numeric"],
    [/^integer/, "bigint"],
    [/^text$/, "text using 'u' || text"],
  ];
  const found = wider.find(([pattern]) => pattern.test(column.type));
  return found
    ? `${alter} alter ${column.name} type ${found[1].replace("|| text", `|| ${column.name}`)}`
    : `${alter} alter ${column.name} set statistics 10`;
}
