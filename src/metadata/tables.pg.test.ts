import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
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
import type { TableMode } from "../config/config.ts";
import { openPool } from "../postgres/connect.ts";
import { commitBatch } from "./batches.ts";
import { clearTableError, copyAgain } from "./copy-again.ts";
import { addEvent, eventsKept, readEvents } from "./events.ts";
import { dropGroup, readGroup, registerGroup } from "./groups.ts";
import { limitIdleTransactions, rows, transaction } from "./queryable.ts";
import { planRanges } from "./range-plans.ts";
import { claimRange, completeRange } from "./ranges.ts";
import { registerTables } from "./register-tables.ts";
import { requestTables } from "./requests.ts";
import { readManifest, readStatus } from "./status.ts";
import { activateStream, claimStream, ensureStream, takeCut } from "./streams.ts";
import { next, type TableEvent, type TableState } from "./table-state.ts";
import { alterTable, readTables, setTableError, type Table } from "./tables.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

const code = (expected: string) => (error: unknown) => error instanceof PgFloError && error.code === expected;

/** A group with stream 1 claimed and active at 100. */
async function makeStreaming(names: readonly string[]) {
  const metadata = await makeMetadata(server, 10);
  const { pool } = metadata;
  const group = await makeGroup(pool, "app");
  const wanted = names.map((name) => wantedTable(name, { mode: "stream-only" }));
  const tables = await makeTables(pool, group, wanted);
  await ensureStream(pool, { group, stream: 1, slotName: "slot", publications: ["p"] });
  const workerId = await makeWorker(pool, group);
  const claim = await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs });
  assert.ok(claim.taken);
  await activateStream(pool, claim.fence, at(100), tables);
  return { metadata, pool, group, wanted, tables, workerId, fence: claim.fence };
}

test("ten workers that register the same tables at once register each once", async () => {
  await using metadata = await makeMetadata(server, 10);
  const group = await makeGroup(metadata.pool, "app");
  const wanted = Array.from({ length: 30 }, (_, n) => wantedTable(`t${n}`, { oid: n }));
  const all = await Promise.all(Array.from({ length: 10 }, () => registerTables(metadata.pool, group, wanted)));
  assert.equal(all.filter(({ addedIds }) => addedIds.length === 30).length, 1);
  assert.equal(all.filter(({ addedIds }) => addedIds.length === 0).length, 9);
  for (const { tables, changed } of all) assert.deepEqual([tables.length, changed.length], [30, 0]);
});

test("names may hold anything, and what is registered is read back as it was", async () => {
  await using metadata = await makeMetadata(server);
  const group = await makeGroup(metadata.pool, 'a "group"; drop');
  const odd = ["select", "Upper Case", "q\"uo'te", "d.ot", "ünïcödé 表", "x".repeat(63), "%_\\"];
  const wanted = odd.map((name) =>
    wantedTable(name, { schema: name, columns: [tableColumn(name, 1)], identity: { kind: "full", columns: [name] } }),
  );
  const tables = await makeTables(metadata.pool, group, wanted);
  tables.forEach((table, n) => {
    assert.deepEqual(
      [table.schema, table.name, table.columns, table.identity, table.state, table.schemaVersion, table.generation],
      [odd[n], odd[n], wanted[n]?.columns, wanted[n]?.identity, "pending", 1, 1],
    );
  });
  assert.deepEqual((await registerTables(metadata.pool, group, wanted)).changed, []);
});

test("a table that the config no longer names is removed and keeps its files; named again it begins anew", async () => {
  const { metadata, pool, group, wanted, tables, fence } = await makeStreaming(["stays", "goes"]);
  await using _ = metadata;
  const files = tables.map((table) => newFile(table, `${table.name}.parquet`));
  await commitBatch(pool, { ...fence, batch: 1n, position: at(150), files, tableCounters: [], newVersions: [] });
  const goes = tables[1]!;
  const removal = await registerTables(pool, group, [wanted[0]!]);
  assert.deepEqual([removal.removedIds, removal.removedPaths], [[goes.tableId], []]);
  assert.deepEqual((await registerTables(pool, group, [wanted[0]!])).removedIds, []);
  const removed = (await readManifest(pool, group)).tables.find((each) => each.table.tableId === goes.tableId);
  assert.deepEqual([removed?.table.state, removed?.files.length], ["removed", 1]);
  const columns = [tableColumn("id", 1), tableColumn("more", 2)];
  const back = await registerTables(pool, group, [wanted[0]!, { ...wanted[1]!, columns }]);
  assert.deepEqual([back.restartedIds, back.removedPaths, back.changed], [[goes.tableId], ["goes.parquet"], []]);
  const again = back.tables.find((table) => table.tableId === goes.tableId);
  assert.deepEqual(
    [again?.state, again?.cutLsn, again?.generation, again?.schemaVersion, again?.columns, again?.changeFiles],
    ["pending", null, 2, 2, columns, 0],
  );
});

