// Definitions that change while rows are written: rows before, in between and after, and updates of old rows afterwards.
// Every row is compared with the source, and every view, rows and types, with the one of a fresh copy.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type FailpointRun, makeFailpointRun } from "../support/failpoint-run.ts";
import { assertLikeFreshCopy } from "../support/fresh-copy.ts";
import { isLongForm } from "../support/long-form.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";

interface Change {
  readonly what: string;
  readonly before: string;
  /** The mirror catches up after each, except after those that end with `…`: those are in the log together. */
  readonly steps: readonly string[];
  /** Afterwards: 1 when the files went on, one more for each time that the table had to be copied again. */
  readonly generation: number;
  readonly versions?: number;
  /** Default: `t`. */
  readonly table?: string;
  readonly schemas?: string;
  readonly since?: 14 | 15 | 18;
}

const rows = (from: number, to: number) => `select n, 'v' || n from generate_series(${from}, ${to}) n`;
const plain = `create table t (id int primary key, v text); insert into t ${rows(1, 50)}`;
const between = `insert into t (id, v) ${rows(51, 60)}; update t set v = 'u' where id < 5; delete from t where id = 9`;
const touched = `insert into t (id) values (70); update t set id = -id where id in (31, 53); delete from t where id in (40, 54)`;
const large = (n: number) => `(select string_agg(md5(i::text || ${n}), '') from generate_series(1, 300) i)`;

