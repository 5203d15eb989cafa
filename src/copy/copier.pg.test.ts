import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { makeTestFolder } from "../../test/support/folder.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { readTables, readTypes } from "../postgres/catalog.ts";
import { runCopiers } from "./copier.ts";
import type { CopyJob } from "./copier-messages.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

test("a failure ends the copiers only when what they read before is stored", async () => {
  await using database = await server.createDatabase();
  await using folder = await makeTestFolder();
  const { client } = database;
  await client.query("create table t (id int primary key); insert into t select generate_series(1, 1000)");
  const [table] = await readTables(client);
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
  const jobs = [job];
  const storing = Promise.withResolvers<void>();
  let stored = 0;
  const copying = runCopiers(
    {
      source: database.config,
      applicationName: "test copy",
      storage: { kind: "local", root: folder.path },
      types: await readTypes(client),
      fileSizeBytes: 1e6,
    },
    1,
    {
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
      rewritten: async () => assert.fail(),
      failed: async (_, error) => assert.fail(error),
      progress: () => {},
    },
    new AbortController().signal,
  );
  await assert.rejects(copying, /cannot be claimed/);
  assert.equal(stored, 1000);
  await client.query("rollback");
});
