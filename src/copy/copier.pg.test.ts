import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { makeTestFolder } from "../../test/support/folder.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { readTables, readTypes } from "../postgres/catalog.ts";
import { type CopierEvents, runCopiers } from "./copier.ts";
import type { CopyJob } from "./copier-messages.ts";
import { RateLimit } from "./rate-limit.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** A table and its whole copy as one job, in a snapshot that is held until `client` ends its transaction. */
async function setUp() {
  const database = await server.createDatabase();
  const folder = await makeTestFolder();
  const { client } = database;
  await client.query("create table t (id int primary key); insert into t select generate_series(1, 1000)");
  const [table] = await readTables(client);
  const types = await readTypes(client);
  await client.query("begin transaction isolation level repeatable read");
  const { rows } = await client.query(
    "select pg_export_snapshot() as snapshot, pg_relation_filenode('t')::int as filenode",
  );
  const { snapshot, filenode } = rows[0];
  const job: CopyJob = {
    ...{ jobId: 7, snapshot, snapshotLsn: 1n, group: "app", schema: "public", table: "t", schemaVersion: 1 },
    ...{ columns: table!.columns, exactOnly: false, bloomFilter: [], rangeNumber: 0 },
    ...{ heapOid: table!.oid, heapSchema: "public", heapName: "t", relfilenode: filenode, blockFrom: 0, blockTo: null },
  };
  const storage = { kind: "local", root: folder.path } as const;
  const compression = "zstd" as const;
  const { shared: rate } = new RateLimit();
  const options = {
    rate,
    source: database.config,
    applicationName: "test copy",
    storage,
    types,
    fileSizeBytes: 1e6,
    compression,
  };
  const unwanted: Omit<CopierEvents, "nextJob" | "done"> = {
    rewritten: async () => assert.fail(),
    failed: async (_, error) => assert.fail(error),
    progress: () => {},
  };
  return {
    ...{ database, job },
    copy: (connections: number, events: Pick<CopierEvents, "nextJob" | "done">) =>
      runCopiers(options, connections, { ...unwanted, ...events }, new AbortController().signal),
    async [Symbol.asyncDispose]() {
      await client.query("rollback");
      await folder[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

test("a failure ends the copiers only when what they read before is stored", async () => {
  await using it = await setUp();
  const jobs = [it.job];
  const storing = Promise.withResolvers<void>();
  let stored = 0;
  const copying = it.copy(1, {
    nextJob: async () => {
      const next = jobs.shift();
      if (next) return next;
      await storing.promise;
      throw new Error("the next one cannot be claimed");
    },
    done: async (_, result) => {
      storing.resolve();
      await sleep(300);
      stored += result.rowCount;
    },
  });
  await assert.rejects(copying, /cannot be claimed/);
  assert.equal(stored, 1000);
});

test("a lost connection ends the copiers also while another one waits for a range", { timeout: 30_000 }, async () => {
  await using it = await setUp();
  const locking = await it.database.connect();
  await locking.query("begin; lock table t"); // the copy stands still
  const jobs = [it.job];
  const end = Promise.withResolvers<null>();
  const copying = it.copy(2, {
    // As long as a range is not given back there may be more to read.
    nextJob: async () => jobs.shift() ?? end.promise,
    done: async () => assert.fail(),
  });
  const rejected = assert.rejects(copying, { code: "CONNECTION_LOST" }).finally(() => end.resolve(null));
  for (let found = 0; found === 0; await sleep(20)) {
    const ended = await server.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where application_name = 'test copy' and wait_event_type = 'Lock'`,
    );
    found = ended.length;
  }
  await rejected;
  await locking.query("rollback");
});