test("another mode, or a table that was dropped and created again, makes the table begin anew", async () => {
  const { metadata, pool, group, wanted, tables } = await makeStreaming(["mode", "recreated", "same"]);
  await using _ = metadata;
  const now = [wantedTable("mode", { mode: "copy-only" }), { ...wanted[1]!, oid: 999 }, wanted[2]!];
  const registration = await registerTables(pool, group, now);
  assert.deepEqual(registration.restartedIds, [tables[0]!.tableId, tables[1]!.tableId]);
  assert.deepEqual(
    registration.tables.map(({ state, mode, stream, relationOid }) => [state, mode, stream, relationOid]),
    [
      ["pending", "copy-only", null, 16_384],
      ["pending", "stream-only", 1, 999],
      ["streaming", "stream-only", 1, 16_384],
    ],
  );
  assert.deepEqual((await registerTables(pool, group, now)).restartedIds, []);
});

test("changed columns or identity are stored while a table is pending, and told, not overwritten, afterwards", async () => {
  const { metadata, pool, group, wanted, tables } = await makeStreaming(["t"]);
  await using _ = metadata;
  const columns = [tableColumn("id", 1), tableColumn("more", 2)];
  const identity = { kind: "key", columns: ["id", "more"] } as const;
  const pending = wantedTable("pending");
  await registerTables(pool, group, [wanted[0]!, pending]);
  const now = [
    { ...wanted[0]!, columns, identity },
    { ...pending, columns, identity },
  ];
  const { changed, tables: stored } = await registerTables(pool, group, now);
  assert.deepEqual(
    changed.map((change) => [change.table.name, change.columns, change.identity]),
    [["t", columns, identity]],
  );
  assert.deepEqual(
    stored.map((table) => [table.name, table.schemaVersion, table.columns.length]),
    [
      ["t", 1, 1],
      ["pending", 2, 2],
    ],
  );
  const change = { tableId: tables[0]!.tableId, generation: 1, schemaVersion: 1, columns, identity };
  assert.equal(await alterTable(pool, { ...change, generation: 0 }), null, "of a table that began anew since");
  assert.deepEqual([await alterTable(pool, change), await alterTable(pool, change)], [2, null]);
  assert.deepEqual((await registerTables(pool, group, now)).changed, []);
});

test("tables of an unknown group are refused", async () => {
  await using metadata = await makeMetadata(server);
  await assert.rejects(registerTables(metadata.pool, "nobody", []), code("GROUP_MISSING"));
});

test("a failed table tells its newest error and begins anew when the error is cleared", async () => {
  const { metadata, pool, group, tables } = await makeStreaming(["t"]);
  await using _ = metadata;
  const [table] = tables;
  assert.equal(await clearTableError(pool, group, table!), null);
  await setTableError(pool, table!, { code: "TABLE_FAILED", message: "first" });
  await setTableError(pool, table!, { code: "TABLE_CHANGED", message: "second" });
  const [failed] = (await readStatus(pool, group)).tables;
  assert.deepEqual([failed?.state, failed?.error?.code, failed?.error?.message], ["error", "TABLE_CHANGED", "second"]);
  assert.ok(!Number.isNaN(Date.parse(failed?.error?.at ?? "")));
  assert.deepEqual(await clearTableError(pool, group, table!), []);
  const [cleared] = await readTables(pool, group);
  assert.deepEqual([cleared?.state, cleared?.error, cleared?.generation], ["pending", null, 2]);
});

test("a table begins anew once, with the definition that was read, however many met the change", async () => {
  const { metadata, pool, group, wanted, tables } = await makeStreaming(["t"]);
  await using _ = metadata;
  const [table] = tables;
  const columns = [tableColumn("id", 1), tableColumn("more", 2)];
  const now = { ...wanted[0]!, columns };
  const met = await Promise.all([1, 2, 3].map(() => copyAgain(pool, group, table!, now)));
  assert.deepEqual(met.map((paths) => paths === null).sort(), [false, true, true]);
  const begun = (await readTables(pool, group))[0]!;
  assert.deepEqual([begun.state, begun.generation, begun.schemaVersion, begun.columns], ["pending", 2, 2, columns]);
  await registerTables(pool, group, [now]);
  assert.deepEqual(await readTables(pool, group), [begun], "nothing is left to store");
  await setTableError(pool, begun, { code: "TABLE_FAILED", message: "no" });
  assert.equal(await clearTableError(pool, group, table!, wanted[0]!), null, "of an older generation");
  assert.deepEqual(await clearTableError(pool, group, begun, wanted[0]!), []);
  const [cleared] = await readTables(pool, group);
  assert.deepEqual([cleared?.generation, cleared?.schemaVersion, cleared?.columns], [3, 3, wanted[0]!.columns]);
});

