// A change of a definition that the log does not tell costs one copy, never two: whoever meets it first (the stream, a
// look at the catalog, a copier in the middle of a copy), the table begins anew once. Every change comes at a moment of its
// own, some with rows behind it.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { makeFailpointRun } from "../support/failpoint-run.ts";
import { isLongForm, testedVersions } from "../support/long-form.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom, until } from "../support/replication-run.ts";

interface Kind {
  readonly name: string;
  /** The table is called `t`. */
  readonly made: string;
  readonly change: string;
  /** Rows that come behind the change. */
  readonly rows: string;
}

const PLAIN =
  "create table t (id int primary key, v int, k int not null, w text); insert into t select n, n, -n, 'w' from generate_series(1, 200) n";
const PARTS = `create table t (id int primary key, v int) partition by range (id);
  create table t_1 partition of t for values from (0) to (100); create table t_2 partition of t for values from (100) to (200);
  insert into t select n, n from generate_series(1, 199) n`;

const kinds: readonly Kind[] = [
  { name: "type", made: PLAIN, change: "alter table t alter v type bigint", rows: "update t set v = 9 where id < 5" },
  {
    name: "using",
    made: PLAIN,
    change: "alter table t alter v type int using v + 1",
    rows: "update t set v = 9 where id < 5",
  },
  {
    name: "volatile",
    made: PLAIN,
    change: "alter table t add r float8 default random()",
    rows: "insert into t (id, k) values (300, 1)",
  },
  {
    name: "key",
    made: PLAIN,
    change: "alter table t drop constraint t_pkey, add primary key (k)",
    rows: "update t set k = k - 1000 where k < -190",
  },
  {
    name: "again",
    made: PLAIN,
    change: "drop table t; create table t (id int primary key, other text); insert into t values (1, 'x')",
    rows: "insert into t values (2, 'y')",
  },
  {
    name: "swapped",
    made: PLAIN,
    change: "alter table t drop w, add w text default 'new'",
    rows: "update t set v = 1 where id = 3",
  },
  {
    name: "attached",
    made: PARTS,
    change: `create table t_3 (id int primary key, v int); insert into t_3 values (250, 1);
      alter table t attach partition t_3 for values from (200) to (300)`,
    rows: "update t set v = 3 where id in (1, 250)",
  },
  { name: "emptied", made: PARTS, change: "truncate t_2", rows: "insert into t values (120, 1)" },
  {
    name: "detached",
    made: PARTS,
    change: "alter table t detach partition t_2 concurrently",
    rows: "update t set v = 3 where id = 1",
  },
];

const LARGE = `create table t (id int primary key, v int, k int not null, x text);
  alter table t alter x set storage plain;
  insert into t select n, n, -n, repeat('x', 1000) from generate_series(1, 4000) n`;

const rewrites: readonly string[] = [
  "alter table t alter v type int using v + 1",
  "alter table t alter v type int using v + 1",
  "alter table t alter v type bigint",
  "alter table t add r float8 default random()",
  "vacuum full t",
  "truncate t",
  "alter table t drop constraint t_pkey, add primary key (k)",
];

const MORE = ["discovery_interval: 1s"];

const named = (sql: string, table: string) => sql.replaceAll(/\bt(_\w+)?\b/g, `${table}$1`);

const VARIANTS = 3;
const SPREAD_MS = 11_000;
/** Longer than between two looks of any kind. */
const SETTLED_MS = 12_000;

for (const version of isLongForm ? testedVersions : ([18] as const)) {
  describe(`copies after a changed definition on PostgreSQL ${version}`, () => {
    let server: TestServer;
    before(async () => {
      server = await startPostgres({ version });
    });
    after(() => server[Symbol.asyncDispose]());

    test("one change of a definition is one copy, whenever it comes and whoever meets it", async () => {
      await using database = await server.createDatabase();
      const random = seededRandom().next;
      const tables = kinds.flatMap((kind) =>
        Array.from({ length: VARIANTS }, (_, n) => ({ kind, name: `${kind.name}_${n}`, rows: random() < 0.6 })),
      );
      for (const { kind, name } of tables) await database.client.query(named(kind.made, name));
      await using run = await makeRun({ source: database.config, group: "once", more: MORE });
      await using worker = run.start();
      await until("all is copied", () => allStream(database));
      await Promise.all(
        tables.map(async ({ kind, name, rows }) => {
          await sleep(random() * SPREAD_MS);
          const client = await database.connect();
          for (const sql of named(kind.change, name).split(/;\s*/)) await client.query(sql);
          await sleep(random() * 1500);
          if (rows) await client.query(named(kind.rows, name));
          await client.end();
        }),
      );
      await sleep(SETTLED_MS);
      await until("all is copied again", () => allStream(database));
      await assertGenerations(database, new Map(tables.map(({ name }) => [name, 2])), worker.stderr);
      worker.kill("SIGTERM");
      assert.equal((await worker.ended).code, 0, worker.stderr);
      await run.catchUp();
      await assertEqualToSource(
        { source: database.client, root: run.root, group: "once" },
        tables.map(({ name }) => ({ name })),
      );
    });

    test("a rewrite in the middle of the copy begins it anew once, however many copiers meet it", async () => {
      await using database = await server.createDatabase();
      const tables = rewrites.map((_, n) => `large_${n}`);
      for (const name of tables) await database.client.query(named(LARGE, name));
      const copy = "{ parallel: 2, file_size: 1MB }";
      await using run = await makeFailpointRun({ source: database.config, group: "middle", copy, more: MORE });
      await using worker = run.armed("copy.range-read=delay(2000)"); // each copier stands still in its first range
      await worker.saw(/failpoint copy.range-read: delay/);
      await Promise.all(
        rewrites.map(async (sql, n) => {
          const client = await database.connect();
          await client.query(named(sql, `large_${n}`));
          await client.end();
        }),
      );
      await worker.saw(/it was rewritten during its copy/);
      await sleep(SETTLED_MS);
      await until("all is copied again", () => allStream(database));
      await assertGenerations(database, new Map(tables.map((name) => [name, 2])), worker.stderr);
      worker.kill("SIGTERM");
      assert.equal((await worker.ended).code, 0, worker.stderr);
      await run.restart();
      await assertEqualToSource(
        { source: database.client, root: run.root, group: "middle" },
        tables.map((name) => ({ name })),
      );
    });
  });
}

async function allStream({ client }: TestDatabase): Promise<boolean> {
  const { rows } = await client.query("select to_regclass('_pg_flo.tables') is not null as yes");
  if (!rows[0].yes) return false;
  const found = await client.query(
    `select coalesce(bool_and(state = 'streaming'), false) as yes from _pg_flo.tables where state <> 'removed'`,
  );
  return found.rows[0].yes;
}

async function assertGenerations(
  { client }: TestDatabase,
  wanted: ReadonlyMap<string, number>,
  told: string,
): Promise<void> {
  const { rows } = await client.query("select table_name as name, generation from _pg_flo.tables order by 1");
  const wrong = rows.filter(({ name, generation }) => wanted.has(name) && wanted.get(name) !== generation);
  assert.deepEqual(wrong, [], told);
}
