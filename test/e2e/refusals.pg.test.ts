// What is wrong is told in one message with its fix and the right exit code; nothing is lost by it.
import assert from "node:assert/strict";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import { connectTo, startPostgres, type TestServer } from "../support/postgres.ts";
import { makeRun, type RunOptions } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** Runs `replicate`, which must end with this code and tell this, once, with a fix, and without secrets. */
async function refused(
  options: RunOptions,
  expected: { readonly code: number; readonly says: RegExp; readonly fix: RegExp },
): Promise<void> {
  await using run = await makeRun(options);
  const result = await run.run(["replicate"], 20_000);
  assert.equal(result.code, expected.code, `exit code: ${result.stderr}`);
  assert.match(result.stderr, expected.says);
  assert.match(result.stderr, expected.fix);
  assert.equal(result.stderr.match(/^\[[A-Z_]+\] /gm)?.length, 1, `one message: ${result.stderr}`);
  assert.doesNotMatch(result.stderr, /^ +at /m, "no stack");
  if (options.source.password) assert.ok(!result.stderr.includes(options.source.password), "no secret");
}

async function closedPort(): Promise<number> {
  const listening = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => listening.once("listening", resolve));
  const { port } = listening.address() as { port: number };
  await new Promise((resolve) => listening.close(resolve));
  return port;
}

test("a source, and a metadata server, that cannot be reached", async () => {
  await using database = await server.createDatabase();
  const away: ConnectionConfig = { ...database.config, port: await closedPort() };
  const expected = { code: 1, says: /^\[CONNECTION_FAILED\].*ECONNREFUSED/m, fix: /check host, port, firewall/ };
  await refused({ source: away }, expected);
  await refused({ source: database.config, metadata: away }, expected);
});

test("a wrong password and a wrong database", async () => {
  await using database = await server.createDatabase();
  const says = /^\[AUTHENTICATION_FAILED\]/m;
  const wrong = { ...database.config, password: "not-the-password" };
  await refused({ source: wrong }, { code: 1, says, fix: /check user, password/ });
  await refused({ source: { ...database.config, database: "nowhere" } }, { code: 1, says, fix: /create the database/ });
});

test("mistakes in the config are told all at once", async () => {
  await using database = await server.createDatabase();
  await refused(
    { source: database.config, schemas: "{}", stream: "{ flush_interval: soon, streems: 1 }", more: ["lease: 0s"] },
    { code: 2, says: /flush_interval[\s\S]*lease|lease[\s\S]*flush_interval/, fix: /streems[\s\S]*correct|correct/ },
  );
});

test("a role without REPLICATION, and one without SELECT", async () => {
  await using database = await server.createDatabase();
  await database.client.query(`create table secret (id int primary key);
    create role ${database.name}_a login password 'weak'; grant create on database ${database.name} to ${database.name}_a;
    create role ${database.name}_b login password 'weak' replication; grant create on database ${database.name} to ${database.name}_b`);
  const login = (role: string) => server.config(database.name, { user: `${database.name}_${role}`, password: "weak" });
  await refused(
    { source: login("a"), schemas: "{ public: { secret: {} } }" },
    { code: 1, says: /^\[PREFLIGHT_FAILED\][\s\S]*may not replicate/m, fix: /ALTER ROLE .* REPLICATION/ },
  );
  await refused(
    { source: login("b"), schemas: "{ public: { secret: {} } }" },
    { code: 1, says: /^\[PREFLIGHT_FAILED\][\s\S]*secret/m, fix: /GRANT SELECT/ },
  );
  await database.client.query(
    `drop owned by ${database.name}_a, ${database.name}_b; drop role ${database.name}_a, ${database.name}_b`,
  );
});

test("a server with wal_level = replica, and one without a free slot", async () => {
  {
    await using small = await startPostgres({ settings: { wal_level: "replica" } });
    await small.query("create table t (id int primary key)");
    const expected = { code: 1, says: /^\[PREFLIGHT_FAILED\][\s\S]*wal_level/m, fix: /wal_level = 'logical'/ };
    await refused({ source: small.config() }, expected);
  }
  await using full = await startPostgres({ settings: { max_replication_slots: 1 } });
  await full.query("create table t (id int primary key)");
  await full.query("select pg_create_physical_replication_slot('mine')");
  const expected = {
    code: 1,
    says: /^\[PREFLIGHT_FAILED\][\s\S]*none is free/m,
    fix: /ALTER SYSTEM SET max_replication_slots/,
  };
  await refused({ source: full.config() }, expected);
  assert.deepEqual(await full.query("select nspname from pg_namespace where nspname = '_pg_flo'"), []);
});