test("a table in the database goes through the same states as the state machine, whatever happens", async () => {
  const { metadata, pool, group, workerId, fence } = await makeStreaming([]);
  await using _ = metadata;
  const modes = fc.constantFrom<TableMode>("copy-and-stream", "stream-only", "copy-only");
  const kinds = fc.constantFrom<TableEvent["kind"]>(
    ...([
      "cutTaken",
      "rangesDone",
      "failed",
      "configuredAgain",
      "unconfigured",
      "copyAgain",
      "paused",
      "resumed",
    ] as const),
  );
  let number = 0;
  await fc.assert(
    fc.asyncProperty(modes, fc.array(kinds, { maxLength: 12 }), async (mode, events) => {
      number++; // also its OID: the same under two names would be a table that was renamed
      const wanted = wantedTable(`t${number}`, { mode, oid: 20_000 + number });
      const [table] = await makeTables(pool, group, [wanted]);
      const read = async () => (await readTables(pool, group)).find((one) => one.tableId === table!.tableId)!;
      let state: TableState = "pending";
      for (const kind of events) {
        await apply(kind, await read());
        const event = kind === "cutTaken" || kind === "rangesDone" ? { kind, mode } : { kind };
        state = next(state, event) ?? state;
        assert.equal((await read()).state, state, `after ${kind}`);
      }

      async function apply(kind: TableEvent["kind"], now: Table): Promise<void> {
        const { tableId, generation } = now;
        if (kind === "cutTaken") {
          const owner = mode === "copy-only" ? null : fence;
          await takeCut(pool, { group, fence: owner, tables: [now], lsn: at(200) });
        } else if (kind === "rangesDone") {
          const range = { heapOid: 1, heapSchema: "s", heapName: "h", relfilenode: 1, blockFrom: 0, blockTo: null };
          await planRanges(pool, { tableId, generation, tableBlocks: 1, ranges: [range] });
          const claim = await claimRange(pool, { group, workerId, leaseMs: testLeaseMs, tableIds: [tableId] });
          if (claim)
            await completeRange(pool, {
              range: claim,
              snapshotLsn: at(200),
              files: [],
              rows: 0,
              sizeBytes: 0,
              inexactColumns: {},
            });
        } else if (kind === "failed") {
          await setTableError(pool, now, { code: "TABLE_FAILED", message: "no" });
        } else if (kind === "unconfigured") {
          await registerTables(pool, group, []);
        } else if (kind === "configuredAgain") {
          await registerTables(pool, group, [wanted]);
        } else if (kind === "paused" || kind === "resumed") {
          await requestTables(pool, group, [tableId], kind === "paused" ? "pause" : "resume");
        } else {
          await copyAgain(pool, group, now);
        }
      }
    }),
    { numRuns: 30 },
  );
});

test("a group belongs to one source and one storage", async () => {
  await using metadata = await makeMetadata(server);
  const { pool } = metadata;
  const group = { name: "app", systemIdentifier: "1", sourceDatabase: "db", storageUrl: "file:///a" };
  await Promise.all([registerGroup(pool, group), registerGroup(pool, group), registerGroup(pool, group)]);
  const { createdAt: _, ...stored } = await readGroup(pool, "app");
  assert.deepEqual(stored, group);
  await assert.rejects(registerGroup(pool, { ...group, systemIdentifier: "2" }), code("CONFIG_INVALID"));
  await assert.rejects(registerGroup(pool, { ...group, sourceDatabase: "other" }), code("CONFIG_INVALID"));
  await assert.rejects(registerGroup(pool, { ...group, storageUrl: "file:///b" }), code("CONFIG_INVALID"));
});

test("a group that is not there is told as missing, with and without a schema, and nothing is made", async () => {
  await using database = await server.createDatabase();
  await assert.rejects(readGroup(database.client, "app"), code("GROUP_MISSING"));
  assert.deepEqual(await dropGroup(database.client, "app"), { existed: false, schemaDropped: false });
  const { rows } = await database.client.query("select 1 from pg_namespace where nspname like '%pg_flo%'");
  assert.deepEqual(rows, []);
  await using metadata = await makeMetadata(server);
  await assert.rejects(readGroup(metadata.pool, "app"), code("GROUP_MISSING"));
});

