// Tables, columns and changes that are hard to mirror: equal to the source, and harmless to the application.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { assertEqualToSource, type TableName } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, type RunOptions } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** Copies what `before` made, then streams what `changes` do, then compares. */
async function mirrors(
  database: TestDatabase,
  tables: readonly (string | TableName)[],
  sql: { readonly before: string; readonly changes: readonly string[] },
  options: Partial<RunOptions> = {},
): Promise<void> {
  await database.client.query(sql.before);
  await using run = await makeRun({ source: database.config, ...options });
  await run.catchUp();
  for (const change of sql.changes) await database.client.query(change);
  await run.catchUp();
  await equal(database, run, tables);
}

async function equal(database: TestDatabase, run: ReplicationRun, tables: readonly (string | TableName)[]) {
  await assertEqualToSource(
    { source: database.client, root: run.root },
    tables.map((table) => (typeof table === "string" ? { name: table } : table)),
  );
}

test("names with spaces, quotes, dots, upper case, unicode and 63 bytes, keywords, and many columns", async () => {
  await using database = await server.createDatabase();
  const long = "ü".repeat(31).concat("x");
  const wide = Array.from({ length: 200 }, (_, n) => `c${n} ${["int", "text", "bool", "numeric(9,2)"][n % 4]}`);
  await mirrors(
    database,
    [
      { schema: "Select From", name: 'A "quoted".table' },
      { schema: "Select From", name: long },
      { schema: "Select From", name: "select" },
      { schema: "Select From", name: "wide" },
      { schema: "Select From", name: "empty" },
      { schema: "Select From", name: "%_-~:/?*" },
    ],
    {
      before: `create schema "Select From"; set search_path to "Select From";
        create table "A ""quoted"".table" ("select" int primary key, "Select" text, "a.b" text, "_old_x" int, "_pg_flo_lsn" int, "ÄÖ ü" text);
        insert into "A ""quoted"".table" values (1, 'a', 'b', 1, 2, 'x'), (2, null, '', 3, 4, 'y');
        create table "${long}" ("${long}" int primary key, x text);
        insert into "${long}" values (1, 'eins'), (2, 'zwei');
        create table "select" ("from" text primary key, "where" text); insert into "select" values ('a''b', 'c"d'), ('', null);
        create table wide (id int primary key, ${wide.join(", ")}); insert into wide (id, c1, c3) select n, n::text, n / 7.0 from generate_series(1, 500) n;
        create table empty (id int primary key, a text);
        create table "%_-~:/?*" ("%" text, "\\" text); insert into "%_-~:/?*" values (E'line\\nline\\r\\ttab', E'\\\\N')`,
      changes: [
        `update "A ""quoted"".table" set "select" = 3, "a.b" = 'moved' where "select" = 1`,
        `insert into "A ""quoted"".table" values (9, E'\\\\N', '""', null, null, null)`,
        `delete from "${long}" where "${long}" = 1; update "${long}" set x = E'🐘\\n"'`,
        `update "select" set "from" = 'z' where "from" = ''`,
        `update wide set c0 = 1, c197 = 'x', id = -id where id % 5 = 0`,
        `insert into "%_-~:/?*" values ('', null), ('', null)`,
      ],
    },
    { schemas: '{ "Select From": "*" }' },
  );
});

test("a table without columns does not stop the others", async () => {
  await using database = await server.createDatabase();
  await mirrors(database, ["beside"], {
    before: "create table nothing (); insert into nothing default values; create table beside (id int primary key)",
    changes: ["insert into nothing default values", "insert into beside values (1)"],
  });
});

test("rows that move between partitions, and new partitions", async () => {
  await using database = await server.createDatabase();
  await mirrors(database, ["events", "nested"], {
    before: `create table events (id int, day date, note text, primary key (id, day)) partition by range (day);
      create table events_1 partition of events for values from ('2024-01-01') to ('2024-02-01');
      create table events_2 (note text, day date not null, id int not null);
      alter table events attach partition events_2 for values from ('2024-02-01') to ('2024-03-01');
      insert into events select n, date '2024-01-01' + n % 60, 'n' || n from generate_series(1, 3000) n where n % 60 < 59;
      create table nested (a int, b int, primary key (a, b)) partition by list (a);
      create table nested_1 partition of nested for values in (1) partition by range (b);
      create table nested_1_1 partition of nested_1 for values from (0) to (100);
      insert into nested select 1, n from generate_series(0, 99) n`,
    changes: [
      "update events set day = day + 31 where day < '2024-01-20'",
      "update events set note = 'x' where id % 3 = 0; delete from events where id % 7 = 0",
      "create table events_3 partition of events for values from ('2024-03-01') to ('2024-04-01')",
      "insert into events values (9999, '2024-03-05', 'in a new partition')",
      "update events set day = '2024-03-06' where id = 100",
      "update nested set b = b + 1000 - 1000 where b < 5; delete from nested where b > 90",
      "create table nested_2 partition of nested for values in (2); update nested set a = 2 where b = 3",
    ],
  });
});

