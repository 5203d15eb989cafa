// Definitions that change after the catalog was read and before the cut, while the cut's slot waits for transactions:
// what rows got by that is neither in the log nor in the columns that were known.
import assert from "node:assert/strict";
import { test } from "node:test";
import { untilAwaited } from "../support/awaited-transaction.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { makePipeline } from "../support/pipeline.ts";
import { startPostgres } from "../support/postgres.ts";

test("columns that come, go and are filled while a slot waits are in the mirror, at the start and later", async () => {
  await using server = await startPostgres();
  await using database = await server.createDatabase();
  const { client } = database;
  const running = await database.connect();
  const tables = (suffix: string) => `
    create table added${suffix} (id int primary key, v text); insert into added${suffix} select g, 'v' from generate_series(1, 50) g;
    create table dropped${suffix} (id int primary key, v text, w text); insert into dropped${suffix} values (1, 'v', 'w');
    create table typed${suffix} (id int primary key, v int); insert into typed${suffix} values (1, 7);
    create table same${suffix} (id int primary key, v text); insert into same${suffix} values (1, 'v')`;
  const change = (suffix: string) => `
    alter table added${suffix} add column extra int; update added${suffix} set extra = id where id % 2 = 0;
    alter table dropped${suffix} drop column v; alter table dropped${suffix} add column v int default 3;
    alter table typed${suffix} alter column v type text using 'was ' || v`;
  await client.query(tables(""));
  await using pipeline = await makePipeline({ source: database.config });
  await running.query("begin; select pg_current_xact_id()");
  await using worker = pipeline.spawn(["replicate"]);
  await untilAwaited(running, client);
  await client.query(change(""));
  await running.query("commit");
  await worker.saw(/table copied table=public\.same /);
  await running.query("begin; select pg_current_xact_id()");
  await client.query(tables("_later"));
  await untilAwaited(running, client);
  await client.query(change("_later"));
  await running.query("commit");
  await worker.saw(/table copied table=public\.same_later /);
  await client.query("update added set extra = 0 where id = 1; insert into added_later values (99, 'new', 99)");
  worker.kill("SIGTERM");
  await worker.ended;
  assert.match(worker.stderr, /TABLE_CHANGED.*public\.added, definition, .*before its copy began/);
  const caughtUp = await pipeline.run(["replicate", "--until-caught-up"]);
  assert.equal(caughtUp.code, 0, caughtUp.stderr);
  await assertEqualToSource(
    { source: client, metadata: client, root: pipeline.dataFolder },
    ["added", "dropped", "typed", "same"].flatMap((name) => [{ name }, { name: `${name}_later` }]),
  );
});
