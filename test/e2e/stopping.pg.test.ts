// How a worker ends, how it is replaced, and what happens when the storage is full.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { CliProcess } from "../support/cli.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, until } from "../support/replication-run.ts";

const exec = promisify(execFile);

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("SIGTERM and SIGINT end the worker with 0: what was read is durable, and the leases are released", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(
    "create table t (id int primary key, x text); insert into t select n, 'x' from generate_series(1, 200000) n",
  );
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 1h }" });
  const free =
    "select (select count(*) from _pg_flo.workers)::int + (select count(*) from _pg_flo.streams where owner is not null)::int + (select count(*) from _pg_flo.copy_ranges where owner is not null)::int as held";
  for (const [signal, when] of [
    ["SIGINT", /copying/],
    ["SIGTERM", /streaming/],
    ["SIGTERM", /table copied|streaming/],
  ] as const) {
    await using worker = run.start();
    await worker.saw(when);
    await client.query("update t set x = x || 'y' where id % 1000 = 0");
    worker.kill(signal);
    const { code, stderr } = await worker.ended;
    assert.equal(code, 0, stderr);
    assert.equal((await client.query(free)).rows[0].held, 0);
  }
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "t" }]);
});

test("a second SIGINT ends the worker at once", async () => {
  await using database = await server.createDatabase();
  await using metadata = await server.createDatabase();
  await database.client.query("create table t (id int primary key)");
  await using run = await makeRun({ source: database.config, metadata: metadata.config });
  await using worker = run.start();
  await worker.saw(/streaming/);
  await sleep(300);
  const blocker = await metadata.connect(); // the leases cannot be released while this holds them
  await blocker.query("begin; lock table _pg_flo.workers, _pg_flo.streams in access exclusive mode");
  worker.kill("SIGINT");
  await worker.saw(/once more to stop at once/);
  await sleep(300);
  assert.ok(worker.running);
  worker.kill("SIGINT");
  assert.equal((await worker.ended).code, 1);
  await blocker.query("rollback");
  await run.catchUp();
});

test("--until-caught-up of an idle database ends by itself, again and again", async () => {
  await using database = await server.createDatabase();
  await database.client.query("create table t (id int primary key)");
  await using run = await makeRun({ source: database.config, stream: "{ flush_interval: 1h }" });
  for (let time = 0; time < 3; time++) await run.catchUp(15_000);
});

test("a worker that was stopped beyond its lease is replaced, and what it still wants to write is refused", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(
    "create table t (id int primary key, x text); insert into t select n, 'x' from generate_series(1, 1000) n",
  );
  await using run = await makeRun({
    source: database.config,
    more: ["lease: 2s"],
    stream: "{ flush_interval: 400ms }",
  });
  await using first = run.start();
  await first.saw(/table copied/);
  await client.query("insert into t select n, 'first' from generate_series(2001, 2500) n");
  first.kill("SIGSTOP");
  await sleep(2500);
  await using second = run.start();
  await second.saw(/stream failed|streaming/);
  await client.query("update t set x = 'second' where id < 500");
  first.kill("SIGCONT");
  await first.saw(/standing by/);
  await client.query("insert into t select n, 'after' from generate_series(3001, 3500) n");
  await until("the second has it all", async () => {
    assert.ok(second.running, second.stderr);
    const { rows } = await client.query(
      "select max(lsn_end) >= (select position from _pg_flo.streams) - 1000 as yes, sum(row_count)::int as n from _pg_flo.files where kind = 'stream'",
    );
    return rows[0].n >= 1499;
  });
  for (const worker of [second, first]) {
    assert.ok(worker.running, worker.stderr);
    worker.kill("SIGTERM");
    assert.equal((await worker.ended).code, 0, worker.stderr);
  }
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "t" }]);
});

const DISK_BYTES = 12 << 20;
const full = /STORAGE_FULL|STORAGE_FAILED.*EFBIG/;

