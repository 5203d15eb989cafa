import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  at,
  makeGroup,
  makeMetadata,
  makeTables,
  makeWorker,
  newFile,
  tableColumn,
  testLeaseMs,
  wantedTable,
} from "../../test/support/metadata.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { commitBatch } from "./batches.ts";
import { clearTableError } from "./copy-again.ts";
import { registerTables } from "./register-tables.ts";
import { answerReload, readReloadAnswers, readRequests, requestReload, requestTables } from "./requests.ts";
import { readManifest } from "./status.ts";
import { activateStream, claimStream, ensureStream } from "./streams.ts";
import { postponeRetry, readTables, setTableError, tablesToRetry } from "./tables.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

async function makeStreaming(names: readonly string[]) {
  const metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const wanted = names.map((name) => wantedTable(name, { mode: "stream-only" }));
  const tables = await makeTables(pool, group, wanted);
  const workerId = await makeWorker(pool, group);
  await ensureStream(pool, { group, stream: 1, slotName: "slot", publications: [] });
  const claim = await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs });
  assert.ok(claim.taken);
  await activateStream(pool, claim.fence, at(100), tables);
  return { metadata, pool, group, tables, workerId, wanted, fence: claim.fence };
}

const files = async (pool: Parameters<typeof readManifest>[0], group: string) =>
  (await readManifest(pool, group)).tables.map(({ table, files }) => [table.name, table.state, files.length]);

test("a paused table keeps its files and gets no more, the others do; resumed it begins anew", async () => {
  const { metadata, pool, group, tables, fence } = await makeStreaming(["still", "moving"]);
  await using _ = metadata;
  const [still, moving] = tables;
  const batch = (number: bigint) => ({
    ...fence,
    batch: number,
    position: at(100 + Number(number)),
    files: [newFile(still!, `still-${number}`), newFile(moving!, `moving-${number}`)],
    tableCounters: [],
    newVersions: [],
  });
  await commitBatch(pool, batch(1n));
  const before = await readRequests(pool, group);
  assert.deepEqual(await requestTables(pool, group, [still!.tableId], "pause"), [still!.tableId]);
  assert.deepEqual(await requestTables(pool, group, [still!.tableId], "pause"), [], "it is paused already");
  assert.equal((await readRequests(pool, group)).requests, before.requests + 2n);
  const refused = await commitBatch(pool, batch(2n));
  assert.deepEqual(refused, { result: "committed", refusedPaths: ["still-2"] });
  assert.deepEqual(await files(pool, group), [
    ["moving", "streaming", 2],
    ["still", "paused", 1],
  ]);
  assert.deepEqual(await requestTables(pool, group, [still!.tableId, moving!.tableId], "resume"), [still!.tableId]);
  assert.deepEqual(await files(pool, group), [
    ["moving", "streaming", 2],
    ["still", "pending", 0],
  ]);
  assert.equal((await readTables(pool, group)).find(({ name }) => name === "still")?.generation, 2);
});

test("a table that is copied again loses its files at once, and what was written for the old copy stays out", async () => {
  const { metadata, pool, group, tables, fence } = await makeStreaming(["again"]);
  await using _ = metadata;
  const [table] = tables;
  const batch = (number: bigint) => ({
    ...fence,
    batch: number,
    position: at(100 + Number(number)),
    files: [newFile(table!, `file-${number}`)],
    tableCounters: [],
    newVersions: [],
  });
  await commitBatch(pool, batch(1n));
  assert.deepEqual(await requestTables(pool, group, [table!.tableId], "resync"), [table!.tableId]);
  const refused = await commitBatch(pool, batch(2n));
  assert.deepEqual(refused, { result: "committed", refusedPaths: ["file-2"] });
  assert.deepEqual(await files(pool, group), [["again", "pending", 0]]);
});

