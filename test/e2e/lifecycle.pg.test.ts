// From check to drop on every server version that is not the newest, which the commands' own tests use.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StatusDocument } from "../../src/cli/status-document.ts";
import { testedVersions } from "../support/long-form.ts";
import { makePipeline, replicate } from "../support/pipeline.ts";
import { startPostgres } from "../support/postgres.ts";

for (const version of testedVersions.filter((each) => each < 18)) {
  test(`PostgreSQL ${version}: check, init, replicate, status, query and drop`, async () => {
    await using server = await startPostgres({ version });
    await using database = await server.createDatabase();
    await database.client.query(`create table a (id int primary key, secret text, note text); create table log (line text);
      insert into a select g, 's', 'n' || g from generate_series(1, 100) g; insert into log values ('x')`);
    await using pipeline = await makePipeline({
      source: database.config,
      schemas: "{ public: { a: { exclude_columns: [secret] }, log: {} } }",
    });
    for (const command of ["check", "init", "init"]) {
      const { code, stdout } = await pipeline.run([command]);
      assert.equal(code, 0, stdout);
    }
    await replicate(pipeline, database);
    await database.client.query("delete from a where id > 90; update a set note = 'new' where id = 1; delete from log");
    await replicate(pipeline, database);
    const status = await pipeline.json<StatusDocument>(["status"]);
    assert.deepEqual(
      status.tables.map(({ name, state, error }) => [name, state, error]),
      [
        ["a", "streaming", null],
        ["log", "streaming", null],
      ],
    );
    const { stdout } = await pipeline.run(["query", "select * from a order by id", "--json"]);
    const source = await database.client.query("select id, note from a order by id");
    assert.equal(stdout, source.rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const dropped = await pipeline.run(["drop", "--yes", "--files"]);
    assert.equal(dropped.code, 0, dropped.stderr);
    const left = await database.client.query(`select pubname from pg_publication union all
      select nspname from pg_namespace where nspname = '_pg_flo' union all select slot_name from pg_replication_slots`);
    assert.deepEqual(left.rows, []);
  });
}
