import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { catalogFingerprint } from "./catalog-fingerprint.ts";

for (const version of [14, 18] as const) {
  let server: TestServer;
  before(async () => {
    server = await startPostgres({ version });
  });
  after(() => server[Symbol.asyncDispose]());

  test(`the fingerprint changes with each thing that decides what is mirrored, and with nothing else (PostgreSQL ${version})`, async () => {
    await using database = await server.createDatabase();
    const { client } = database;
    const role = `reader_${version}`;
    await client.query(`create schema more; create schema other; create role ${role};
      create table t (id int, x text); create table more.p (id int) partition by range (id);
      create table p1 (id int)`);
    const look = () => catalogFingerprint(client, ["public", "more"]);
    let before = await look();
    assert.equal(await look(), before);
    const changing = [
      "create table u (id int)",
      "alter table t add primary key (id)",
      "alter table t replica identity full",
      "alter table t add column y int",
      `grant select on t to ${role}`,
      `grant select (x) on t to ${role}`,
      `grant usage on schema more to ${role}`,
      "alter table t enable row level security",
      "alter table more.p attach partition p1 for values from (1) to (10)",
      "alter table u rename to v",
      `alter table v owner to ${role}`,
      "alter table v set schema other",
      "drop table t",
    ];
    for (const sql of changing) {
      await client.query(sql);
      const now = await look();
      assert.notEqual(now, before, sql);
      before = now;
    }
    for (const sql of [
      "create table other.w (id int)",
      "insert into more.p values (2); vacuum analyze p1",
      "create view s as select 1",
    ]) {
      for (const statement of sql.split("; ")) await client.query(statement);
      assert.equal(await look(), before, sql);
    }
    await client.query(`drop owned by ${role}; drop role ${role}`);
  });
}
