// Files are merged and folded while the stream goes on writing: the state at every position within the history is what it
// was, by a reading that shares no code with what made it; what is older is refused.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Client } from "pg";
import { compressions } from "../../src/base/compression.ts";
import { readManifest } from "../../src/metadata/status.ts";
import { compareTables } from "../../src/verify/compare.ts";
import { assertManifest } from "../support/manifest-check.ts";
import { type Mirror, openMirror } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, seededRandom, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const TABLES = ["keyed", "composite", "counted", "plain", "named"];
const SCHEMA = `
  create table keyed (id int primary key, n int, small text, large text, larger text[]);
  alter table keyed alter large set storage external, alter larger set storage external;
  insert into keyed select n, 0, 's' || n, repeat(md5(n::text), 90), array[repeat(md5(n::text), 90), null, ''] from generate_series(1, 40) n;
  create table composite (a int, b text, f double precision, m numeric, t timestamptz, u uuid default gen_random_uuid(), primary key (a, b));
  insert into composite select n, 'b', n / 3.0, n, now() from generate_series(1, 30) n;
  create table counted (id int, x text, large text);
  alter table counted replica identity full;
  alter table counted alter large set storage external;
  insert into counted select n % 7, 'x' || n % 3, repeat('c', 3000 + n % 2) from generate_series(1, 30) n;
  create table plain (n int, j jsonb);
  insert into plain select n, jsonb_build_object('n', n) from generate_series(1, 20) n;
  create table named (id int primary key, large text, x int);
  alter table named replica identity full;
  alter table named alter large set storage external;
  insert into named select n, repeat('n', 3000), n from generate_series(1, 20) n;`;

type Random = () => number;

function randomTransaction(random: Random, step: number): string {
  const some = (limit: number) => Math.floor(random() * limit);
  const id = () => some(60);
  const statements = [
    () => `update keyed set n = n + 1 where id % 5 = ${some(5)}`,
    () => `update keyed set id = id + 1000 where id = ${id()}`,
    () =>
      `update keyed set id = id - 1000, small = null where id > 1000 and id % 3 = ${some(3)} and not exists (select from keyed k where k.id = keyed.id - 1000)`,
    () => `update keyed set large = repeat('${step % 10}', 3000) where id = ${id()}`,
    () =>
      `insert into keyed values (${2000 + step * 100 + some(100)}, 1, 'new', repeat('z', ${some(2) * 3000}), null) on conflict do nothing`,
    () => `delete from keyed where id = ${id()}`,
    () =>
      `update composite set f = '${["NaN", "-0", "Infinity", "1.5"][some(4)]}', t = '${["infinity", "2020-01-01"][some(2)]}' where a % 4 = ${some(4)}`,
    () => `update composite set m = ${["'NaN'", "1e30", "0.1"][some(3)]}, a = a + 100 where a = ${id()}`,
    () => `delete from composite where a % 10 = ${some(10)}`,
    () => `insert into composite (a, b, t) values (${step}, 'n${some(99)}', '-infinity') on conflict do nothing`,
    () => `update counted set x = x || '!' where id = ${some(7)}`,
    () => `delete from counted where ctid = (select min(ctid) from counted)`,
    () => `insert into counted values (${some(7)}, 'x', null), (${some(7)}, 'x', null)`,
    () => `insert into plain values (${step}, '{"s": ${step}}')`,
    () => `update named set x = x + 1 where id % 4 = ${some(4)}`,
    () => `update named set id = id + 100 where id = ${id()}`,
    () => (some(6) === 0 ? `truncate ${TABLES[some(TABLES.length)]}` : "select 1"),
  ];
  return Array.from({ length: 1 + some(5) }, () => statements[some(statements.length)]!()).join("; ");
}

async function write(client: Client, random: Random, step: number): Promise<bigint> {
  await client.query(`begin; ${randomTransaction(random, step)}; commit`);
  const { rows } = await client.query("select pg_current_wal_insert_lsn() - '0/0' as lsn");
  return BigInt(rows[0].lsn);
}

