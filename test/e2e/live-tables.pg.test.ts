// Tables that come, go, fail and are begun anew while one worker runs: the stream stays the same connection, and the other
// tables notice nothing.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Client } from "pg";
import type { CliProcess } from "../support/cli.ts";
import { assertEqualToSource } from "../support/mirror-sql.ts";
import { startPostgres, type TestDatabase, type TestServer } from "../support/postgres.ts";
import { makeRun, type ReplicationRun, type RunOptions, until } from "../support/replication-run.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

interface Live extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly client: Client;
  readonly run: ReplicationRun;
  readonly worker: CliProcess;
  state(table: string): Promise<string | undefined>;
  generation(table: string): Promise<number>;
  becomes(table: string, state: string): Promise<void>;
  /** The worker reads one stream, over the connection that it began with. */
  assertOneStream(): void;
  /** Stops the worker, catches up, and compares. */
  equal(...tables: string[]): Promise<void>;
}

const FILLED_ROWS = 2000;
const filled = (name: string) =>
  `create table ${name} (id int primary key, n int not null default 0, x text);
   insert into ${name} select n, 0, md5(n::text) from generate_series(1, ${FILLED_ROWS}) n;`;

/** Slots are the server's: each test has a group of its own. */
let groups = 0;

async function live(sql: string, options: Partial<RunOptions> = {}): Promise<Live> {
  const group = `live${++groups}`;
  const database = await server.createDatabase();
  const { client } = database;
  await client.query(sql);
  const run = await makeRun({ source: database.config, group, more: ["discovery_interval: 1s"], ...options });
  const worker = run.start();
  const row = async (table: string) =>
    (await client.query("select state, generation from _pg_flo.tables where table_name = $1", [table])).rows[0];
  await worker.saw(/streaming slot=/);
  return {
    ...{ database, client, run, worker },
    state: async (table) => (await row(table))?.state,
    generation: async (table) => (await row(table))?.generation,
    becomes: (table, state) => until(`${table} is ${state}`, async () => (await row(table))?.state === state),
    assertOneStream: () => assert.equal(worker.stderr.match(/ streaming slot=/g)?.length, 1, worker.stderr),
    equal: async (...tables) => {
      assert.ok(worker.running, worker.stderr);
      worker.kill("SIGTERM");
      assert.equal((await worker.ended).code, 0, worker.stderr);
      await run.catchUp();
      await assertEqualToSource(
        { source: client, root: run.root, group },
        tables.map((name) => ({ name })),
      );
    },
    async [Symbol.asyncDispose]() {
      await worker[Symbol.asyncDispose]();
      await run[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

/** Inserts, updates, moves and deletes rows of the tables until the work is done. Each has as many rows as before. */
async function whileWritten(client: Client, tables: readonly string[], work: () => Promise<void>): Promise<void> {
  let ended = false;
  const writing = (async () => {
    for (let step = 1; !ended; step++) {
      // First the rows that it was filled with, then those that were moved, the oldest first.
      const gone = step <= FILLED_ROWS ? step : -(10_000 + step - FILLED_ROWS);
      for (const table of tables) {
        await client.query(
          `begin; update ${table} set n = n + 1 where id % 50 = ${step % 50}; insert into ${table} values (${10_000 + step}, 1, 'new');
           update ${table} set id = -id where id = ${10_000 + step - 1}; delete from ${table} where id = ${gone}; commit`,
        );
      }
    }
  })();
  await work().finally(() => {
    ended = true;
  });
  await writing;
}

const ok = async (run: ReplicationRun, ...args: string[]) => {
  const result = await run.run(args);
  assert.equal(result.code, 0, result.stderr);
  return result;
};

describe("while a worker runs", { concurrency: 2 }, () => {
  test("a table that is created and written is found, copied and followed over the same connection", async () => {
    await using it = await live(filled("old"));
    const writer = await it.database.connect();
    await it.becomes("old", "streaming");
    await whileWritten(writer, ["old"], async () => {
      await it.client.query(`${filled("new")} create table other (id int primary key, tags text[]);
        insert into other select n, array['a', n::text] from generate_series(1, 100) n`);
      await whileWritten(await it.database.connect(), ["new"], () => it.becomes("new", "streaming"));
      await it.becomes("other", "streaming");
    });
    it.assertOneStream();
    assert.equal(await it.generation("old"), 1);
    await it.equal("old", "new", "other");
  });

  test("a table that is dropped is removed, its files stay, and one made anew under its name is copied", async () => {
    await using it = await live(`${filled("goes")} ${filled("stays")}`);
    await it.becomes("goes", "streaming");
    await it.client.query("drop table goes");
    await it.becomes("goes", "removed");
    const { rows } = await it.client.query(
      "select count(*)::int as files from _pg_flo.files where table_name = 'goes'",
    );
    assert.ok(rows[0].files > 0);
    await it.client.query("create table goes (name text primary key); insert into goes values ('a'), ('b')");
    await it.becomes("goes", "streaming");
    await it.client.query("update goes set name = 'c' where name = 'a'");
    it.assertOneStream();
    await it.equal("goes", "stays");
  });

  test("a table is copied again while it is written, and the others go on", async () => {
    await using it = await live(`${filled("again")} ${filled("other")}`);
    const writer = await it.database.connect();
    await it.becomes("again", "streaming");
    await it.becomes("other", "streaming");
    await whileWritten(writer, ["again", "other"], async () => {
      for (let generation = 2; generation < 4; generation++) {
        const { stdout } = await ok(it.run, "resync", "again");
        assert.match(stdout, /public\.again: is copied again, 2000 rows/);
        await until("it begins anew", async () => (await it.generation("again")) === generation);
        await it.becomes("again", "streaming");
      }
    });
    it.assertOneStream();
    assert.deepEqual([await it.generation("again"), await it.generation("other")], [3, 1]);
    await it.equal("again", "other");
  });

  test("a paused table stays as it was and keeps no WAL, and resumed it is copied again", async () => {
    await using it = await live(`${filled("still")} ${filled("moving")}`);
    const writer = await it.database.connect();
    await it.becomes("still", "streaming");
    await it.becomes("moving", "streaming");
    const { stdout } = await ok(it.run, "pause", "public.still");
    assert.match(stdout, /paused: its files stay as they are, .*resuming copies it again, 2000 rows/);
    const files = async () =>
      (await it.client.query("select file_count from _pg_flo.tables where table_name = 'still'")).rows[0].file_count;
    const before = await files();
    const position = async () =>
      BigInt((await it.client.query("select position from _pg_flo.streams")).rows[0].position);
    await whileWritten(writer, ["still", "moving"], async () => {
      const from = await position();
      await until("the position moves", async () => (await position()) > from + 100_000n);
    });
    assert.equal(await files(), before);
    const status = JSON.parse((await ok(it.run, "status", "--json")).stdout);
    const still = status.tables.find(({ name }: { name: string }) => name === "still");
    assert.equal(still.state, "paused");
    assert.match(still.notes.join(), /pg-flo resume copies it again/);
    assert.match((await ok(it.run, "pause", "still")).stdout, /is paused already/);
    await ok(it.run, "resume", "still");
    await it.becomes("still", "streaming");
    it.assertOneStream();
    await it.equal("still", "moving");
  });

  test("a reload takes other tables and says what waits; a wrong config is refused with all mistakes", async () => {
    await using it = await live(`${filled("first")} ${filled("second")} ${filled("third")}`, {
      schemas: "{ public: { first: {}, second: {} } }",
    });
    await it.becomes("second", "streaming");
    await it.run.configure({ schemas: "{ public: { first: {}, third: {} } }", stream: "{ flush_interval: 150ms }" });
    const { stdout } = await ok(it.run, "reload");
    assert.match(stdout, /took the config\n {2}changed at once: schemas\n {2}changes at the next start: stream\n/);
    await it.becomes("third", "streaming");
    assert.equal(await it.state("second"), "removed");
    await it.client.query("update third set n = 7 where id < 100; update first set n = 8 where id < 100");
    for (const schemas of [
      "{ public: { first: {}, nowhere: {}, fisrt: {} } }",
      "{ public: { first: { mode: odd } } }",
    ]) {
      await it.run.configure({ schemas });
      const refused = await it.run.run(["reload"]);
      assert.notEqual(refused.code, 0);
      const said = refused.stdout + refused.stderr;
      if (schemas.includes("odd")) assert.match(said, /\[CONFIG_INVALID\].*mode/s);
      else assert.match(said, /kept the old config.*public\.nowhere.*public\.fisrt.*\[RELOAD_REFUSED\]/s);
    }
    assert.equal(await it.state("third"), "streaming");
    it.assertOneStream();
    await it.run.configure({ schemas: "{ public: { first: {}, third: {} } }" });
    await it.equal("first", "third");
  });

  test("copy.max_rate holds a copy back, and is lifted by a reload while it runs", async () => {
    const large =
      "create table large as select n as id, repeat(md5(n::text), 20) as x from generate_series(1, 30000) n";
    await using it = await live(large, { copy: "{ max_rate: 100kB }", more: ["lease: 3s"] });
    await it.worker.saw(/copying/);
    await until("some is read", async () => {
      const { rows } = await it.client.query("select size_bytes::int as bytes from _pg_flo.copy_ranges");
      return rows.some(({ bytes }) => bytes > 0);
    });
    assert.equal(await it.state("large"), "copying");
    await it.run.configure({ copy: "{ parallel: 2 }" });
    await ok(it.run, "reload");
    await it.becomes("large", "streaming"); // in minutes else
    await it.equal("large");
  });

  test("a table that somebody else owns waits alone, with its fix, and comes when the right is given", async () => {
    const [owner, role] = [`owner_${process.pid}`, `flo_${process.pid}`];
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create role ${owner}; create role ${role} login replication password 'secret';
      grant create, connect on database ${database.name} to ${role}; grant all on schema public to ${role}, ${owner};
      ${filled("mine")} alter table mine owner to ${role}`);
    const source = { ...database.config, user: role, password: "secret" };
    const group = "rights";
    await using run = await makeRun({ source, group, more: ["discovery_interval: 1s"] });
    {
      await using worker = run.start();
      const states = async () => {
        const { rows } = await client.query("select table_name as name, state from _pg_flo.tables order by 1");
        return rows.map(({ name, state }) => `${name} ${state}`).join(", ");
      };
      await worker.saw(/table copied/);
      await client.query(`${filled("theirs")} alter table theirs owner to ${owner}`);
      await until("it is told", async () => (await states()) === "mine streaming, theirs error");
      const status = JSON.parse((await ok(run, "status", "--json")).stdout);
      const [theirs] = status.tables.filter(({ name }: { name: string }) => name === "theirs");
      assert.match(
        theirs.error.message,
        new RegExp(`^\\[PREFLIGHT_FAILED\\] table public.theirs, .*GRANT SELECT ON "public"."theirs" TO "?${role}`),
      );
      // The other tables go on, and so does one that comes meanwhile.
      await client.query(`update mine set n = 1; ${filled("another")} alter table another owner to ${role}`);
      await until("the other goes on", async () => (await states()).startsWith("another streaming, mine streaming"));
      // The first right is not all that it lacks; each is noticed by itself.
      await client.query(`grant select on theirs to ${role}`);
      await until("the next is told", async () => {
        const { rows } = await client.query(
          "select error ->> 'message' as message from _pg_flo.tables where table_name = 'theirs'",
        );
        return /GRANT "?owner_/.test(rows[0].message);
      });
      await client.query(`grant ${owner} to ${role}; alter table theirs owner to ${role}`);
      await until("it comes", async () => (await states()) === "another streaming, mine streaming, theirs streaming");
      assert.equal(worker.stderr.match(/ streaming slot=/g)?.length, 1, worker.stderr);
      worker.kill("SIGTERM");
      assert.equal((await worker.ended).code, 0, worker.stderr);
    }
    await run.catchUp();
    await assertEqualToSource(
      { source: client, root: run.root, group },
      ["mine", "theirs", "another"].map((name) => ({ name })),
    );
    await client.query(`drop owned by ${role} cascade; drop owned by ${owner} cascade`).catch(() => {});
  });

  test("a look at the catalog that lacks a right is told, the stream goes on, and so do looks when it is given", async () => {
    const role = `looks_${process.pid}`;
    await using database = await server.createDatabase();
    const { client } = database;
    await client.query(`create role ${role} login replication password 'secret';
      grant create, connect on database ${database.name} to ${role}; grant all on schema public to ${role};
      ${filled("mine")} alter table mine owner to ${role}`);
    const source = { ...database.config, user: role, password: "secret" };
    const group = "looks";
    await using run = await makeRun({ source, group, more: ["discovery_interval: 1s"] });
    {
      await using worker = run.start();
      await worker.saw(/table copied/);
      await client.query("revoke select on pg_catalog.pg_index from public");
      // By both that look: whether there are other tables, and whether one is defined otherwise.
      await until("both tell it", async () => (worker.stderr.match(/could not be brought in line/g) ?? []).length >= 2);
      await client.query("update mine set n = 1");
      const { rows } = await client.query("select pg_current_wal_lsn() - '0/0' as lsn");
      await until("the stream goes on", async () => {
        const found = await client.query("select position >= $1 as yes from _pg_flo.streams", [rows[0].lsn]);
        return found.rows[0].yes;
      });
      await client.query(
        `grant select on pg_catalog.pg_index to public; ${filled("later")} alter table later owner to ${role}`,
      );
      await until("a new table comes", async () => {
        const found = await client.query("select state from _pg_flo.tables where table_name = 'later'");
        return found.rows[0]?.state === "streaming";
      });
      assert.equal(worker.stderr.match(/could not be brought in line/g)?.length, 2, "once each");
      assert.equal(worker.stderr.match(/ streaming slot=/g)?.length, 1, worker.stderr);
      worker.kill("SIGTERM");
      assert.equal((await worker.ended).code, 0, worker.stderr);
    }
    await run.catchUp();
    await assertEqualToSource({ source: client, root: run.root, group }, [{ name: "mine" }, { name: "later" }]);
    await client.query(`drop owned by ${role} cascade`);
  });

  test("a value that may not be inexact stops its table alone, and a changed config brings it back", async () => {
    const table = "create table exact (id int primary key, at timestamptz); insert into exact values (1, now())";
    await using it = await live(`${table}; ${filled("other")}`, {
      schemas: "{ public: { exact: { on_inexact: error }, other: {} } }",
    });
    await it.becomes("exact", "streaming");
    await it.becomes("other", "streaming");
    await it.client.query("update exact set at = 'infinity'; update other set n = 5");
    await it.becomes("exact", "error");
    const { rows } = await it.client.query(
      "select error ->> 'code' as code, retry_at > now() as later from _pg_flo.tables where table_name = 'exact'",
    );
    assert.deepEqual(rows, [{ code: "TABLE_FAILED", later: true }]);
    await it.run.configure({ schemas: "{ public: { exact: {}, other: {} } }" });
    await ok(it.run, "reload");
    await it.becomes("exact", "streaming");
    assert.equal(await it.generation("other"), 1);
    it.assertOneStream();
    await it.client.query("update exact set at = now()"); // what both sides have exactly
    await it.equal("exact", "other");
  });

  test("a failed table whose time has come is tried again by itself", async () => {
    await using it = await live(`create table exact (id int primary key, at timestamptz); ${filled("other")}`, {
      schemas: "{ public: { exact: { on_inexact: error }, other: {} } }",
    });
    await it.becomes("exact", "streaming");
    await it.client.query("insert into exact values (1, 'infinity')");
    await it.becomes("exact", "error");
    await it.client.query("update exact set at = now()");
    await it.client.query("update _pg_flo.tables set retry_at = now() where state = 'error'");
    await it.becomes("exact", "streaming");
    await it.equal("exact", "other");
  });
});