test("a storage folder that cannot be written, and one that is a file", async () => {
  await using database = await server.createDatabase();
  await using scratch = await makeRun({ source: database.config });
  const file = join(scratch.folder, "file");
  await writeFile(file, "");
  const isFile = { code: 1, says: /^\[STORAGE_FAILED\]/m, fix: /move the file away/ };
  await refused({ source: database.config, storage: join(file, "data") }, isFile);
  const folder = join(scratch.folder, "locked");
  await mkdir(folder);
  await chmod(folder, 0o500);
  const denied = { code: 1, says: /^\[STORAGE_DENIED\]/m, fix: /right to write|read-only|another storage/ };
  const options = { source: database.config, storage: join(folder, "data") };
  if (process.getuid?.() !== 0) return await refused(options, denied);
  // Rights do not hold root back; the kernel's own file systems do.
  await refused({ ...options, storage: "/sys/pg-flo" }, denied);
});

test("metadata of a newer version, damaged metadata, and metadata of another storage", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key)");
  await using run = await makeRun({ source: database.config });
  await run.catchUp();
  const tell = async () => {
    const result = await run.run(["replicate", "--until-caught-up"]);
    assert.equal(result.stderr.match(/^\[[A-Z_]+\] /gm)?.length, 1, result.stderr);
    return `${result.code} ${result.stderr}`;
  };
  await client.query("alter table _pg_flo.files rename to filez");
  assert.match(await tell(), /^1 [\s\S]*\[METADATA_CORRUPT\].*files[\s\S]*backup/);
  await client.query("alter table _pg_flo.filez rename to files");
  const { rows } = await client.query(
    "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid where a.attname = 'version' and relnamespace = '_pg_flo'::regnamespace and c.relkind = 'r'",
  );
  const migrations = rows[0].relname;
  await client.query(`create table saved as select * from _pg_flo.${migrations}`);
  await client.query(`update _pg_flo.${migrations} set version = version + 1000`);
  assert.match(await tell(), /^1 [\s\S]*\[METADATA_(VERSION|CORRUPT)\]/);
  await client.query(`delete from _pg_flo.${migrations}; insert into _pg_flo.${migrations} select * from saved`);
  await run.catchUp();
  await run.configure({ storage: join(run.folder, "elsewhere") });
  assert.match(await tell(), /^2 [\s\S]*\[CONFIG_INVALID\].*belongs to another storage/);
});

test("a slot that was dropped, and one that somebody else read, are SLOT_LOST with the cause", async () => {
  await using database = await server.createDatabase();
  const { client } = database;
  await client.query("create table t (id int primary key)");
  await using run = await makeRun({ source: database.config });
  await run.catchUp();
  await client.query("insert into t values (1)");
  await client.query("select pg_replication_slot_advance('pg_flo_app_1', pg_current_wal_lsn())");
  const moved = await run.run(["replicate"], 20_000);
  assert.equal(moved.code, 1, moved.stderr);
  assert.match(moved.stderr, /^\[SLOT_LOST\].*stands beyond what is durable.*pg-flo replicate --resync/m);

  assert.equal((await run.run(["drop", "--yes", "--files"])).code, 0);
  await run.catchUp();
  await using worker = run.start();
  await worker.saw(/streaming/);
  for (;;) {
    await client.query(
      "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'pg_flo_app_1' and active",
    );
    const dropped = await client.query("select pg_drop_replication_slot('pg_flo_app_1')").catch(() => null);
    if (dropped) break;
  }
  const { code, stderr } = await worker.ended;
  assert.equal(code, 1, stderr);
  assert.match(
    stderr,
    /^\[SLOT_LOST\] replication slot "pg_flo_app_1" does not exist any more.*pg-flo replicate --resync/m,
  );
  const again = await run.run(["replicate"], 20_000);
  assert.match(again.stderr, /^\[SLOT_LOST\] replication slot "pg_flo_app_1" does not exist any more/m);
});

test("what one worker lost by a metadata database without rights is told", async () => {
  await using database = await server.createDatabase();
  await using metadata = await server.createDatabase();
  const admin = await connectTo(server.config());
  await admin.query(`create role ${metadata.name}_m login password 'weak'`);
  await refused(
    {
      source: database.config,
      metadata: server.config(metadata.name, { user: `${metadata.name}_m`, password: "weak" }),
    },
    { code: 1, says: /^\[(PERMISSION_DENIED|PREFLIGHT_FAILED)\]/m, fix: /GRANT CREATE|grant that role CREATE/i },
  );
  await admin.query(`drop role ${metadata.name}_m`);
  await admin.end();
});