/** Everything up to now is durable. */
async function caughtUp(client: Client): Promise<void> {
  const { rows } = await client.query("select pg_logical_emit_message(true, 'test', '') - '0/0' as lsn");
  await until("caught up", async () => {
    const found = await client.query(
      `select (select count(*) from _pg_flo.streams where position >= $1)::int as streams,
         (select count(*) from _pg_flo.tables where state <> 'streaming')::int as others`,
      [rows[0].lsn],
    );
    return found.rows[0].streams === 1 && found.rows[0].others === 0;
  });
}

/** A table that is empty may have files or none: folding takes the last one away. */
async function digest(mirror: Mirror, table: string, position: bigint): Promise<string> {
  if (!(await mirror.state({ name: table }, "state", position))) return "0 rows, null";
  const [row] = await mirror.rows("SELECT count(*) AS n, sum(hash(state)::HUGEINT)::VARCHAR AS sum FROM state");
  return `${row!.n} rows, ${row!.sum}`;
}

type States = ReadonlyMap<string, string>;

async function statesAt(client: Client, run: ReplicationRun, positions: readonly bigint[]): Promise<States> {
  await using mirror = await openMirror({ source: client, root: run.root });
  await assertManifest(mirror.files, run.root);
  const states = new Map<string, string>();
  for (const table of TABLES) {
    for (const position of positions) states.set(`${table} at ${position}`, await digest(mirror, table, position));
  }
  return states;
}

async function compactJson(run: ReplicationRun, ...args: string[]) {
  const result = await run.run(["compact", "--json", ...args]);
  assert.equal(result.code, 0, result.stderr);
  return JSON.parse(result.stdout) as {
    readonly removedFiles: number;
    readonly tables: readonly {
      readonly name: string;
      readonly mergedFiles: number;
      readonly base: string | null;
      readonly before: { readonly count: number };
      readonly after: { readonly count: number };
    }[];
  };
}

async function assertEqual(client: Client, run: ReplicationRun): Promise<void> {
  const manifest = await readManifest(client, "app");
  for (const table of await compareTables({ source: client, manifest, storageRoot: run.root })) {
    assert.deepEqual([table.name, table.problem, table.equal, table.samples], [table.name, null, true, []]);
  }
}

test("merged and folded while the stream writes, every past state within the history is what it was", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(SCHEMA);
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 100ms }" });
  const { next } = seededRandom();
  await using worker = run.start();
  await worker.saw(/streaming/);
  await until("copied", async () => {
    const { rows } = await client.query("select count(*)::int as n from _pg_flo.tables where state = 'streaming'");
    return rows[0].n === TABLES.length;
  });
  const positions: bigint[] = [];
  let step = 0;
  for (; step < 16; step++) {
    positions.push(await write(client, next, step));
    if (step % 2 === 0) await caughtUp(client); // so that there are many batches
  }
  await caughtUp(client);
  const states = await statesAt(client, run, positions);
  const listed = (await client.query("select path from _pg_flo.files")).rows.map(({ path }) => path as string);

  const preview = await compactJson(run, "--dry-run");
  const merging = compactJson(run);
  for (const until = step + 5; step < until; step++) await write(client, next, step);
  const merged = await merging;
  assert.ok(merged.tables.some(({ mergedFiles }) => mergedFiles > 2));
  assert.ok(preview.tables.some(({ before, after, mergedFiles }) => mergedFiles > 2 && after.count < before.count));
  await caughtUp(client);
  assert.deepEqual(await statesAt(client, run, positions), states);
  await assertEqual(client, run);
  // Whoever read the manifest before can still read the files.
  await readAll(run, listed);

  // The first half of the changes is older than the history, as far as the manifest tells.
  for (const until = step + 8; step < until; step++) {
    positions.push(await write(client, next, step));
    await caughtUp(client);
  }
  const middle = positions.at(-4)!;
  await client.query(
    "update _pg_flo.files set created_at = created_at - interval '2 days' where kind = 'stream' and lsn_end <= $1",
    [middle.toString()],
  );
  const later = positions.filter((position) => position >= middle);
  const before = await statesAt(client, run, later);
  await run.configure({ more: ["history: 1d", "compact: { grace: 0s }"] });
  const folded = await compactJson(run);
  assert.ok(folded.tables.some(({ base }) => base !== null));
  assert.ok(folded.removedFiles > 0);
  for (const until = step + 5; step < until; step++) await write(client, next, step);
  await caughtUp(client);
  assert.deepEqual(await statesAt(client, run, later), before);
  await assertEqual(client, run);
  await assertOlderRefused(client, run, positions[0]!);

  // A second fold goes on from the first one's base.
  await client.query("update _pg_flo.files set created_at = created_at - interval '2 days'");
  await compactJson(run);
  await write(client, next, step++);
  await caughtUp(client);
  await assertEqual(client, run);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0);
});