test("dropping a group leaves the other groups alone, and the last one takes the schema with it", async () => {
  const { metadata, pool, group, tables, fence } = await makeStreaming(["t"]);
  await using _ = metadata;
  const files = [newFile(tables[0]!, "a.parquet")];
  await commitBatch(pool, { ...fence, batch: 1n, position: at(150), files, tableCounters: [], newVersions: [] });
  await addEvent(pool, group, { severity: "info", code: "STARTED", subject: "worker", message: "started" });
  await makeGroup(pool, "other");
  await makeTables(pool, "other", [wantedTable("t")]);
  assert.deepEqual(await dropGroup(pool, group), { existed: true, schemaDropped: false });
  assert.deepEqual(await dropGroup(pool, group), { existed: false, schemaDropped: false });
  assert.equal((await readManifest(pool, "other")).tables.length, 1);
  const left = await pool.query(
    `select group_name from _pg_flo.files union all select group_name from _pg_flo.events
     union all select group_name from _pg_flo.streams union all select group_name from _pg_flo.workers`,
  );
  assert.deepEqual(left.rows, []);
  assert.deepEqual(await dropGroup(pool, "other"), { existed: true, schemaDropped: true });
  const schema = await pool.query("select 1 from pg_namespace where nspname = '_pg_flo'");
  assert.deepEqual(schema.rows, []);
});

test("dropping the last group keeps a schema that somebody's view needs, without the group's rows", async () => {
  const { metadata, pool, group } = await makeStreaming(["t"]);
  await using _ = metadata;
  await pool.query("create view public.mine as select path from _pg_flo.files");
  assert.deepEqual(await dropGroup(pool, group), { existed: true, schemaDropped: false });
  assert.deepEqual((await pool.query("select 1 from public.mine")).rows, []);
  await assert.rejects(readGroup(pool, group), code("GROUP_MISSING"));
});

test("events are kept up to their limit, the newest first", async () => {
  await using metadata = await makeMetadata(server);
  await metadata.pool.query(
    `insert into _pg_flo.events (group_name, severity, code, subject, message)
     select 'app', 'info', 'X', 's', n::text from generate_series(1, $1) n`,
    [eventsKept + 5],
  );
  await addEvent(metadata.pool, "app", { severity: "warning", code: "LAST", subject: "s", message: "last" });
  const events = await readEvents(metadata.pool, "app", eventsKept * 2);
  assert.equal(events.length, eventsKept);
  assert.deepEqual([events[0]?.code, events[1]?.message], ["LAST", String(eventsKept + 5)]);
});

test("statements that share one client with a transaction do not run inside it", async () => {
  await using metadata = await makeMetadata(server);
  const { client } = metadata.database;
  const event = { severity: "info", code: "X", subject: "s", message: "m" } as const;
  const [failed] = await Promise.allSettled([
    transaction(client, async (inside) => {
      await inside.query("select pg_sleep(0.05)");
      throw new Error("roll back");
    }),
    addEvent(client, "app", event),
    transaction(client, (inside) => addEvent(inside, "app", event)),
  ]);
  assert.equal(failed.status, "rejected");
  assert.equal((await readEvents(client, "app", 10)).length, 2);
});

test("transactions limit how long they wait, and say that the server is busy", async () => {
  await using metadata = await makeMetadata(server);
  const { client } = metadata.database;
  await client.query("begin; lock table _pg_flo.groups in access exclusive mode");
  const waits = transaction(metadata.pool, (inside) => rows(inside, "select from _pg_flo.groups"), {
    lockTimeoutMs: 20,
  });
  await assert.rejects(waits, code("SERVER_BUSY"));
  await client.query("rollback");
  const limits = await transaction(metadata.pool, (inside) =>
    rows<{ name: string }>(
      inside,
      "select name from pg_settings where name like '%timeout' and setting <> '0' and source = 'session'",
    ),
  );
  const names = limits.map((limit) => limit.name);
  assert.deepEqual(names.sort(), ["idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"]);
});

test("a transaction that stands still for longer than it may is ended, and what it had locked is free", async () => {
  await using metadata = await makeMetadata(server);
  const pool = await openPool(metadata.database.config, { applicationName: "stands still", max: 1 });
  try {
    await metadata.pool.query("create table locked (id int primary key); insert into locked values (1)");
    limitIdleTransactions(pool, 300);
    const still = transaction(pool, async (inside) => {
      await rows(inside, "update locked set id = 1");
      await sleep(1500);
      await rows(inside, "update locked set id = 2");
    });
    const failure = assert.rejects(still, code("CONNECTION_LOST"));
    await sleep(100);
    await rows(metadata.pool, "update locked set id = 3");
    await failure;
  } finally {
    await pool.end();
  }
});