/** A disk of a worker's that is filled and freed again. */
interface SmallDisk extends AsyncDisposable {
  readonly folder: string;
  /** Leaves `roomBytes`; null: to the last byte. */
  fill(worker: CliProcess, roomBytes: number | null): Promise<void>;
  free(worker: CliProcess): Promise<void>;
}

/** Root mounts a small file system; others limit the size of the files that the worker may write. */
async function makeSmallDisk(folder: string, sizeBytes = DISK_BYTES): Promise<SmallDisk> {
  await mkdir(folder);
  const ballast = join(folder, "ballast");
  const mounted =
    process.getuid?.() === 0 &&
    (await exec("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", folder]).catch(() => null)) !== null;
  if (mounted) {
    return {
      folder,
      fill: (_worker, roomBytes) =>
        writeFile(ballast, Buffer.alloc(roomBytes === null ? sizeBytes * 2 : sizeBytes - roomBytes)).catch(() => {}),
      free: () => rm(ballast),
      [Symbol.asyncDispose]: async () => void (await exec("umount", ["-l", folder])),
    };
  }
  const limit = async (worker: CliProcess, bytes: string) =>
    void (await exec("prlimit", ["--pid", String(worker.pid), `--fsize=${bytes}:unlimited`]));
  return {
    folder,
    fill: (worker, roomBytes) => limit(worker, roomBytes === null ? "100" : "100000"),
    free: (worker) => limit(worker, "unlimited"),
    [Symbol.asyncDispose]: async () => {},
  };
}

test("a full disk is told and waited for; with room again all goes on", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query(`create table t (id int primary key, x text);
    insert into t select n, md5(n::text) || md5((-n)::text) from generate_series(1, 100000) n;
    create table log (x text)`);
  await using run = await makeRun({ source: database.config });
  await using disk = await makeSmallDisk(join(run.folder, "disk"));
  await run.configure({ storage: join(disk.folder, "data") });
  await using worker = run.start();
  await disk.fill(worker, 3 << 20);
  await worker.saw(full); // in the copy
  await disk.free(worker);
  await worker.saw(/table copied.*public\.t /);
  await disk.fill(worker, null);
  await client.query(
    "insert into log select md5(n::text) from generate_series(1, 20000) n; update t set x = 'short' where id % 3 = 0",
  );
  await worker.saw(new RegExp(`(stream|batch).*(${full.source})`));
  await client.query("insert into log values ('meanwhile')");
  await sleep(500);
  assert.ok(worker.running, worker.stderr);
  await disk.free(worker);
  const done = "select exists (select from _pg_flo.files where table_name = 'log' and kind = 'stream') as yes";
  await until("the stream goes on", async () => (await client.query(done)).rows[0].yes);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  const options = ["replicate", "--until-caught-up"];
  assert.equal((await run.run(options)).code, 0);
  await assertEqualToSource({ source: client, root: join(disk.folder, "data") }, [{ name: "t" }, { name: "log" }]);
});

test("a full disk for transactions that are larger than their memory loses nothing of them", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key, x text)");
  await using run = await makeRun({ source: database.config });
  await using disk = await makeSmallDisk(join(run.folder, "disk"), 200 << 20);
  const stream = `{ flush_interval: 200ms, memory: 16MB, spill_folder: ${JSON.stringify(disk.folder)} }`;
  await run.configure({ stream });
  await using worker = run.start();
  await worker.saw(/streaming/);
  await disk.fill(worker, 5 << 20);
  await client.query("insert into t select n, repeat(md5(n::text), 20) from generate_series(1, 60000) n");
  await worker.saw(new RegExp(`stream.*(${full.source}).*`));
  assert.match(worker.stderr, /spill_folder/);
  await disk.free(worker);
  await client.query("update t set x = 'after' where id = 1");
  const done = "select coalesce(sum(row_count), 0) > 60000 as yes from _pg_flo.files";
  await until("the stream goes on", async () => (await client.query(done)).rows[0].yes);
  worker.kill("SIGTERM");
  assert.equal((await worker.ended).code, 0, worker.stderr);
  await run.catchUp();
  await assertEqualToSource({ source: client, root: run.root }, [{ name: "t" }]);
});