test("a pause outlives a changed definition, and what the config no longer names is removed", async () => {
  const { metadata, pool, group, tables, wanted } = await makeStreaming(["t"]);
  await using _ = metadata;
  await requestTables(pool, group, [tables[0]!.tableId], "pause");
  const altered = [{ ...wanted[0]!, oid: 17_000, columns: [tableColumn("id", 1), tableColumn("more", 2)] }];
  const registration = await registerTables(pool, group, altered);
  assert.deepEqual([registration.restartedIds, registration.changed], [[], []]);
  assert.deepEqual([registration.tables[0]?.state, registration.tables[0]?.relationOid], ["paused", 16_384]);
  await requestTables(pool, group, [tables[0]!.tableId], "resume");
  const { tables: resumed } = await registerTables(pool, group, altered);
  assert.deepEqual([resumed[0]?.state, resumed[0]?.relationOid, resumed[0]?.columns.length], ["pending", 17_000, 2]);
  await requestTables(pool, group, [tables[0]!.tableId], "pause");
  const { tables: removed } = await registerTables(pool, group, []);
  assert.equal(removed[0]?.state, "removed");
  assert.deepEqual(await requestTables(pool, group, [tables[0]!.tableId], "resync"), []);
});

test("a failed table is tried again after waits that double, and begins small again after a request by hand", async () => {
  const { metadata, pool, group, tables } = await makeStreaming(["t"]);
  await using _ = metadata;
  const [table] = tables;
  const waitMinutes = async () => {
    const [now] = await readTables(pool, group);
    const { rows } = await pool.query("select now()");
    return now?.retryAt ? Math.round((now.retryAt.getTime() - rows[0].now.getTime()) / 60_000) : null;
  };
  const fail = async () => {
    const [now] = await readTables(pool, group);
    assert.ok(await setTableError(pool, now!, { code: "TABLE_FAILED", message: "no" }));
  };
  const waits: (number | null)[] = [];
  for (let times = 0; times < 4; times++) {
    await fail();
    await fail(); // the same try, told twice
    waits.push(await waitMinutes());
    assert.deepEqual(await tablesToRetry(pool, group), []);
    await pool.query("update _pg_flo.tables set retry_at = now() - interval '1 second'");
    assert.deepEqual(
      (await tablesToRetry(pool, group)).map(({ name }) => name),
      ["t"],
    );
    const [failed] = await readTables(pool, group);
    assert.deepEqual(await clearTableError(pool, group, failed!), []);
    assert.equal(await waitMinutes(), null);
  }
  assert.deepEqual(waits, [1, 2, 4, 8]);
  await fail();
  await postponeRetry(pool, table!.tableId);
  assert.equal(await waitMinutes(), 32);
  await requestTables(pool, group, [table!.tableId], "resync");
  await fail();
  assert.equal(await waitMinutes(), 1);
});

test("a reload is answered by each worker, and an answer to an older one does not count", async () => {
  const { metadata, pool, group, workerId } = await makeStreaming([]);
  await using _ = metadata;
  const first = await requestReload(pool, group);
  await answerReload(pool, { workerId, reload: first, accepted: true, lines: ["schemas"] });
  assert.deepEqual(
    (await readReloadAnswers(pool, group, first)).map(({ answer }) => answer),
    [{ accepted: true, lines: ["schemas"] }],
  );
  const second = await requestReload(pool, group);
  assert.equal((await readRequests(pool, group)).reloads, second);
  assert.deepEqual(
    (await readReloadAnswers(pool, group, second)).map(({ answer }) => answer),
    [null],
  );
  await answerReload(pool, { workerId, reload: second, accepted: false, lines: ["storage: wrong"] });
  await answerReload(pool, { workerId, reload: first, accepted: true, lines: [] });
  assert.deepEqual(
    (await readReloadAnswers(pool, group, second)).map(({ answer }) => answer),
    [{ accepted: false, lines: ["storage: wrong"] }],
  );
});

test("what is asked of an unknown group is refused", async () => {
  await using metadata = await makeMetadata(server);
  const missing = (error: unknown) => error instanceof PgFloError && error.code === "GROUP_MISSING";
  await assert.rejects(readRequests(metadata.pool, "nobody"), missing);
  await assert.rejects(requestReload(metadata.pool, "nobody"), missing);
  await assert.rejects(requestTables(metadata.pool, "nobody", [], "pause"), missing);
});
