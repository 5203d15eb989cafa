// `drop` takes away what pg-flo made, whatever is left of it, and nothing else.
import assert from "node:assert/strict";
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { makePipeline, replicate, type TestPipeline } from "../../test/support/pipeline.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

interface Dropped {
  readonly slots: readonly string[];
  readonly publications: readonly string[];
  readonly metadata: boolean;
  readonly schema: boolean;
  readonly files: number;
}

async function source(): Promise<TestDatabase> {
  const database = await server.createDatabase();
  await database.client.query('create table "A.b" (id int primary key); insert into "A.b" values (1)');
  return database;
}

/** Slots, publications, schemas of the metadata. */
async function left(database: TestDatabase): Promise<readonly string[]> {
  const { rows } = await database.client.query(
    `select slot_name::text as name from pg_replication_slots where database = current_database()
     union all select pubname from pg_publication union all select nspname from pg_namespace where nspname = '_pg_flo'
     order by 1`,
  );
  return rows.map(({ name }) => name);
}

const everything: Dropped = {
  slots: ["pg_flo_app_1"],
  publications: ["pg_flo_app_1", "pg_flo_app_1_insert"],
  metadata: true,
  schema: true,
  files: 0,
};
const nothing: Dropped = { slots: [], publications: [], metadata: false, schema: false, files: 0 };

async function drop(pipeline: TestPipeline, ...args: string[]): Promise<Dropped> {
  const { group, ...dropped } = await pipeline.json<Dropped & { group: string }>(["drop", "--yes", ...args]);
  assert.equal(group, "app");
  return dropped;
}

async function refusal(pipeline: TestPipeline, args: readonly string[], code: number, message: RegExp): Promise<void> {
  const result = await pipeline.run(["drop", ...args]);
  assert.deepEqual([result.code, result.stdout], [code, ""], result.stderr);
  assert.match(result.stderr, message);
}

test("drop removes slot, publications and metadata, leaves the files, and can be repeated", async () => {
  await using database = await source();
  await using pipeline = await makePipeline({ source: database.config });
  await replicate(pipeline, database);
  await refusal(pipeline, [], 2, /^\[CONFIG_INVALID\] .*no terminal to ask on; give --yes/);
  assert.equal((await left(database)).length, 4);
  const people = await pipeline.run(["drop", "--yes"]);
  assert.deepEqual(people.stdout.trim().split("\n"), [
    "removed replication slot pg_flo_app_1",
    "removed publication pg_flo_app_1",
    "removed publication pg_flo_app_1_insert",
    "removed metadata of group app",
    "removed schema _pg_flo",
  ]);
  assert.deepEqual(await left(database), []);
  assert.equal((await readdir(join(pipeline.dataFolder, "app"))).length, 1);
  assert.deepEqual(await drop(pipeline), nothing);
  assert.equal((await pipeline.run(["drop", "--yes"])).stdout, "nothing of group app was there\n");
});

test("drop --files removes the group's files and what a crash left, and no file of somebody else", async () => {
  await using database = await source();
  await using pipeline = await makePipeline({ source: database.config });
  await replicate(pipeline, database);
  const orphans = ["app/public.gone/stream/2024/01/01/00/1-000001.parquet", "app/public.a/copy/.tmp-0a1b-2c"];
  const others = ["app/notes.txt", "app/public.a/copy/notes.txt", "app2/public.a/copy/000001-x.parquet"];
  for (const path of [...orphans, ...others]) {
    await mkdir(dirname(join(pipeline.dataFolder, path)), { recursive: true });
    await writeFile(join(pipeline.dataFolder, path), "x");
  }
  assert.deepEqual(await drop(pipeline, "--files"), { ...everything, files: 3 });
  const rest = await readdir(pipeline.dataFolder, { recursive: true, withFileTypes: true });
  assert.deepEqual(rest.filter((entry) => entry.isFile()).length, others.length);
  for (const path of others) await stat(join(pipeline.dataFolder, path));
});