test("TRUNCATE of one table, of several, of a partitioned one, with CASCADE, and again in one transaction", async () => {
  await using database = await server.createDatabase();
  await mirrors(database, ["a", "b", "c", "parts", "plain"], {
    before: `create table a (id int primary key, x text); create table b (id int primary key, a int references a);
      create table c (id int primary key); create table plain (x int);
      create table parts (id int primary key) partition by range (id);
      create table parts_1 partition of parts for values from (0) to (100);
      insert into a select n, 'a' from generate_series(1, 100) n; insert into b select n, n from generate_series(1, 100) n;
      insert into c select n from generate_series(1, 100) n; insert into parts select n from generate_series(1, 50) n;
      insert into plain select n % 3 from generate_series(1, 100) n`,
    changes: [
      "truncate c",
      "insert into c values (1)",
      "truncate a cascade",
      "insert into a values (1, 'again'); insert into b values (1, 1)",
      "begin; insert into c values (5); truncate c, plain; insert into c values (7); insert into plain values (7), (7); truncate plain; insert into plain values (8), (8); commit",
      "truncate parts; insert into parts values (3)",
      "begin; savepoint s; truncate c; rollback to s; insert into c values (99); commit",
    ],
  });
});

test("key changes, swaps and chains of keys, keys used again", async () => {
  await using database = await server.createDatabase();
  await mirrors(database, ["t", "two"], {
    before: `create table t (id int primary key, x text); insert into t select n, 'x' || n from generate_series(1, 200) n;
      create table two (a int, b text, v int, primary key (b, a)); insert into two select n, 'b' || n % 3, n from generate_series(1, 50) n`,
    changes: [
      "begin; update t set id = -1 where id = 1; update t set id = 1 where id = 2; update t set id = 2 where id = -1; commit",
      "update t set id = id + 1000 where id between 50 and 60",
      "begin; update t set id = 500 where id = 10; delete from t where id = 500; insert into t values (10, 'new'); commit",
      "begin; delete from t where id = 11; update t set id = 11 where id = 12; update t set id = 12 where id = 13; commit",
      "begin; insert into t values (900, 'a'); update t set id = 901 where id = 900; delete from t where id = 901; commit",
      "begin; update two set a = -a; update two set b = 'c' where a < -40; delete from two where a = -45; commit",
      "update two set a = -a; insert into two values (45, 'c', 1)",
    ],
  });
});

test("large texts that an update does not touch, also when the key changes and again in one transaction", async () => {
  await using database = await server.createDatabase();
  const large = (n: string) => `(select string_agg(md5(${n} || i::text), '') from generate_series(1, 3200) i)`;
  await mirrors(database, ["t", "full_t"], {
    before: `create table t (id int primary key, n int, body text, more text);
      insert into t select n, n, ${large("n::text")}, ${large("n::text || 'm'")} from generate_series(1, 20) n;
      create table full_t (id int primary key, n int, body text); alter table full_t replica identity full;
      insert into full_t select n, n, ${large("n::text")} from generate_series(1, 5) n`,
    changes: [
      "update t set n = n + 1 where id < 5",
      "update t set id = id + 100 where id in (5, 6)",
      `begin; update t set n = 0 where id = 7; update t set more = ${large("'seven'")} where id = 7; update t set id = 207 where id = 7; commit`,
      "begin; update t set id = -1 where id = 8; update t set id = 8 where id = 9; update t set id = 9 where id = -1; commit",
      `insert into t values (300, 1, ${large("'300'")}, null); update t set n = 2 where id = 300; update t set id = 301 where id = 300`,
      "update t set n = 77 where id = 301; update t set body = 'short' where id = 1; update t set n = 1 where id = 1",
      "update full_t set n = n + 1; update full_t set id = id + 10 where id = 1; delete from full_t where id = 2",
    ],
  });
});

