// `clean` lists, asks, and removes what a crash left, and nothing else.
import assert from "node:assert/strict";
import { mkdir, readdir, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { makePipeline, replicate } from "../../test/support/pipeline.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("clean tells, asks and removes orphans that are old enough; the group and its files stay as they are", async () => {
  await using database = await server.createDatabase();
  await database.client.query("create table t (id int primary key); insert into t values (1), (2)");
  await using pipeline = await makePipeline({ source: database.config });
  const early = await pipeline.run(["clean", "--dry-run"]);
  assert.deepEqual([early.code, early.stdout], [1, ""]);
  assert.match(early.stderr, /^\[GROUP_MISSING\]/);
  await replicate(pipeline, database); // and kills the worker
  await database.client.query("update _pg_flo.groups set created_at = now() - interval '3 days'");
  const copies = join(pipeline.dataFolder, "app", "public.t", "copy");
  const [counted] = await readdir(copies);
  const put = async (name: string, hours: number) => {
    await mkdir(copies, { recursive: true });
    await writeFile(join(copies, name), "12345");
    const time = new Date(Date.now() - hours * 3_600_000);
    await utimes(join(copies, name), time, time);
  };
  await put("000001-crashed.parquet", 30);
  await put("000002-younger.parquet", 3);
  await put(".tmp-00000000-0000-0000-0000-000000000000", 30);
  await put("somebody-elses.parquet", 30);

  await database.client.query("insert into _pg_flo.workers (group_name, host, pid) values ('app', 'elsewhere', 1)");
  const beside = await pipeline.run(["clean", "--yes", "--older-than", "10m"]);
  assert.deepEqual([beside.code, beside.stdout], [2, ""]);
  assert.match(beside.stderr, /1 worker\(s\) run; give 1h or more/);
  await database.client.query("delete from _pg_flo.workers");
  const unasked = await pipeline.run(["clean"]);
  assert.deepEqual([unasked.code, unasked.stdout], [2, ""]);
  assert.match(unasked.stderr, /no terminal to ask on; give --yes, or --dry-run/);
  const told = await pipeline.run(["clean", "--dry-run"]);
  assert.match(told.stdout, /5 B .*app\/public\.t\/copy\/000001-crashed\.parquet\n/);
  assert.match(told.stdout, /unfinished .*\.tmp-0{8}-.*\n2 files, 5 B\n$/);
  assert.equal((await readdir(copies)).length, 5);
  assert.equal((await pipeline.run(["clean", "--yes"])).stdout, "removed 2 files, 5 B\n");
  assert.deepEqual(
    new Set(await readdir(copies)),
    new Set([counted!, "000002-younger.parquet", "somebody-elses.parquet"]),
  );
  const rest = await pipeline.json<{ removed: number; orphans: { path: string; sizeBytes: number }[] }>([
    "clean",
    "--yes",
    "--older-than",
    "1h",
  ]);
  assert.deepEqual(
    [rest.removed, rest.orphans.map(({ path }) => path)],
    [1, ["app/public.t/copy/000002-younger.parquet"]],
  );
  const { stdout } = await pipeline.run(["query", "select count(*) as n from t", "--json"]);
  assert.deepEqual(JSON.parse(stdout), { n: 2 });
  const wrong = await pipeline.run(["clean", "--older-than", "soon"]);
  assert.match(wrong.stderr, /^\[CONFIG_INVALID\] .*--older-than is "soon"; give a duration/);
});