test("workers compact by themselves beside the stream, also when they are killed", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(SCHEMA);
  const more = ["lease: 2s", "history: 3s", "compact: { every: 1s, grace: 0s }"];
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 100ms }", more });
  const { next } = seededRandom();
  let step = 0;
  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    await using worker = run.start();
    await worker.saw(/streaming/);
    for (const until = step + 24; step < until; step++) {
      await write(client, next, step);
      if (step % 2 === 0) await caughtUp(client);
    }
    await worker.saw(/files are merged|changes are folded/);
    worker.kill(signal);
    const { code } = await worker.ended;
    if (signal === "SIGTERM") assert.equal(code, 0);
  }
  await run.catchUp();
  await assertEqual(client, run);
  const { rows } = await client.query("select max(batch)::int as batches from _pg_flo.streams");
  const files = await client.query("select count(*)::int as n from _pg_flo.files where table_name = 'keyed'");
  assert.ok(files.rows[0].n < rows[0].batches, `${files.rows[0].n} files of ${rows[0].batches} batches`);
});

test("a table whose compression was changed has files of several, which are merged and folded together", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(SCHEMA);
  await using run = await makeRun({ source: database.config, schemas: "{ public: { keyed: {} } }" });
  for (const compression of compressions) {
    await run.configure({ more: [`compression: ${compression}`, "history: 1d", "compact: { grace: 0s }"] });
    await client.query("update keyed set n = n + 1");
    await run.catchUp();
  }
  assert.deepEqual(await codecs(client, run), ["SNAPPY", "ZSTD"]);
  const merged = await compactJson(run);
  assert.ok(merged.tables[0]!.mergedFiles > 2);
  await assertEqual(client, run);
  await client.query("update _pg_flo.files set created_at = created_at - interval '2 days'");
  const folded = await compactJson(run);
  assert.notEqual(folded.tables[0]!.base, null);
  assert.deepEqual(await codecs(client, run), ["SNAPPY"]); // as the config says now
  await assertEqual(client, run);
});

async function codecs(client: Client, run: ReplicationRun): Promise<unknown[]> {
  await using mirror = await openMirror({ source: client, root: run.root });
  const rows = await mirror.rows(
    `SELECT DISTINCT compression FROM parquet_metadata('${run.root}/**/*.parquet') ORDER BY ALL`,
  );
  return rows.map(({ compression }) => compression);
}

async function readAll(run: ReplicationRun, paths: readonly string[]): Promise<void> {
  const { access } = await import("node:fs/promises");
  for (const path of paths) await access(`${run.root}/${path}`);
}

async function assertOlderRefused(client: Client, run: ReplicationRun, position: bigint): Promise<void> {
  const { rows } = await client.query(
    "select table_name as name, base_lsn as base from _pg_flo.tables where base_lsn is not null limit 1",
  );
  const [{ name, base }] = rows;
  const older = await run.run(["query", `select count(*) from ${name}`, "--at", String(position)]);
  assert.equal(older.code, 1, older.stdout);
  assert.match(older.stderr, /\[QUERY_FAILED\] public\.\w+, state at .*, its history begins at/);
  const at = await run.run(["query", `select count(*) from ${name}`, "--at", String(base)]);
  assert.equal(at.code, 0, at.stderr);
}