test("REPLICA IDENTITY FULL with and without a key, USING INDEX, and NOTHING", async () => {
  await using database = await server.createDatabase();
  await mirrors(database, ["full_key", "full_plain", "by_index", "without"], {
    before: `create table full_key (id int primary key, x text); alter table full_key replica identity full;
      create table full_plain (x int, y text); alter table full_plain replica identity full;
      create table by_index (id int primary key, code text not null unique, z int);
      alter table by_index replica identity using index by_index_code_key;
      create table without (x int);
      insert into full_key select n, 'x' from generate_series(1, 50) n;
      insert into full_plain select n % 5, 'y' || n % 2 from generate_series(1, 50) n;
      insert into by_index select n, 'c' || n, n from generate_series(1, 50) n; insert into without values (1), (1), (2)`,
    changes: [
      "update full_key set x = 'y' where id < 9; update full_key set id = id + 500 where id > 40; delete from full_key where id = 3",
      "update full_plain set y = 'z' where x = 1; delete from full_plain where ctid in (select ctid from full_plain where x = 2 limit 3)",
      "begin; delete from full_plain where x = 3; insert into full_plain values (3, 'again'), (3, 'again'), (null, null); commit",
      "update full_plain set x = 9 where x is null",
      "update by_index set code = 'd' || id where id < 10; update by_index set id = id + 100; delete from by_index where code = 'c20'",
      "insert into without values (1), (3)",
    ],
  });
});

test("domains, a new enum label, and types that go as text: interval, inet, composites, arrays of them", async () => {
  await using database = await server.createDatabase();
  await mirrors(database, ["typed", "as_text"], {
    before: `create domain positive as numeric(10,2) check (value > 0); create domain shout as text;
      create type mood as enum ('sad', 'ok');
      create type point3 as (x int, y text, z numeric);
      create table typed (id int primary key, p positive, s shout, m mood, ms mood[], ts timestamptz, d date, u uuid, j jsonb,
        b bytea, f float8, r real, n numeric, c char(5), ns numeric(8,3)[], tx text[]);
      insert into typed values (1, 1.5, 'A', 'sad', '{sad,ok}', '2024-01-01 12:00+02', '2024-02-29', gen_random_uuid(), '{"a": [1, 2]}',
        '\\x00ff', 1e300, 0.1, 12345.678, 'ab', '{1.5,null}', '{a,"b,c",null,"\\"q\\""}');
      insert into typed (id) values (2);
      create table as_text (id int primary key, i interval, a inet, p point3, ps point3[], acl aclitem[], r int4range, ip inet[], t time, vb varbit);
      insert into as_text values (1, '1 year 2 mons 3 days 04:05:06.7', '10.0.0.1/8', '(1,"a b",2.5)', array[row(1,'x',null)::point3],
        '{postgres=r/postgres}', '[1,5)', '{::1,10.0.0.0/8}', '12:34:56.789', '10101');
      insert into as_text (id) values (2)`,
    changes: [
      "alter type mood add value 'glad'",
      "insert into typed (id, p, m, ms) values (3, 7.25, 'glad', '{glad}'); update typed set m = 'glad', p = 2 where id = 1",
      "insert into as_text select 3, i * 2, a, p, ps, acl, r, ip, t, vb from as_text where id = 1",
      "update as_text set i = '-3 mons', p = '(2,,)', acl = '{postgres=rw/postgres}', id = 10 where id = 2; delete from as_text where id = 1",
      "insert into typed (id, f, r, n, b, j) values (4, '-Infinity', 'NaN', -0.000001, '', 'null')",
    ],
  });
});

test("an application updates and deletes in a table without a key, gets no error, and status tells what is not seen", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table log (x int, y text); insert into log select n, 'y' from generate_series(1, 100) n");
  await using run = await makeRun({ source: database.config });
  await using worker = run.start();
  await worker.saw(/table copied/);
  await client.query("update log set y = 'z' where x < 10");
  await client.query("delete from log where x > 90");
  await client.query("insert into log values (1000, 'seen')");
  await run.catchUp().catch(() => {}); // refused: the worker runs; it is waited for below
  const { stdout, code, stderr } = await run.run(["status", "--json"]);
  assert.equal(code, 0, stderr);
  assert.match(`${stdout}${stderr}`, /no primary key|cannot be seen|REPLICA IDENTITY/);
});
