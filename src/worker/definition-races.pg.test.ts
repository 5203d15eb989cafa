// Whoever looks at a definition is a moment behind somebody else: what was stored meanwhile is not taken for a change.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parse, withKey } from "../../test/support/config-text.ts";
import { makeTestFolder } from "../../test/support/folder.ts";
import { at, makeGroup, makeMetadata, makeWorker, testLeaseMs } from "../../test/support/metadata.ts";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { silentLog } from "../base/log.ts";
import { registerTables } from "../metadata/register-tables.ts";
import { activateStream, claimStream, ensureStream } from "../metadata/streams.ts";
import { readTables, setTableError } from "../metadata/tables.ts";
import { openLocalStorage } from "../storage/local.ts";
import { resolveMisfit, storeChange } from "./definition-changes.ts";
import { discover, register, streamTables, toWanted } from "./discovery.ts";
import { emptyLeavesAt, planChanges } from "./planned-changes.ts";

let server: TestServer;
before(async () => {
  server = await startPostgres();
});
after(() => server[Symbol.asyncDispose]());

/** A table that streams, in a database that is the source and has the metadata. */
async function setUp() {
  const metadata = await makeMetadata(server);
  const { pool, database } = metadata;
  const { client } = database;
  const folder = await makeTestFolder();
  await client.query("create table t (id int primary key, v varchar(10))");
  const { host, port, user, password } = database.config;
  const url = `postgres://${user}:${encodeURIComponent(password ?? "")}@${host}:${port}/${database.name}`;
  const config = parse(withKey("source", `{ url: "${url}" }`));
  const group = await makeGroup(pool, config.group);
  const options = { config, db: pool, group, log: silentLog, storage: openLocalStorage(folder.path) };
  const read = async () => toWanted(await discover(client, config));
  const { tables } = await registerTables(pool, group, await read());
  await ensureStream(pool, { group, stream: 1, slotName: "slot", publications: ["p"] });
  const workerId = await makeWorker(pool, group);
  const claim = await claimStream(pool, { group, stream: 1, workerId, leaseMs: testLeaseMs });
  assert.ok(claim.taken);
  await activateStream(pool, claim.fence, at(100), tables);
  await pool.query("update _pg_flo.tables set state = 'streaming'"); // there is nothing to copy
  const stored = async () => (await readTables(pool, group))[0]!;
  return {
    ...{ client, config, options, read, stored },
    register: (wanted: Awaited<ReturnType<typeof read>>, known: Awaited<ReturnType<typeof readTables>>) =>
      register(options, wanted, known, emptyLeavesAt(client)),
    /** As who looks at the catalog, or the stream, does it. */
    storeVersion: async () => {
      const planned = await planChanges(pool, group, [await stored()], await read(), emptyLeavesAt(client));
      assert.ok(await storeChange(options, planned[0]!));
    },
    async [Symbol.asyncDispose]() {
      await folder[Symbol.asyncDispose]();
      await metadata[Symbol.asyncDispose]();
    },
  };
}

test("a version that was stored since the catalog was read is not held against what was read", async () => {
  await using it = await setUp();
  const before = [await it.stored()];
  const read = await it.read();
  await it.client.query("alter table t alter v type text"); // back to varchar(10) is no widening
  await it.storeVersion();
  assert.equal((await it.register(read, before)).complete, false);
  assert.equal((await it.register(await it.read(), [await it.stored()])).complete, true);
  const { state, generation, schemaVersion } = await it.stored();
  assert.deepEqual([state, generation, schemaVersion], ["streaming", 1, 2]);
});

test("a table that stopped since the catalog was read begins anew with what is read after it, once", async () => {
  await using it = await setUp();
  const before = [await it.stored()];
  const read = await it.read();
  await it.client.query("alter table t alter v type int using 1");
  await setTableError(it.options.db, before[0]!, { code: "TABLE_CHANGED", message: "as the stream tells it" });
  assert.equal((await it.register(read, before)).complete, false);
  assert.deepEqual([(await it.stored()).state, (await it.stored()).generation], ["error", 1]);
  const { complete, tables } = await it.register(await it.read(), [await it.stored()]);
  assert.deepEqual([complete, tables], [true, [await it.stored()]]);
  const { state, generation, columns } = await it.stored();
  assert.deepEqual([state, generation, columns[1]?.typeName], ["pending", 2, "integer"]);
});

test("a stream that meets the first change of a version that was stored a moment ago goes on", async () => {
  await using it = await setUp();
  const table = await it.stored();
  const { types } = await discover(it.client, it.config);
  const [streamed] = streamTables([table], types, it.config.schemas, 1).values();
  await it.client.query("alter table t add column c int");
  await it.storeVersion();
  const columns = (await it.stored()).columns.map(({ name, typeOid, typmod }) => ({ flags: 0, name, typeOid, typmod }));
  const message = { oid: table.relationOid, schema: "public", name: "t", replicaIdentity: "d", columns } as const;
  const misfit = { table: streamed!, reason: 'column "c" is new', message };
  assert.equal((await resolveMisfit(it.options, misfit)).copy, false);
  assert.deepEqual([(await it.stored()).state, (await it.stored()).schemaVersion], ["streaming", 2]);
  // It knows that version by now: what does not fit is another definition.
  const [newer] = streamTables([await it.stored()], types, it.config.schemas, 1).values();
  assert.equal((await resolveMisfit(it.options, { ...misfit, table: newer! })).copy, true);
  assert.equal((await it.stored()).state, "error");
});