const changes: readonly Change[] = [
  {
    what: "columns added with constant defaults, which old rows have without being written",
    before: plain,
    steps: [
      between,
      `alter table t add column added int default 7, add column noted text default 'it''s {"a"}, NULL',
         add column at timestamptz default 'infinity', add column list text[] default '{a,"b,c",NULL}',
         add column amount numeric(12,2) default 1.5, add column bytes bytea default '\\x00ff', add column nothing int`,
      `${touched}; update t set added = id, at = null where id between 20 and 25; update t set v = 'old' where id in (30, 52)`,
      "alter table t alter column added set default 9; insert into t (id) values (71)",
      "vacuum full t",
      "alter table t add column more int default 3; update t set more = 4 where id = 10",
    ],
    generation: 1,
    versions: 3,
  },
  {
    what: "a column added and filled in one transaction with inserts before it",
    before: plain,
    steps: [
      `begin; insert into t values (60, 'same'); update t set v = 'early' where id = 8; alter table t add column c int default 5;
       insert into t values (61, 'same', 6); update t set c = 8 where id in (60, 7); savepoint s; alter table t add column d int; rollback to s; commit`,
      "begin; alter table t add column never int default 1; insert into t (id) values (99); rollback",
      "update t set v = 'later' where id in (3, 60)",
    ],
    generation: 1,
    versions: 2,
  },
  {
    what: "a column with a volatile default, and a generated one: the table is copied again, alone",
    before: `${plain}; create table beside (id int primary key); insert into beside values (1)`,
    steps: [between, "alter table t add column r float8 default random()", touched, "insert into beside values (2)"],
    generation: 2,
  },
  {
    what: "a column dropped, also with rows of before in the log behind it",
    before: `create table t (id int primary key, gone text, v text); insert into t select n, 'g' || n, 'v' || n from generate_series(1, 50) n`,
    steps: [
      between,
      "insert into t values (61, 'gone', 'v')…",
      "alter table t drop column gone…",
      touched,
      "update t set v = 'old' where id < 20",
    ],
    generation: 1,
    versions: 2,
  },
  {
    what: "a column renamed, one of the key too, and names exchanged",
    before: `create table t (id int primary key, v text, w text); insert into t select n, 'v' || n, 'w' || n from generate_series(1, 50) n`,
    steps: [
      between,
      "alter table t rename v to x…",
      "update t set x = 'renamed' where id < 10; delete from t where id = 11",
      "alter table t rename id to key…",
      "update t set key = -key where key in (20, 21); insert into t (key) values (80); delete from t where key = 30",
      "begin; alter table t rename x to tmp; alter table t rename w to x; alter table t rename tmp to w; commit; update t set w = 'w' where key = 12; update t set x = 'x' where key = 13",
    ],
    generation: 1,
    versions: 4,
  },
  {
    what: "texts that an update does not touch, over an added, a renamed and a dropped column",
    before: `create table t (id int primary key, v text, body text, more text); alter table t alter body set storage external;
      insert into t select n, 'v', ${large(1)}, ${large(2)} from generate_series(1, 10) n`,
    steps: [
      "update t set v = 'u' where id < 5",
      "alter table t add column c int default 1; update t set c = 2 where id < 3; update t set id = -id where id = 4",
      "alter table t rename body to text; update t set v = 'w' where id in (1, 6)",
      "alter table t drop column more; update t set v = 'z' where id in (2, 7); update t set id = 70 where id = 7",
    ],
    generation: 1,
    versions: 4,
  },
  {
    what: "types widened without a rewrite",
    before: `create table t (id int primary key, v varchar(10), n numeric(10,2), b numeric(6,1), at timestamp(0)); insert into t select n, 'v' || n, n / 4.0, n, now() from generate_series(1, 50) n`,
    steps: [
      "update t set v = 'u' where id < 5",
      "alter table t alter v type text, alter n type numeric(12,2), alter b type numeric, alter at type timestamp",
      "insert into t values (60, repeat('x', 100), 1234567890.12, 1.23456, '2024-01-01 00:00:00.123456'); update t set v = 'old' where id in (20, 2); delete from t where id = 21",
    ],
    generation: 1,
    versions: 2,
  },
  {
    what: "a type changed with a rewrite, and values changed by USING under the same type: copied again",
    before: `create table t (id int primary key, v int); insert into t select n, n from generate_series(1, 50) n`,
    steps: [
      "update t set v = 0 where id < 5",
      "alter table t alter v type bigint",
      "insert into t values (60, 10000000000); update t set v = -1 where id = 20",
      "alter table t alter v type bigint using v + 1",
      "update t set v = -2 where id = 21",
    ],
    generation: 3,
  },
  {
    what: "NOT NULL set and dropped",
    before: plain,
    steps: [
      between,
      "alter table t alter v set not null",
      "insert into t values (61, 'x')",
      "alter table t alter v drop not null; insert into t values (62)",
      touched,
    ],
    generation: 1,
    versions: 3,
  },
  {
    what: "the primary key moved to another column: copied again",
    before: `create table t (id int primary key, v text, k int not null); insert into t select n, 'v' || n, 1000 - n from generate_series(1, 50) n`,
    steps: [
      "update t set v = 'u' where id < 5",
      "alter table t drop constraint t_pkey, add primary key (k); update t set v = 'w' where k > 990; update t set k = -k where k = 960",
      "delete from t where k = 955; insert into t values (1, 'same id', 5)",
    ],
    generation: 2,
  },
  {
    what: "REPLICA IDENTITY FULL beside the same key, and back",
    before: plain,
    steps: [
      between,
      "alter table t replica identity full; update t set v = 'full' where id < 7; update t set id = 100 where id = 33; delete from t where id = 34",
      "alter table t replica identity default; update t set v = 'key' where id < 3; update t set id = 101 where id = 35",
    ],
    generation: 1,
    versions: 3,
  },
  {
    what: "a key for a table that had none: copied again",
    before: `create table t (id int, v text); insert into t ${rows(1, 50)}`,
    steps: [
      "insert into t values (51, 'x'); update t set v = 'unseen' where id = 1",
      "alter table t add primary key (id)",
      `${touched}; update t set v = 'seen' where id = 2`,
    ],
    generation: 2,
  },
  {
    what: "rows without a key under REPLICA IDENTITY FULL, with a column added: old images have the default",
    before: `create table t (id int, v text); alter table t replica identity full; insert into t select n % 10, 'v' from generate_series(1, 50) n`,
    steps: [
      "update t set v = 'u' where id = 1; delete from t where ctid in (select ctid from t where id = 2 limit 2)",
      "alter table t add column c timestamptz default 'infinity', add column d int default 4",
      "update t set v = 'w' where id in (1, 3); delete from t where ctid in (select ctid from t where id in (2, 4) limit 4)",
    ],
    generation: 1,
    versions: 2,
  },
  {
    what: "a table renamed and moved to another schema goes on under its new name",
    before: `${plain}; create schema other`,
    table: "renamed",
    steps: [
      between,
      "alter table t rename to renamed; update renamed set v = 'r' where id < 3",
      "alter table renamed set schema other; update other.renamed set v = 'o' where id < 2; insert into other.renamed values (77, 'x')",
      "create table t (id int primary key); insert into t values (1)",
    ],
    schemas: '{ public: "*", other: "*" }',
    generation: 1,
  },
  {
    what: "two tables exchange their names",
    before: `${plain}; create table u (id int primary key, w int); insert into u values (1, 2)`,
    steps: [
      between,
      "begin; alter table t rename to tmp; alter table u rename to t; alter table tmp rename to u; commit; update u set v = 'x' where id = 3; insert into t values (9, 9)",
    ],
    generation: 1,
  },
  {
    what: "a table dropped and created again under its name begins anew",
    before: plain,
    steps: [
      between,
      "drop table t; create table t (id int primary key, w int); insert into t values (1, 2)",
      "update t set w = 3; insert into t values (4, 5)",
    ],
    generation: 2,
  },
  {
    what: "new columns of the names and types of dropped ones: copied again",
    before: plain,
    steps: [
      between,
      "alter table t drop column v; alter table t add column v text default 'new'",
      "update t set v = 'x' where id = 3",
    ],
    generation: 2,
  },
  {
    what: "partitions made as such, and attached empty: nothing is copied",
    table: "parts",
    before: `create table parts (id int primary key, v text) partition by range (id);
      create table parts_1 partition of parts for values from (0) to (100); insert into parts ${rows(1, 50)}`,
    steps: [
      "create table parts_2 partition of parts for values from (100) to (200); insert into parts values (150, 'x')",
      "create table parts_3 (id int not null, v text); alter table parts attach partition parts_3 for values from (200) to (300)",
      "insert into parts values (250, 'y'); update parts set id = id + 100 where id = 30; alter table parts add column c int default 2",
      "update parts set v = 'u' where id in (5, 150); insert into parts values (20000) on conflict do nothing".replace(
        "insert into parts values (20000) on conflict do nothing",
        "insert into parts values (199, 'z', 1)",
      ),
    ],
    generation: 1,
    versions: 2,
  },
  {
    what: "a partition attached with rows, one detached, one truncated: copied again each time",
    table: "parts",
    before: `create table parts (id int primary key, v text) partition by range (id);
      create table parts_1 partition of parts for values from (0) to (100); insert into parts ${rows(1, 50)};
      create table parts_2 partition of parts for values from (100) to (200); insert into parts ${rows(101, 110)};
      create table parts_3 (id int primary key, v text); insert into parts_3 ${rows(201, 210)}`,
    steps: [
      "alter table parts attach partition parts_3 for values from (200) to (300)",
      "update parts set v = 'u' where id in (1, 205)",
      "truncate parts_2",
      "insert into parts values (120, 'again')",
      "alter table parts detach partition parts_3; insert into parts values (2, 'x') on conflict do nothing; update parts set v = 'w' where id = 3",
    ],
    schemas: "{ public: { parts: {} } }",
    generation: 4,
  },
  {
    what: "a column added to a table of which one is left out: copied again where the publication lists columns",
    before:
      `create table t (id int primary key, v text, secret text); insert into t ${rows(1, 50).replace("n,", "n,")}`.replace(
        "insert into t select",
        "insert into t (id, v) select",
      ),
    steps: [between, "alter table t add column c int default 3; update t set c = 4 where id < 8", touched],
    schemas: "{ public: { t: { exclude_columns: [secret] } } }",
    since: 15,
    generation: 2,
  },
];

