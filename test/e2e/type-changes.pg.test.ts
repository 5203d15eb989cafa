// Types that change while the stream runs, on every version of the server: the mirror ends equal to the source. Everything
// is done twice, by a stream in binary and by one in text, to which an array without a binary form forces it.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sampledVersions } from "../support/long-form.ts";
import { assertEqualToSource, type TableName } from "../support/mirror-sql.ts";
import { type PostgresVersion, startPostgres, type TestDatabase } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

const large = (id: string): string => `(select string_agg(md5((${id})::text || n), '') from generate_series(1, 200) n)`;

const beforeSql = (version: PostgresVersion, asText: boolean): string => `
  create extension seg;
  create type pair as (a int, b text); create type holder as (p pair, n int);
  create function pair_of(a int, b text) returns pair language plpgsql as
    $$ begin return jsonb_populate_record(null::pair, jsonb_build_object('a', a, 'b', b)); end $$;
  create type mood as enum ('sad', 'ok');
  create table composites (id int primary key, p pair, ps pair[], h holder);
  create table moods (id int primary key, m mood, ms mood[]);
  create table toasted (id int primary key, n int, body text, doc jsonb);
  alter table toasted alter body set storage external;
  create table amounts (id int primary key, v numeric(10,2), list numeric(10,2)[]);
  create table widened (id int primary key, v varchar(5), list varchar(5)[]);
  create table generated (id int primary key, a int, s int generated always as (a * 2) stored
    ${version >= 18 ? ", v int generated always as (a * 3) virtual" : ""}, b text);
  create table beside (id int primary key);
  ${asText ? "create table jammed (id int primary key, s seg[], acl aclitem[])" : "create table jammed (id int primary key)"};`;

/** Rows of every table, as its columns are at this time. */
const rowsSql = (first: number): string => `
  insert into composites (id, p, ps) select i, pair_of(i, 'x"' || i), array[pair_of(i, null), null] from generate_series(${first}, ${first + 9}) i;
  update composites set h = row(p, id) where id % 2 = 0; update composites set p = null where id % 5 = 0;
  insert into moods select i, 'ok', array['sad', null]::text[]::mood[] from generate_series(${first}, ${first + 9}) i;
  update moods set m = null where id % 3 = 0;
  insert into toasted select i, i, ${large("i")}, jsonb_build_object('body', ${large("-i")}) from generate_series(${first}, ${first + 9}) i;
  update toasted set n = n + 1 where id % 2 = 0; update toasted set id = -id where id = ${first + 4};
  insert into amounts select i, i + 0.25, array[i - 0.75, null] from generate_series(${first}, ${first + 9}) i;
  update amounts set v = -v where id % 4 = 0; delete from amounts where id = ${first};
  insert into widened select i, 'v' || i % 1000, array['l' || i % 1000] from generate_series(${first}, ${first + 9}) i;
  update widened set v = 'u' where id % 4 = 0;
  insert into generated (id, a, b) select i, i, 'b' from generate_series(${first}, ${first + 9}) i;
  update generated set a = a + 1 where id % 2 = 0; delete from generated where id = ${first};
  insert into jammed (id) select i from generate_series(${first}, ${first + 9}) i;
  insert into beside values (${first});`;

const jammedRow = (id: number): string =>
  `insert into jammed (id, s, acl) values (${id}, '{1..2,3}', '{postgres=r/postgres}')`;

/** Each with rows before and after it; some of them in one go with what comes next. */
const steps: readonly string[] = [
  "alter type pair add attribute c numeric(8,3); update composites set p.c = 1.5 where id % 2 = 1",
  "alter type mood add value 'glad' before 'ok'; alter table amounts alter v type numeric(12,2)",
  "alter type pair drop attribute a; insert into moods values (-1, 'glad', '{glad,sad}')",
  "alter type mood rename value 'glad' to 'Größe, \"happy\"'; alter table widened alter v type varchar(50)",
  "insert into widened values (-1, repeat('w', 50)); alter table amounts alter v type numeric",
  `insert into amounts values (-1, 12345678901234567890.123456789012345678, '{0.01}'); alter table generated add column g int generated always as (a + 7) stored`,
  "alter table widened alter v type text; insert into widened values (-2, repeat('t', 500)); update toasted set n = -n",
];

const jamSteps: readonly string[] = [
  "alter table jammed add column s seg[], add column acl aclitem[]",
  "update jammed set s = '{5,6..7}' where id % 2 = 0; alter table beside add column later aclitem[]",
];

async function typesChange(database: TestDatabase, version: PostgresVersion, asText: boolean): Promise<void> {
  const { client } = database;
  const group = asText ? "text" : "binary";
  await client.query(beforeSql(version, asText));
  await client.query(rowsSql(100));
  await using run = await makeRun({ source: database.config, group });
  await using worker = run.start();
  const caughtUp = async (): Promise<void> => {
    const marked = await client.query("select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn");
    await until("everything is durable", async () => {
      assert.ok(worker.running, `the worker ended: ${worker.stderr}`);
      const found = await client.query("select to_regclass('_pg_flo.streams') is not null as yes");
      if (!found.rows[0].yes) return false;
      const { rows } = await client.query(
        `select (select count(*)::int from _pg_flo.tables where state = 'streaming') as streaming,
           (select count(*)::int from _pg_flo.streams where position >= $1) as reached`,
        [marked.rows[0].lsn],
      );
      return rows[0].streaming === 8 && rows[0].reached === 1;
    }).catch((error) => assert.fail(`${error.message}\n${worker.stderr}`));
  };
  await caughtUp();
  await client.query(rowsSql(200));
  if (asText) await client.query(jammedRow(1));
  await caughtUp();
  for (const [k, step] of [...steps, ...(asText ? [] : jamSteps)].entries()) {
    for (const statement of step.split("; ")) await client.query(statement);
    await client.query(rowsSql(300 + k * 100));
    if (k % 3 === 2) await caughtUp();
  }
  await client.query(jammedRow(2));
  const forms = [...worker.stderr.matchAll(/ binary=(\w+)/g)].map(([, form]) => form);
  assert.deepEqual([...new Set(forms)], asText ? ["false"] : ["true", "false"]);
  await caughtUp();
  // These write nothing into the log at all, not even later.
  const generations = async (): Promise<number> => {
    const sum = "select sum(generation)::int as sum from _pg_flo.tables where table_name in ('moods', 'composites')";
    return (await client.query(sum)).rows[0].sum;
  };
  const before = await generations();
  await client.query("alter type mood rename value 'sad' to 'blue'; alter type pair rename attribute b to bb");
  if (version === 18) {
    await until("the renames are seen", async () => (await generations()) >= before + 2);
    await caughtUp();
  }
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await client.query(rowsSql(5000).replaceAll("'sad'", "'blue'"));
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root, group }, tablesOf(version));
}

function tablesOf(version: PostgresVersion): TableName[] {
  const names = ["composites", "moods", "toasted", "amounts", "widened", "jammed", "beside"];
  // What the log does not carry.
  const without = version >= 18 ? ["v"] : ["s", "g"];
  return [...names.map((name) => ({ name })), { name: "generated", without }];
}

describe("types that change in mid-stream, in binary and in text", { concurrency: 2 }, () => {
  for (const version of sampledVersions) {
    test(`on PostgreSQL ${version}`, async () => {
      await using server = await startPostgres({ version });
      await using binary = await server.createDatabase();
      await using text = await server.createDatabase();
      const both = [typesChange(binary, version, false), typesChange(text, version, true)];
      await Promise.allSettled(both); // none goes on after the test
      await Promise.all(both);
    });
  }
});
