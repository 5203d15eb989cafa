// The whole pipeline over a bucket: killed and started again it is equal, `query`, `clean` and `drop` work there, and a slow
// server slows the source down instead of filling memory.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openStorage } from "../../src/storage/open.ts";
import { findOrphans, type Orphan, removeOrphans } from "../../src/worker/orphans.ts";
import { fetchBucket } from "../support/bucket-folder.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { pgbench, pgbenchTables, replicateWithKills } from "../support/pgbench-kills.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, seededRandom, until } from "../support/replication-run.ts";
import { startS3Proxy } from "../support/s3-proxy.ts";
import { startS3Server, type TestS3Server } from "../support/s3-server.ts";

let server: TestServer;
let s3: TestS3Server;
before(async () => {
  server = await startPostgres();
  s3 = await startS3Server();
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  await s3?.[Symbol.asyncDispose]();
});

function url(prefix: string, endpoint = s3.endpoint): string {
  return `s3://${s3.bucket}/${prefix}?endpoint=${endpoint}&region=us-east-1`;
}

/** Without the small object of a worker that was killed while it tried the bucket: a later start removes that. */
async function keysIn(prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { path } of openStorage(s3.config(prefix)).list("")) {
    if (!path.startsWith(".pg-flo-probe-")) keys.push(path);
  }
  return keys;
}