for (const version of isLongForm ? ([14, 18] as const) : ([18] as const)) {
  describe(`schema changes on PostgreSQL ${version}`, { concurrency: 2 }, () => {
    let server: TestServer;
    before(async () => {
      server = await startPostgres({ version });
    });
    after(() => server[Symbol.asyncDispose]());
    for (const [index, change] of changes.filter(({ since = 14 }) => since <= version).entries()) {
      test(change.what, async () => {
        await using database = await server.createDatabase();
        await play(database, change, `changes_${index}`);
      });
    }
  });
}

async function play(database: TestDatabase, change: Change, group: string): Promise<void> {
  const { client } = database;
  const { schemas, table = "t" } = change;
  await client.query(change.before);
  await using run = await makeFailpointRun({
    source: database.config,
    group,
    ...(schemas !== undefined && { schemas }),
  });
  await run.restart();
  for (const step of change.steps) {
    for (const statement of step.startsWith("begin") || step.includes("'") ? [step] : step.split("; ")) {
      await client.query(statement.replace("…", ""));
    }
    if (!step.endsWith("…")) await run.restart();
  }
  await check(database, run, change, table);
}

async function check(database: TestDatabase, run: FailpointRun, change: Change, name: string): Promise<void> {
  const { rows: found } = await database.client.query(
    "select generation, schema_version, state, error from _pg_flo.tables where group_name = $1 and table_name = $2",
    [run.group, name],
  );
  const { rows: events } = await database.client.query("select code, message from _pg_flo.events order by event_id");
  const told = JSON.stringify(events, null, 1);
  assert.equal(found[0]?.state, "streaming", told);
  assert.equal(found[0].generation, change.generation, told);
  if (change.versions !== undefined) assert.equal(found[0].schema_version, change.versions, told);
  await assertLikeFreshCopy(database, { ...run, ...(change.schemas !== undefined && { schemas: change.schemas }) });
}
