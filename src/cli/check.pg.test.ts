// What `check` and `init` say and make, on real servers, from the command line.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makePipeline, replicate, type TestPipeline } from "../../test/support/pipeline.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import type { Finding } from "../postgres/finding.ts";

interface Checked {
  readonly findings: readonly Finding[];
  readonly tables: readonly { readonly schema: string; readonly name: string; readonly mode: string }[];
}

/** `check` and `init` both refuse: exit code 1, the finding with its fix, and nothing is made. */
async function refused(pipeline: TestPipeline, database: TestDatabase | null, expected: Record<string, RegExp>) {
  const check = await pipeline.run(["check", "--json"]);
  assert.equal(check.code, 1, check.stderr);
  assert.equal(JSON.parse(check.stderr).code, "PREFLIGHT_FAILED");
  const { findings } = JSON.parse(check.stdout) as Checked;
  const errors = findings.filter(({ severity }) => severity === "error");
  assert.deepEqual(errors.map(({ code }) => code).sort(), Object.keys(expected).sort());
  for (const { code, subject, message, fix } of errors) assert.match(`${subject} ${message} ${fix}`, expected[code]!);
  for (const command of ["check", "init"]) {
    const people = await pipeline.run([command]);
    assert.equal(people.code, 1);
    for (const { fix } of errors) assert.ok(people.stdout.includes(`fix: ${fix}`), people.stdout);
    assert.match(people.stderr, /^\[PREFLIGHT_FAILED\] [^\n]*nothing was created\n$/);
  }
  if (database) await nothingMade(database);
}

async function nothingMade(database: TestDatabase): Promise<void> {
  const { rows } = await database.client.query(
    `select (select count(*)::int from pg_namespace where nspname = '_pg_flo') as schemas,
       (select count(*)::int from pg_replication_slots where database = current_database()) as slots,
       (select count(*)::int from pg_publication where pubname ~ '^pg_flo') as publications`,
  );
  assert.deepEqual(rows[0], { schemas: 0, slots: 0, publications: 0 });
}