test("drop removes the rest when slot, publications or metadata are gone or damaged already", async () => {
  await using database = await source();
  await using pipeline = await makePipeline({ source: database.config });
  const { client } = database;
  await replicate(pipeline, database);
  await client.query("select pg_terminate_backend(active_pid, 5000) from pg_replication_slots");
  await client.query("select pg_drop_replication_slot('pg_flo_app_1')");
  await client.query("drop publication pg_flo_app_1");
  assert.deepEqual(await drop(pipeline), { ...everything, slots: [], publications: ["pg_flo_app_1_insert"] });

  await replicate(pipeline, database);
  await client.query("drop schema _pg_flo cascade");
  assert.match((await pipeline.run(["check"])).stdout, /replication slot pg_flo_app_1: .*keeps WAL for nobody/);
  assert.deepEqual(await drop(pipeline), { ...everything, metadata: false, schema: false });

  await replicate(pipeline, database);
  await client.query("drop table _pg_flo.files, _pg_flo.migrations");
  assert.deepEqual(await drop(pipeline), everything);
  assert.deepEqual(await left(database), []);
});

test("what is not ours stays: a DBA's publication, other groups, physical slots and those of other databases", async () => {
  await using database = await source();
  await using other = await source();
  const { client } = database;
  await client.query('create publication dba for table "A.b"');
  await client.query("create publication pg_flo_app_1_insert"); // by name ours, but not made by us
  await client.query("select pg_create_physical_replication_slot('pg_flo_app_2')");
  await other.client.query("select pg_create_logical_replication_slot('pg_flo_app_3', 'pgoutput')");
  await using second = await makePipeline({ source: database.config, group: "app_1", publication: "dba" });
  await using pipeline = await makePipeline({ source: database.config, publication: "dba" });
  await replicate(second, database);
  await replicate(pipeline, database);
  assert.deepEqual(await drop(pipeline), { ...everything, publications: [], schema: false });
  const stays = await left(database);
  for (const name of ["_pg_flo", "dba", "pg_flo_app_1_1", "pg_flo_app_1_insert"]) assert.ok(stays.includes(name), name);
  assert.deepEqual(await left(other), ["pg_flo_app_3"]);
  await client.query("select pg_drop_replication_slot('pg_flo_app_2')"); // fails if it is gone
  assert.equal((await second.run(["status"])).code, 0);
  assert.equal((await second.run(["drop", "--yes"])).code, 0);
});

test("drop refuses while a worker lives, and cuts it off with --force", async () => {
  await using database = await source();
  await using pipeline = await makePipeline({ source: database.config });
  await using worker = pipeline.spawn(["replicate"]);
  await worker.saw(/table copied/);
  await refusal(pipeline, ["--yes"], 1, new RegExp(`^\\[SLOT_IN_USE\\] .*process ${worker.pid} on .*--force`));
  assert.equal((await left(database)).length, 4);
  assert.deepEqual(await drop(pipeline, "--force"), everything);
  const { code } = await worker.ended;
  assert.equal(code, 1);
  assert.deepEqual(await left(database), []);
});

test("a source that does not answer keeps everything, unless only the metadata are to go", async () => {
  await using metadata = await server.createDatabase();
  await using database = await source();
  await using pipeline = await makePipeline({ source: database.config, metadata: metadata.config });
  assert.equal((await pipeline.run(["init"])).code, 0);
  await using broken = await makePipeline({ source: { ...database.config, port: 1 }, metadata: metadata.config });
  await refusal(broken, ["--yes"], 1, /^\[CONNECTION_FAILED\] .*nothing was removed.*--metadata-only\n$/);
  await using elsewhere = await makePipeline({ source: server.config(), metadata: metadata.config });
  await refusal(elsewhere, ["--yes"], 2, /^\[CONFIG_INVALID\] .*made from database/);
  assert.deepEqual(await left(metadata), ["_pg_flo"]);
  const people = await broken.run(["drop", "--yes", "--metadata-only"]);
  assert.equal(people.code, 0, people.stderr);
  assert.match(
    people.stdout,
    /removed schema _pg_flo\n.*run there:\n {2}SELECT pg_drop_replication_slot\('pg_flo_app_1'\);/s,
  );
  assert.deepEqual(await left(metadata), []);
});