test("workers killed in copy and stream leave a bucket that is equal, orphans go, and no listed file does", async () => {
  const { next } = seededRandom();
  const prefix = `e2e/${randomUUID()}`;
  await using database = await server.createDatabase();
  await pgbench(database.config, ["-i", "-q", "-s", "2"]);
  await using run = await makeRun({ source: database.config, storage: url(prefix) });
  const check = await run.run(["check"]);
  assert.equal(check.code, 0, check.stderr);
  assert.match(check.stdout, /to s3:\/\/pg-flo-test\/e2e\//);
  await Promise.all([
    replicateWithKills(run, { kills: 4, firstMs: 1000, lastMs: 4000, random: next }),
    pgbench(database.config, ["-n", "-c", "4", "-T", "10"]),
  ]);
  const caughtUp = await run.catchUp();
  assert.ok(!caughtUp.stderr.includes(s3.env.AWS_SECRET_ACCESS_KEY!) || s3.env.AWS_SECRET_ACCESS_KEY === "S3RVER");
  const tables = pgbenchTables.map((name) => ({ name }));
  const compare = async () => {
    await using folder = await fetchBucket(s3, prefix, database.client);
    await assertEqualToSource({ source: database.client, root: folder.path }, tables);
  };
  await compare();

  const listed = await listedPaths(database);
  const strangers = (await keysIn(prefix)).filter((path) => !listed.has(path));
  const orphans: Orphan[] = [];
  const search = { db: database.client, storage: openStorage(s3.config(prefix)), group: "app", olderThanMs: 0 };
  for await (const orphan of findOrphans(search)) orphans.push(orphan);
  assert.ok(orphans.every((orphan) => !listed.has(orphan.path) || orphan.sizeBytes === null));
  // The last run ended in order: what nobody listed is a crash's, and nothing else.
  assert.deepEqual(
    orphans.flatMap(({ path, sizeBytes }) => (sizeBytes === null ? [] : [path])).sort(),
    strangers.sort(),
  );
  await removeOrphans(orphans);
  assert.deepEqual(new Set(await keysIn(prefix)), listed);
  await compare();

  // Merged, then folded, and what others took the place of is gone.
  await database.client.query("update _pg_flo.files set created_at = created_at - interval '1 day'");
  for (const more of [[], ["history: 1h", "compact: { grace: 0s }"]]) {
    await run.configure({ more });
    const compacted = await run.run(["compact"]);
    assert.equal(compacted.code, 0, compacted.stderr);
    await compare();
  }
  assert.deepEqual(new Set(await keysIn(prefix)), await listedPaths(database));

  const query = await run.run(["query", "select count(*) as n from pgbench_history", "--json", "--cache", run.folder]);
  const { rows } = await database.client.query<{ n: string }>("select count(*) as n from pgbench_history");
  assert.deepEqual(JSON.parse(query.stdout), { n: Number(rows[0]!.n) });
  const { size } = await listedPaths(database);
  const dropped = await run.run(["drop", "--yes", "--files", "--json"]);
  assert.equal(JSON.parse(dropped.stdout).files, size, dropped.stderr);
  assert.deepEqual(await keysIn(prefix), []);
});

async function listedPaths(database: TestDatabase): Promise<Set<string>> {
  const { rows } = await database.client.query<{ path: string }>("select path from _pg_flo.files");
  return new Set(rows.map(({ path }) => path));
}

test("query fetches only the files of the tables that it names, and none twice", async () => {
  const prefix = `e2e/${randomUUID()}`;
  await using database = await server.createDatabase();
  await database.client.query(`create table one (id int primary key); insert into one select generate_series(1, 10);
    create type mood as enum ('well', 'unwell'); create table two (id int primary key, mood mood);
    insert into two values (1, 'well')`);
  await using run = await makeRun({ source: database.config, storage: url(prefix) });
  await run.catchUp();
  const cache = join(run.folder, "cache");
  const first = await run.run(["query", "select sum(id) as n from one", "--json", "--cache", cache]);
  assert.deepEqual([first.code, JSON.parse(first.stdout)], [0, { n: 55 }], first.stderr);
  const fetched = first.stderr.match(/"files":(\d+)/g);
  const second = await run.run(["query", "select sum(id) as n from one", "--json", "--cache", cache]);
  assert.deepEqual([JSON.parse(second.stdout), second.stderr], [{ n: 55 }, ""]);
  // One of the table, one that tells what the enum became.
  assert.deepEqual(fetched, ['"files":1', '"files":1']);
  const moods = await run.run(["query", "select mood from two", "--json", "--cache", cache]);
  assert.deepEqual([JSON.parse(moods.stdout), moods.stderr], [{ mood: "well" }, ""]);
});

test("check says what the bucket lacks, and init and replicate make nothing then", async () => {
  await using database = await server.createDatabase();
  await database.client.query("create table t (id int primary key)");
  await using run = await makeRun({ source: database.config, storage: url("x", "http://127.0.0.1:1") });
  for (const [args, code] of [
    [["check"], 1],
    [["replicate", "--until-caught-up"], 1],
  ] as const) {
    const result = await run.run(args);
    assert.equal(result.code, code);
    assert.match(result.stdout + result.stderr, /the server cannot be reached/);
    assert.match(result.stdout + result.stderr, /check endpoint and region in the key storage/);
  }
  const { rows } = await database.client.query(
    "select 1 from pg_replication_slots where database = current_database()",
  );
  assert.equal(rows.length, 0);
});

test("a slow bucket slows the source down: memory and what is read ahead stay bounded", async () => {
  const prefix = `e2e/${randomUUID()}`;
  await using database = await server.createDatabase();
  // 260 MB that nothing compresses.
  await database.client.query(`create table blobs (id int primary key, blob bytea);
    alter table blobs alter blob set storage external`);
  await database.client.query(`insert into blobs select n, (select decode(string_agg(md5(random()::text || i || n), ''), 'hex')
    from generate_series(1, 4096) i) from generate_series(1, 400) n`);
  // Turned round, in another order than they came: no page has two alike.
  await database.client.query(`insert into blobs select id + 400 * n, substr(blob, n * 4000) || substr(blob, 1, n * 4000 - 1)
    from generate_series(1, 9) n, blobs`);
  await using proxy = await startS3Proxy(s3.port, { bytesPerSecond: 25e6 });
  await using run = await makeRun({
    source: database.config,
    storage: url(prefix, proxy.endpoint),
    copy: "{ parallel: 1, file_size: 128MB }",
  });
  await using worker = run.start("--until-caught-up");
  let aheadBytes = 0;
  let peakBytes = 0;
  let copying = 0;
  while (worker.running) {
    const { rows } = await database.client.query<{ bytes: string }>(
      "select bytes_processed as bytes from pg_stat_progress_copy where datname = current_database()",
    );
    const peak = /VmHWM:\s+(\d+) kB/.exec(statusOf(worker.pid))?.[1];
    if (rows[0]) copying++;
    if (rows[0]) aheadBytes = Math.max(aheadBytes, Number(rows[0].bytes) - proxy.sentBytes);
    peakBytes = Math.max(peakBytes, Number(peak ?? 0) * 1024);
    await sleep(50);
  }
  assert.equal((await worker.ended).code, 0, worker.stderr);
  assert.ok(copying > 10, `the copy was seen ${copying} times`);
  // A row group that fills, one that is written, the parts on their way.
  console.log(`# read ahead ${Math.round(aheadBytes / 1e6)} MB, peak ${Math.round(peakBytes / 1e6)} MB`);
  assert.ok(aheadBytes < 200e6, `${aheadBytes} bytes were read ahead of the bucket`);
  assert.ok(peakBytes < 800e6, `${peakBytes} bytes of memory`);
});

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, "utf8");
  } catch {
    return ""; // it has just ended
  }
}

test("a bucket that is gone for a while is waited for, and nothing is lost", async () => {
  const prefix = `e2e/${randomUUID()}`;
  await using database = await server.createDatabase();
  await database.client.query("create table t (id int primary key); insert into t select generate_series(1, 1000)");
  await using proxy = await startS3Proxy(s3.port, {});
  await using run = await makeRun({ source: database.config, storage: url(prefix, proxy.endpoint) });
  await using worker = run.start();
  await worker.saw(/table copied/);
  proxy.setOpen(false);
  await database.client.query("insert into t select generate_series(1001, 2000)");
  await worker.saw(/trying again/);
  proxy.setOpen(true);
  await until("the changes are in the manifest", async () => {
    const { rows } = await database.client.query(
      "select sum(row_count)::int as n from _pg_flo.files where kind = 'stream'",
    );
    return rows[0]?.n === 1000;
  });
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await using folder = await fetchBucket(s3, prefix, database.client);
  await assertEqualToSource({ source: database.client, root: folder.path }, [{ name: "t" }]);
});
