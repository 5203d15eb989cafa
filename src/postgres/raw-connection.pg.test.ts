import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chown, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startPostgres, type TestDatabase, type TestServer } from "../../test/support/postgres.ts";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { connect } from "./connect.ts";
import { type CopyHandler, type RawConnection, takeOver } from "./raw-connection.ts";
import { GatheringSocket } from "./socket.ts";

let server: TestServer;
let database: TestDatabase;

before(async () => {
  server = await startPostgres();
  database = await server.createDatabase();
});
after(async () => {
  await database?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

async function open(config: ConnectionConfig = database.config): Promise<RawConnection> {
  const stream = () => new GatheringSocket({ gather: false });
  return takeOver(await connect(config, { applicationName: "raw test", statementTimeoutMs: 0, stream }));
}

function counter(): CopyHandler & { rows: number; bytes: number } {
  return {
    rows: 0,
    bytes: 0,
    row(_bytes, _view, start, end) {
      this.rows++;
      this.bytes += end - start;
    },
    chunk() {},
  };
}

const hasCode = (code: string) => (error: unknown) => error instanceof PgFloError && error.code === code;

test("small queries give their values as text, and a server error leaves the connection usable", async () => {
  const connection = await open();
  assert.deepEqual(await connection.query("select 1, null, 'ä', ''"), [["1", null, "ä", ""]]);
  await assert.rejects(connection.query("select * from missing"), hasCode("TABLE_CHANGED"));
  assert.deepEqual(await connection.query(""), []);
  assert.equal((await connection.query("select g from generate_series(1, 2000) g")).length, 2000);
  await connection.close();
  await connection.close();
  await assert.rejects(connection.query("select 1"), hasCode("CONNECTION_LOST"));
});

for (const [name, host] of [
  ["TCP", undefined],
  ["a unix socket", "folder"],
] as const) {
  test(`a copy over ${name} gives the rows that a query gives`, async () => {
    const config = host === undefined ? database.config : { ...database.config, host: server.server.folder };
    const connection = await open(config);
    const lines: string[] = [];
    await connection.copyOut("copy (select g, repeat('x', g % 300) from generate_series(1, 20000) g) to stdout", {
      row: (bytes, _view, start, end) => lines.push(Buffer.from(bytes.subarray(start, end)).toString()),
      chunk() {},
    });
    assert.equal(lines.length, 20000);
    for (const i of [0, 1, 7777, 19999]) assert.equal(lines[i], `${i + 1}\t${"x".repeat((i + 1) % 300)}\n`);
    await connection.close();
  });
}

test("values of 50 MB arrive whole among small ones, and their memory is given back", async () => {
  const connection = await open();
  const lengths: number[] = [];
  const sql =
    "copy (select repeat('y', case when g % 5 = 0 then 50000000 else 3 end) from generate_series(1, 12) g) to stdout";
  await connection.copyOut(sql, {
    row(bytes, _view, start, end) {
      lengths.push(end - start);
      assert.ok(bytes.subarray(start, end - 1).every((byte) => byte === 0x79));
    },
    chunk() {},
  });
  assert.deepEqual(lengths, [4, 4, 4, 4, 50000001, 4, 4, 4, 4, 50000001, 4, 4]);
  await connection.close();
});

test("an error in the middle of a copy comes after the rows before it, and the connection stays usable", async () => {
  const connection = await open();
  const handler = counter();
  const sql = "copy (select 1 / (g - 50000) from generate_series(1, 100000) g) to stdout";
  await assert.rejects(
    connection.copyOut(sql, handler),
    (error) => error instanceof PgFloError && error.facts.sqlstate === "22012",
  );
  assert.ok(handler.rows > 10_000 && handler.rows < 50_000);
  assert.deepEqual(await connection.query("select 'still here'"), [["still here"]]);
  await assert.rejects(connection.copyOut("select 1", counter()), hasCode("PROTOCOL_VIOLATION"));
});

test("a backend that is terminated in the middle of a copy is CONNECTION_LOST", async () => {
  const connection = await open();
  const [pid] = (await connection.query("select pg_backend_pid()"))[0]!;
  let terminated = false;
  const copy = connection.copyOut("copy (select repeat('z', 1000) from generate_series(1, 1000000)) to stdout", {
    row() {},
    async chunk() {
      if (terminated) return;
      terminated = true;
      await database.client.query("select pg_terminate_backend($1)", [Number(pid)]);
    },
  });
  await assert.rejects(copy, hasCode("CONNECTION_LOST"));
  await connection.close();
});

test("a handler that waits holds the server back and bounds the memory", async () => {
  const connection = await open();
  let chunks = 0;
  let largest = 0;
  const handler = counter();
  await connection.copyOut("copy (select repeat('b', 1000) from generate_series(1, 60000)) to stdout", {
    row(bytes, view, start, end) {
      handler.row(bytes, view, start, end);
      largest = Math.max(largest, bytes.length);
    },
    async chunk() {
      if (chunks++ < 20) await sleep(10);
    },
  });
  assert.equal(handler.rows, 60_000);
  assert.ok(largest <= 1024 * 1024, `buffer of ${largest}`);
  await connection.close();
});

test("a signal ends a copy at once with its reason", async () => {
  const connection = await open();
  const controller = new AbortController();
  const copy = connection.copyOut("copy (select pg_sleep(60)) to stdout", counter(), controller.signal);
  setTimeout(() => controller.abort(), 50);
  await assert.rejects(copy, { name: "AbortError" });
  await assert.rejects(connection.query("select 1"), { name: "AbortError" });
});

test("a statement timeout in a copy is the server's error, not a lost connection", async () => {
  const connection = await open();
  await connection.query("set statement_timeout = '50ms'");
  await assert.rejects(connection.copyOut("copy (select pg_sleep(60)) to stdout", counter()), hasCode("SERVER_BUSY"));
  assert.deepEqual(await connection.query("select 1"), [["1"]]);
  await connection.close();
});

test("over TLS copies are the same, with big values, errors and back-pressure", async () => {
  await enableTls(server);
  const connection = await open({ ...database.config, sslMode: "require" });
  assert.deepEqual(await connection.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()"), [["t"]]);
  const handler = counter();
  let chunks = 0;
  await connection.copyOut("copy (select repeat('b', 1000) from generate_series(1, 60000)) to stdout", {
    row: (bytes, view, start, end) => handler.row(bytes, view, start, end),
    chunk: () => (chunks++ < 20 ? sleep(5) : undefined),
  });
  assert.deepEqual([handler.rows, handler.bytes], [60_000, 60_000 * 1001]);
  const big = counter();
  await connection.copyOut("copy (select repeat('y', 20000000) from generate_series(1, 3)) to stdout", big);
  assert.deepEqual([big.rows, big.bytes], [3, 60_000_003]);
  await assert.rejects(connection.copyOut("copy missing to stdout", counter()), hasCode("TABLE_CHANGED"));
  await connection.close();
});

test("a server that is killed in the middle of a copy is CONNECTION_LOST", async () => {
  const plain = await open();
  const tls = await open({ ...database.config, sslMode: "require" });
  const sql = "copy (select repeat('z', 1000) from generate_series(1, 10000000)) to stdout";
  let killed: Promise<unknown> | undefined;
  const copies = [plain, tls].map((connection) =>
    connection.copyOut(sql, {
      row() {},
      chunk() {
        killed ??= server.kill();
      },
    }),
  );
  await Promise.all(copies.map((copy) => assert.rejects(copy, hasCode("CONNECTION_LOST"))));
  await killed;
  await server.server.start();
});

/** A self-made certificate in the server's folder, and `ssl = on`. */
async function enableTls({ server: { dataFolder }, query }: TestServer): Promise<void> {
  const [key, certificate] = [join(dataFolder, "server.key"), join(dataFolder, "server.crt")];
  const request = ["req", "-new", "-x509", "-days", "2", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=localhost"];
  execFileSync("openssl", [...request, "-keyout", key, "-out", certificate], { stdio: "ignore" });
  const owner = await stat(dataFolder);
  for (const file of [key, certificate]) await chown(file, owner.uid, owner.gid);
  await query("alter system set ssl = on");
  await query("select pg_reload_conf()");
  for (let i = 0; i < 100; i++) {
    if ((await query<{ ssl: string }>("show ssl"))[0]?.ssl === "on") return;
    await sleep(20);
  }
  throw new Error("the server does not turn TLS on");
}
