import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { makeTestFolder } from "../../test/support/folder.ts";
import { makeGroup, makeMetadata, makeWorker } from "../../test/support/metadata.ts";
import { connectTo, startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { metadataColumns } from "./columns.ts";
import { dropGroup, readGroup } from "./groups.ts";
import { loadMigrations, openMetadata } from "./migrations.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof PgFloError, String(error));
  assert.equal(error.code, expected, error.message);
  return true;
};

async function appliedCount(database: TestDatabase): Promise<number> {
  const { rows } = await database.client.query("select count(*)::int as count from _pg_flo.migrations");
  return rows[0].count;
}

test("ten processes that start at once make the schema once", async () => {
  await using database = await server.createDatabase();
  const { host, port, user, password } = database.config;
  const script = `
    import pg from "pg";
    import { openMetadata } from ${JSON.stringify(join(import.meta.dirname, "migrations.ts"))};
    const client = new pg.Client();
    await client.connect();
    await openMetadata(client);
    await client.end();`;
  const env = {
    ...process.env,
    PGHOST: host,
    PGPORT: String(port),
    PGUSER: user,
    PGPASSWORD: password ?? "",
    PGDATABASE: database.name,
  };
  const run = promisify(execFile);
  const start = () => run(process.execPath, ["--input-type=module", "-e", script], { env, cwd: import.meta.dirname });
  await Promise.all(Array.from({ length: 10 }, start));
  assert.equal(await appliedCount(database), loadMigrations().length);
});

test("ten connections that start at once make the schema once, and opening again changes nothing", async () => {
  await using database = await server.createDatabase();
  const clients = await Promise.all(Array.from({ length: 10 }, () => database.connect()));
  await Promise.all(clients.map((client) => openMetadata(client)));
  await openMetadata(database.client);
  assert.equal(await appliedCount(database), loadMigrations().length);
});

test("the list of columns and docs/metadata.md say what the migrations make", async () => {
  await using metadata = await makeMetadata(server);
  const { rows } = await metadata.pool.query<{ table: string; columns: string[] }>(
    `select table_name as table, array_agg(column_name::text order by ordinal_position) as columns
     from information_schema.columns where table_schema = '_pg_flo' group by 1`,
  );
  const made = Object.fromEntries(rows.map(({ table, columns }) => [table, columns]));
  assert.deepEqual(made, { ...metadataColumns });
  const page = await readFile(join(import.meta.dirname, "../../docs/metadata.md"), "utf8");
  for (const [table, columns] of Object.entries(metadataColumns)) {
    const section = page.split(`\n## \`${table}\``)[1]?.split("\n## ")[0];
    assert.ok(section, `docs/metadata.md has no section on ${table}`);
    for (const column of columns) assert.ok(section.includes(`\`${column}\``), `${table}.${column} is not explained`);
  }
});

test("metadata of a newer version is refused and left alone", async () => {
  await using metadata = await makeMetadata(server);
  await makeGroup(metadata.pool, "app");
  await metadata.pool.query("insert into _pg_flo.migrations (version, name, checksum) values (99, 'later', 'x')");
  await assert.rejects(openMetadata(metadata.pool), code("METADATA_VERSION"));
  await assert.rejects(readGroup(metadata.pool, "app"), code("METADATA_VERSION"));
  await assert.rejects(dropGroup(metadata.pool, "app"), code("METADATA_VERSION"));
  const { rows } = await metadata.pool.query("select name from _pg_flo.groups");
  assert.deepEqual(rows, [{ name: "app" }]);
});

const damages = [
  ["a changed checksum", "update _pg_flo.migrations set checksum = 'sha256:0'"],
  ["a missing table", "drop table _pg_flo.files"],
  ["a missing column", "alter table _pg_flo.streams drop column epoch"],
  ["a missing migrations table", "drop table _pg_flo.migrations"],
  ["an empty migrations table", "delete from _pg_flo.migrations"],
  ["a missing first migration", "update _pg_flo.migrations set version = 0 where version = 1"],
  ["a migrations table of another shape", "alter table _pg_flo.migrations drop column checksum"],
] as const;

for (const [what, damage] of damages) {
  test(`${what} is told as corrupt metadata, and drop clears it away`, async () => {
    await using metadata = await makeMetadata(server);
    await makeGroup(metadata.pool, "app");
    await metadata.pool.query(damage);
    await assert.rejects(openMetadata(metadata.pool), code("METADATA_CORRUPT"));
    await assert.rejects(readGroup(metadata.pool, "app"), code("METADATA_CORRUPT"));
    assert.deepEqual(await dropGroup(metadata.pool, "app"), { existed: true, schemaDropped: true });
    await openMetadata(metadata.pool);
  });
}

test("a migration that fails leaves nothing behind", async () => {
  await using database = await server.createDatabase();
  const broken = {
    version: loadMigrations().length + 1,
    name: "broken",
    checksum: "x",
    sql: "create table _pg_flo.x(); nonsense",
    breaking: false,
  };
  await assert.rejects(openMetadata(database.client, [...loadMigrations(), broken]));
  const { rows } = await database.client.query("select 1 from pg_namespace where nspname = '_pg_flo'");
  assert.deepEqual(rows, []);
});

test("a breaking migration waits until no worker of the version before runs", async () => {
  await using metadata = await makeMetadata(server);
  const group = await makeGroup(metadata.pool, "app");
  await makeWorker(metadata.pool, group);
  const sql = "-- breaking\nalter table _pg_flo.groups add column later int;";
  const migrations = [
    ...loadMigrations(),
    { version: loadMigrations().length + 1, name: "later", checksum: "x", sql, breaking: true },
  ];
  await assert.rejects(openMetadata(metadata.pool, migrations), code("METADATA_VERSION"));
  await metadata.pool.query("update _pg_flo.workers set heartbeat_at = now() - interval '1 hour'");
  await openMetadata(metadata.pool, migrations);
  assert.equal(await appliedCount(metadata.database), migrations.length);
});

test("migration files are numbered without gaps, and a first line marks the breaking ones", async () => {
  await using folder = await makeTestFolder();
  await writeFile(join(folder.path, "0001-start.sql"), "select 1;");
  await writeFile(join(folder.path, "0002-more.sql"), "-- breaking\r\nselect 2;");
  const loaded = loadMigrations(folder.path);
  assert.deepEqual(
    loaded.map(({ version, name, breaking }) => ({ version, name, breaking })),
    [
      { version: 1, name: "start", breaking: false },
      { version: 2, name: "more", breaking: true },
    ],
  );
  await writeFile(join(folder.path, "0004-gap.sql"), "select 4;");
  assert.throws(() => loadMigrations(folder.path), code("INTERNAL"));
});

test("a role without the right to make a schema is told so, and a schema made for it is used", async () => {
  await using database = await server.createDatabase();
  const role = `role_${database.name}`;
  await database.client.query(`create role ${role} login password 'secret'`);
  const client = await connectTo({ ...database.config, user: role, password: "secret" });
  try {
    await assert.rejects(openMetadata(client), code("PERMISSION_DENIED"));
    await database.client.query(`create schema _pg_flo authorization ${role}`);
    await openMetadata(client);
    assert.equal(await appliedCount(database), loadMigrations().length);
  } finally {
    await client.end();
    await database.client.query(`drop owned by ${role} cascade; drop role ${role}`);
  }
});
