import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import { PgFloError } from "../base/errors.ts";
import { LSN_ZERO, type Lsn, parseLsn } from "../base/lsn.ts";
import { PgoutputParser } from "./pgoutput.ts";
import type { PgoutputHandler } from "./pgoutput-handler.ts";
import { openReplication, type ReplicationConnection, type StartOptions } from "./replication.ts";
import { tupleKind } from "./tuple.ts";

let server: TestServer;
let database: TestDatabase;
let slots = 0;

before(async () => {
  server = await startPostgres({ settings: { wal_sender_timeout: "3s", max_prepared_transactions: 5 } });
  database = await server.createDatabase();
  await database.client.query(`
    create table "Odd.name" (id int primary key, "select" text, big text);
    alter table "Odd.name" alter big set storage external;
    create table full_rows (a int, b text);
    alter table full_rows replica identity full;
    create type mood as enum ('fine');
    create table typed (id int primary key, m mood);
    create publication "P ""1" for all tables`);
});
after(async () => {
  await database?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const open = () => openReplication(database.config, { applicationName: "replication test" });
const hasCode = (code: string) => (error: unknown) => error instanceof PgFloError && error.code === code;

async function newSlot(): Promise<{ connection: ReplicationConnection; slot: string }> {
  const connection = await open();
  const slot = `slot_${++slots}`;
  await connection.createSlot(slot, { temporary: false, snapshot: "nothing" });
  return { connection, slot };
}

function startOptions(slot: string, more: Partial<StartOptions> = {}): StartOptions {
  const publicationNames = ['P "1'];
  return { slot, startLsn: LSN_ZERO, protoVersion: 2, publicationNames, binary: true, messages: true, ...more };
}

/** Reads until the logical message `end` (not transactional), and returns every call of the parser as a line. */
async function readLines(connection: ReplicationConnection, options: StartOptions): Promise<string[]> {
  const lines: string[] = [];
  const controller = new AbortController();
  let bytes: Uint8Array;
  let view: DataView;
  const tuple = (start: number, end: number) => showTuple(bytes, view, start, end);
  const parser: PgoutputParser = new PgoutputParser({
    begin: () => lines.push("begin"),
    commit: () => lines.push("commit"),
    origin: (_lsn, name) => lines.push(`origin ${name}`),
    relation: ({ schema, name, replicaIdentity, columns }) =>
      lines.push(`relation ${schema}.${name} ${replicaIdentity} ${columns.map((c) => `${c.name}${c.flags}`)}`),
    type: ({ schema, name }) => lines.push(`type ${schema}.${name}`),
    insert: (_oid, start, end) => lines.push(`insert ${tuple(start, end)}`),
    update: (_oid, kind, oldStart, oldEnd, start, end) =>
      lines.push(
        `update ${kind ? `${String.fromCharCode(kind)} ${tuple(oldStart, oldEnd)} ` : ""}${tuple(start, end)}`,
      ),
    delete: (_oid, kind, start, end) => lines.push(`delete ${String.fromCharCode(kind)} ${tuple(start, end)}`),
    truncate: (oids, flags) => lines.push(`truncate ${oids.length} ${flags}`),
    message: (transactional, _lsn, prefix, start, end) => {
      const content = Buffer.from(bytes.subarray(start, end)).toString();
      if (content === "end") controller.abort();
      else lines.push(`message ${transactional} ${prefix} ${content}`);
    },
    streamStart: (_xid, first) => lines.push(`stream start ${first}`),
    streamStop: () => lines.push("stream stop"),
    streamCommit: () => lines.push("stream commit"),
    streamAbort: (xid, subXid, lsn) =>
      lines.push(`stream abort ${xid === subXid ? "all" : "part"} ${lsn !== undefined}`),
  } satisfies PgoutputHandler);
  await database.client.query("select pg_logical_emit_message(false, 'pg-flo', 'end')");
  await connection.start(
    options,
    {
      data(b, v, start, end, walStartAt) {
        bytes = b;
        view = v;
        assert.equal(walStartAt, start - 24);
        parser.parse(b, v, start, end);
      },
      keepalive() {},
      chunk() {},
    },
    controller.signal,
  );
  return lines;
}

function showTuple(bytes: Uint8Array, view: DataView, start: number, end: number): string {
  const values: string[] = [];
  let position = start + 2;
  while (position < end) {
    const kind = view.getUint8(position++);
    if (kind === tupleKind.text || kind === tupleKind.binary) {
      const length = view.getInt32(position);
      const value = Buffer.from(bytes.subarray(position + 4, position + 4 + length));
      values.push(length > 100 ? `<${length}>` : value.toString(value.includes(0) ? "hex" : "utf8"));
      position += 4 + length;
    } else values.push(kind === tupleKind.null ? "null" : "unchanged");
  }
  return values.join(",");
}

test("the server's identity, a slot's consistent point and a snapshot that others can import", async () => {
  const connection = await open();
  const identity = await connection.identifySystem();
  assert.match(identity.systemId, /^\d{15,}$/);
  assert.equal(identity.dbname, database.name);
  assert.ok(connection.serverVersion >= 180000);
  const { consistentPoint, snapshotName } = await connection.createSlot("exported", {
    temporary: true,
    snapshot: "export",
  });
  assert.ok(consistentPoint > 0n && identity.timeline === 1);
  const other = await database.connect();
  await other.query("begin isolation level repeatable read");
  await other.query(`set transaction snapshot '${snapshotName}'`);
  await other.query("commit");
  await connection.dropSlot("exported");
  await assert.rejects(connection.dropSlot("exported"), hasCode("SLOT_LOST"));
  await connection.close();
});

test("every kind of change arrives as what it is", async () => {
  const { connection, slot } = await newSlot();
  const { client } = database;
  await client.query(`begin;
    insert into "Odd.name" values (1, 'ä', repeat('x', 5000)), (2, null, null);
    update "Odd.name" set "select" = 'b' where id = 1;
    update "Odd.name" set id = 3 where id = 2;
    delete from "Odd.name" where id = 3;
    commit`);
  await client.query(`begin; insert into full_rows values (1, 'one');
    update full_rows set b = 'two'; delete from full_rows;
    select pg_logical_emit_message(true, 'other', 'inside'); commit`);
  await client.query("insert into typed values (7, 'fine')");
  await client.query(`truncate "Odd.name", typed restart identity cascade`);
  await client.query("begin; insert into typed values (9, null); prepare transaction 'two-phase'");
  await client.query("commit prepared 'two-phase'");
  await client.query("begin; insert into typed values (10, null); rollback");
  const typed = ["type public.mood", "relation public.typed d id1,m0"];
  const relation = "relation public.Odd.name d id1,select0,big0";
  assert.deepEqual(await readLines(connection, startOptions(slot)), [
    ...["begin", relation, "insert 00000001,ä,<5000>", "insert 00000002,null,null"],
    ...["update 00000001,b,unchanged", "update K 00000002,null,null 00000003,null,null"],
    ...["delete K 00000003,null,null", "commit"],
    ...["begin", "relation public.full_rows f a1,b1", "insert 00000001,one"],
    ...["update O 00000001,one 00000001,two", "delete O 00000001,two", "message true other inside", "commit"],
    ...["begin", ...typed, "insert 00000007,fine", "commit"],
    // A TRUNCATE makes the server forget what it has told.
    ...["begin", relation, ...typed, "truncate 2 3", "commit"],
    ...["begin", ...typed, "insert 00000009,null", "commit"],
  ]);
  await connection.close();
});

test("big transactions arrive in blocks while they run, with their aborts, when streaming is on", async () => {
  await server.query("alter system set debug_logical_replication_streaming = 'immediate'");
  await server.query("select pg_reload_conf()");
  const { connection, slot } = await newSlot();
  const { client } = database;
  await client.query(`begin; insert into typed values (20, 'fine'); savepoint s; insert into typed values (21, null);
    rollback to s; insert into typed values (22, null); select pg_logical_emit_message(true, 'x', 'in'); commit`);
  await client.query("begin; insert into typed values (23, null); rollback");
  await sleep(100);
  const lines = await readLines(connection, startOptions(slot, { protoVersion: 4, streaming: "parallel" }));
  assert.equal(lines[0], "stream start true");
  assert.ok(lines.includes("insert 00000014,fine") && lines.includes("insert 00000016,null"));
  assert.ok(lines.includes("stream abort part true"), lines.join());
  assert.ok(lines.includes("message true x in"));
  assert.equal(lines.filter((line) => line === "stream commit").length, 1);
  await server.query("alter system reset debug_logical_replication_streaming");
  await server.query("select pg_reload_conf()");
  await connection.close();
});

test("what is confirmed is what the slot keeps, and a restart begins there", async () => {
  const { connection, slot } = await newSlot();
  await database.client.query("insert into typed values (30, null)");
  const controller = new AbortController();
  let commitEnd: Lsn | undefined;
  await database.client.query("select pg_logical_emit_message(false, 'pg-flo', 'go')");
  const run = connection.start(
    startOptions(slot),
    {
      data(bytes, view, start) {
        if (bytes[start] === 0x43) commitEnd = view.getBigUint64(start + 10) as Lsn;
        if (bytes[start] === 0x4d) connection.confirm(commitEnd!);
      },
      keepalive() {},
      chunk() {},
    },
    controller.signal,
  );
  await until(async () => (await confirmed(slot)) === commitEnd);
  connection.confirm(LSN_ZERO);
  controller.abort();
  await run;
  assert.equal(await confirmed(slot), commitEnd);
  await assert.rejects(readLines(connection, startOptions(slot)), hasCode("INTERNAL"));
  const again = await open();
  assert.deepEqual(await readLines(again, startOptions(slot)), ["message false pg-flo go"]);
  for (const each of [connection, again]) await each.close();
});

test("a handler that holds back reading longer than wal_sender_timeout keeps its connection", async () => {
  const { connection, slot } = await newSlot();
  await database.client.query("insert into full_rows select g, repeat('x', 1000) from generate_series(1, 20000) g");
  const controller = new AbortController();
  let held = false;
  let changes = 0;
  await connection.start(
    startOptions(slot),
    {
      data(bytes, _view, start) {
        if (bytes[start] === 0x49) changes++;
        if (bytes[start] === 0x43) controller.abort();
      },
      keepalive() {},
      chunk() {
        if (held || changes === 0) return undefined;
        held = true;
        return sleep(8000);
      },
    },
    controller.signal,
  );
  assert.equal(changes, 20_000);
  await connection.close();
});

test("work that takes longer than the receive timeout is no silence of the server", async () => {
  const { connection: setup, slot } = await newSlot();
  await setup.close();
  const config = { ...database.config, receiveTimeoutMs: 1000 };
  await using writer = await server.createDatabase();
  const connection = await openReplication(config, { applicationName: "replication test" });
  const controller = new AbortController();
  let messages = 0;
  const handler = { data: () => messages++, keepalive: () => {}, chunk: () => undefined };
  const run = connection.start(startOptions(slot), handler, controller.signal);
  for (let round = 0; round < 3; round++) {
    const before = messages;
    await database.client.query(`select pg_logical_emit_message(false, 'test', 'round ${round}')`);
    await until(async () => messages > before);
    await writer.client.query("select 1"); // in the turn of a socket: the timers, which look for silence, come first
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
  }
  controller.abort();
  await run;
  await connection.close();
});

test("an idle stream answers keepalives and sees the server's position move", async () => {
  const { connection, slot } = await newSlot();
  const controller = new AbortController();
  const walEnds: Lsn[] = [];
  const ended = connection.start(
    startOptions(slot),
    {
      data() {},
      keepalive(walEnd) {
        walEnds.push(walEnd);
      },
      chunk() {},
    },
    controller.signal,
  );
  await sleep(5000);
  await database.client.query("create table moved (a int)");
  const position = (await database.client.query("select pg_current_wal_lsn()::text as lsn")).rows[0].lsn;
  await until(async () => (walEnds.at(-1) ?? 0n) >= parseLsn(position));
  assert.ok(connection.received >= parseLsn(position));
  controller.abort();
  await ended;
  assert.ok((await connection.identifySystem()).systemId.length > 0, "usable after a polite end");
  await connection.close();
});

test("a missing slot or publication, a slot in use and what the handler throws reject the run", async () => {
  const { connection, slot } = await newSlot();
  const never = new AbortController().signal;
  const idle = { data() {}, keepalive() {}, chunk() {} };
  await assert.rejects(connection.start(startOptions("missing"), idle, never), hasCode("SLOT_LOST"));
  const first = connection.start(startOptions(slot), idle, never);
  const firstEnd = assert.rejects(first, hasCode("CONNECTION_LOST"));
  const second = await open();
  await until(async () => {
    const sql = "select active from pg_replication_slots where slot_name = $1";
    return (await database.client.query(sql, [slot])).rows[0].active;
  });
  await assert.rejects(second.start(startOptions(slot), idle, never), hasCode("SLOT_IN_USE"));
  await database.client.query(
    "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1",
    [slot],
  );
  await firstEnd;
  await database.client.query("insert into typed values (40, null)");
  const third = await open();
  const missing = startOptions(slot, { publicationNames: ["nobody's \\ publication"] });
  await assert.rejects(third.start(missing, idle, never), hasCode("PREFLIGHT_FAILED"));
  const fourth = await open();
  const boom = new Error("boom");
  const throwing = {
    ...idle,
    data() {
      throw boom;
    },
  };
  await assert.rejects(fourth.start(startOptions(slot), throwing, never), (error) => error === boom);
  for (const each of [second, third, fourth]) await each.close();
});

test("a server that is stopped or killed ends the run with CONNECTION_LOST", async () => {
  for (const end of [() => server.server.restart(), () => server.kill().then(() => server.server.start())]) {
    const { connection, slot } = await newSlot();
    let started = () => {};
    const streaming = new Promise<void>((resolve) => {
      started = resolve;
    });
    const idle = { data() {}, keepalive: () => started(), chunk() {} };
    const run = connection.start(startOptions(slot), idle, new AbortController().signal);
    const rejected = assert.rejects(run, hasCode("CONNECTION_LOST"));
    await streaming;
    await end();
    await rejected;
  }
});

async function confirmed(slot: string): Promise<Lsn> {
  const sql = "select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1";
  return parseLsn((await database.client.query(sql, [slot])).rows[0].lsn);
}

/** Polls what the server says; the test's own time limit ends a wait for what never comes. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}