describe("a server that can replicate", () => {
  let server: TestServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server[Symbol.asyncDispose]());

  test("check lists every table with mode and identity, warns of what cannot be seen, and creates nothing", async () => {
    await using database = await server.createDatabase();
    await database.client.query(`create table "Ord.ers ""x" (id int primary key, "select" text);
      create table log (line text); create schema sales; create table sales.copied (id int primary key)`);
    await using pipeline = await makePipeline({
      source: database.config,
      schemas: '{ public: "*", sales: { copied: { mode: copy-only } } }',
    });
    const people = await pipeline.run(["check"]);
    assert.equal(people.code, 0, people.stderr);
    assert.match(people.stdout, /public\.Ord\.ers "x +copy-and-stream +key \(id\) +2\n/);
    assert.match(people.stdout, /public\.log +copy-and-stream +none: updates and deletes cannot be seen +1\n/);
    assert.match(people.stdout, /sales\.copied +copy-only/);
    assert.match(people.stdout, /Warnings \(1\)[\s\S]*fix: ALTER TABLE "public"\."log" ADD PRIMARY KEY/);
    assert.match(people.stdout, /check passed; next: pg-flo replicate\n$/);
    assert.ok(!`${people.stdout}${people.stderr}`.includes(database.config.password!));
    const { tables } = await pipeline.json<Checked>(["check"]);
    assert.deepEqual(
      tables.map(({ name }) => name),
      ['Ord.ers "x', "log", "copied"],
    );
    await nothingMade(database);
  });

  test("init makes the metadata and registers the group, once, and no slot", async () => {
    await using database = await server.createDatabase();
    await database.client.query("create table a (id int primary key)");
    await using pipeline = await makePipeline({ source: database.config });
    const first = await pipeline.run(["init"]);
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stdout, /group app is registered; next: pg-flo replicate\n$/);
    const stored = "select name, source_database, storage_url from _pg_flo.groups";
    const { rows } = await database.client.query(stored);
    assert.deepEqual(rows, [{ name: "app", source_database: database.name, storage_url: pipeline.dataFolder }]);
    assert.deepEqual((await database.client.query("select 1 from pg_replication_slots")).rows, []);
    const again = await pipeline.json<Record<string, unknown>>(["init"]);
    assert.deepEqual([again.created, again.registered, again.group], [false, true, "app"]);
    assert.deepEqual((await database.client.query(stored)).rows, rows);

    await using elsewhere = await makePipeline({ source: database.config });
    const other = await elsewhere.run(["init", "--json"]);
    assert.equal(other.code, 1);
    const errors = (JSON.parse(other.stdout) as Checked).findings.filter(({ severity }) => severity === "error");
    assert.deepEqual(
      errors.map(({ code }) => code),
      ["other-group"],
    );
    assert.match(errors[0]!.message, /belongs to another storage/);
  });

  test("an unreachable server and an unwritable folder are told together, each with its fix", async () => {
    await using pipeline = await makePipeline({ source: { ...server.config(), port: 1 }, storage: "pg-flo.yaml/data" });
    await refused(pipeline, null, {
      "connection-failed": /127\.0\.0\.1:1\/.*ECONNREFUSED.*check host, port, firewall/,
      "storage-failed": /a file stands where a folder is needed \(E.*set another storage/,
    });
  });

  test("a wrong password, and a metadata database that does not exist, are told without the password", async () => {
    await using database = await server.createDatabase();
    const source = { ...database.config, password: "wrong-secret" };
    await using pipeline = await makePipeline({ source, metadata: { ...database.config, database: "nowhere" } });
    const { stdout, stderr } = await pipeline.run(["check", "--json"]);
    const errors = (JSON.parse(stdout) as Checked).findings;
    assert.deepEqual(
      errors.map(({ code, subject }) => [code, subject]),
      [
        ["authentication-failed", "source"],
        ["authentication-failed", "metadata"],
      ],
    );
    assert.match(errors[1]!.fix, /create the database/);
    assert.ok(!`${stdout}${stderr}`.includes("wrong-secret"));
    assert.ok(!`${stdout}${stderr}`.includes(database.config.password!));
    await nothingMade(database);
  });

  test("a role without rights gets the grants it lacks, and check --grants prints a script that is enough", async () => {
    await using database = await server.createDatabase();
    const role = `Least "${database.name}`;
    const quoted = `"${role.replaceAll('"', '""')}"`;
    await database.client.query(`create table a (id int primary key); insert into a values (1)`);
    await using admin = await makePipeline({ source: database.config });
    const script = await admin.run(["check", "--grants", role]);
    assert.equal(script.code, 0, script.stderr);
    assert.equal((await admin.json<{ grants: string }>(["check", "--grants", role])).grants, script.stdout);

    const login = { user: role, password: "least-secret" };
    await database.client.query(`create role ${quoted} login password 'least-secret'`);
    try {
      await using poor = await makePipeline({ source: server.config(database.name, login) });
      const { code, stdout } = await poor.run(["check", "--json"]);
      assert.equal(code, 1);
      const fixes = (JSON.parse(stdout) as Checked).findings.map(({ fix }) => fix).join("\n");
      for (const right of ["REPLICATION;", "GRANT SELECT ON", "GRANT CREATE ON DATABASE", "CREATE SCHEMA _pg_flo"]) {
        assert.ok(fixes.includes(right), fixes);
      }
      await nothingMade(database);

      await database.client.query(`alter role ${quoted} replication`);
      await database.client.query(script.stdout.replace(/^CREATE ROLE.*$/m, ""));
      const publication = /source: \{ publication: (\w+) \}/.exec(script.stdout)![1]!;
      await using granted = await makePipeline({ source: server.config(database.name, login), publication });
      const checked = await granted.run(["check"]);
      assert.equal(checked.code, 0, checked.stdout);
      const init = await granted.run(["init"]);
      assert.equal(init.code, 0, init.stdout);
      await replicate(granted, database);
      assert.equal((await granted.run(["query", "from a", "--format", "csv"])).stdout, "id\n1\n");
      const dropped = await granted.run(["drop", "--yes"]);
      assert.equal(dropped.code, 0, dropped.stderr);
      assert.match(dropped.stdout, /removed replication slot pg_flo_app_1\nremoved metadata/);
    } finally {
      await database.client.query("drop schema if exists _pg_flo cascade");
      await database.client.query(`drop owned by ${quoted}; drop role ${quoted}`);
    }
  });

  test("names in the config that are not at the source are told with near ones", async () => {
    await using database = await server.createDatabase();
    await database.client.query("create table orders (id int primary key)");
    await using pipeline = await makePipeline({
      source: database.config,
      schemas: "{ public: { order: {} }, sale: { a: {} } }",
    });
    await refused(pipeline, database, { "table-missing": /did you mean orders\?/, "schema-missing": /schema sale/ });
  });

  test("damaged metadata and metadata of a newer version are told before anything is done", async () => {
    await using database = await server.createDatabase();
    await using pipeline = await makePipeline({ source: database.config });
    assert.equal((await pipeline.run(["init"])).code, 0);
    await database.client.query("insert into _pg_flo.migrations values (999, 'later', 'sha256:0')");
    const newer = await pipeline.run(["check"]);
    assert.equal(newer.code, 1);
    assert.match(newer.stdout, /written by a newer pg-flo, version 999[\s\S]*fix: use the pg-flo version that wrote/);
    const dropped = await pipeline.run(["drop", "--yes"]);
    assert.equal(dropped.code, 1);
    assert.match(dropped.stderr, /^\[METADATA_VERSION\]/);
    await database.client.query("delete from _pg_flo.migrations where version = 999; drop table _pg_flo.files");
    const corrupt = await pipeline.run(["check", "--json"]);
    assert.equal(corrupt.code, 1);
    assert.ok((JSON.parse(corrupt.stdout) as Checked).findings.some(({ code }) => code === "metadata-corrupt"));
    for (const command of [["status"], ["query", "select 1"]]) {
      const { code, stderr } = await pipeline.run(command);
      assert.equal(code, 1);
      assert.match(stderr, /^\[METADATA_CORRUPT\] [^\n]*\n$/);
    }
  });

  test("commands that read tell an unknown group, an unknown position and a wrong config, and make nothing", async () => {
    await using database = await server.createDatabase();
    await using pipeline = await makePipeline({ source: database.config });
    for (const command of [["status"], ["query", "select 1"]]) {
      const { code, stderr } = await pipeline.run(command);
      assert.equal(code, 1);
      assert.match(stderr, /^\[GROUP_MISSING\] [^\n]*run pg-flo init or pg-flo replicate first\n$/);
    }
    assert.equal((await pipeline.run(["query", "select 1", "--at", "soon"])).code, 2);
    const drop = await pipeline.run(["drop", "--yes"]);
    assert.deepEqual([drop.code, drop.stdout], [0, "nothing of group app was there\n"]);
    await nothingMade(database);
    await writeFile(join(pipeline.folder, "pg-flo.yaml"), "group: A\n");
    for (const command of ["check", "init", "status", "query", "drop"]) {
      assert.equal((await pipeline.run([command])).code, 2, command);
    }
  });
});

test("a server with wal_level=replica is refused with the setting to change", async () => {
  await using server = await startPostgres({ settings: { wal_level: "replica" } });
  await using database = await server.createDatabase();
  await using pipeline = await makePipeline({ source: database.config });
  await refused(pipeline, database, { "wal-level": /ALTER SYSTEM SET wal_level = 'logical'/ });
});

test("a server without a free slot is refused, and says which slots are not used", async () => {
  await using server = await startPostgres({ settings: { max_replication_slots: "1" } });
  await using database = await server.createDatabase();
  await using other = await server.createDatabase();
  await other.client.query("select pg_create_logical_replication_slot('taken', 'pgoutput')");
  await using pipeline = await makePipeline({ source: database.config });
  await refused(pipeline, database, { "no-free-slot": /max_replication_slots.*WHERE NOT active/ });
});
