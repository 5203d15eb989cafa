import assert from "node:assert/strict";
import net from "node:net";
import { after, before, describe, test } from "node:test";
import type pg from "pg";
import { startPostgres, type TestServer } from "../../test/support/postgres.ts";
import { tlsFiles, tlsSettings } from "../../test/support/tls.ts";
import type { ConnectionConfig, SslMode } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { connect, openPool } from "./connect.ts";

const options = { applicationName: "pg-flo test connect" };

function failure(code: string, pattern: RegExp, secret = "never-this-secret") {
  return (error: unknown) => {
    assert.ok(error instanceof PgFloError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    assert.ok(!error.message.includes(secret), "a secret in the message");
    return true;
  };
}

async function isEncrypted(client: pg.ClientBase): Promise<boolean> {
  const { rows } = await client.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
  return rows[0].ssl;
}

describe("connecting without TLS at the server", () => {
  let server: TestServer;
  before(async () => {
    server = await startPostgres();
  });
  after(() => server[Symbol.asyncDispose]());

  const to = (sslMode: SslMode): ConnectionConfig => ({ ...server.config("postgres"), sslMode });

  test("the session has the settings that values and timeouts rely on", async () => {
    const client = await connect(to("disable"), { ...options, options: ["work_mem=7MB", 'search_path="a b\\c", d'] });
    const expected: Record<string, string> = {
      client_encoding: "UTF8",
      DateStyle: "ISO, MDY",
      IntervalStyle: "postgres",
      extra_float_digits: "3",
      bytea_output: "hex",
      TimeZone: "UTC",
      row_security: "off",
      statement_timeout: "1min",
      lock_timeout: "10s",
      idle_in_transaction_session_timeout: "0",
      application_name: "pg-flo test connect",
      work_mem: "7MB",
      search_path: '"a b\\c", d',
    };
    for (const [name, value] of Object.entries(expected)) {
      const { rows } = await client.query("select current_setting($1) as value", [name]);
      assert.equal(rows[0].value, value, name);
    }
    await client.end();
  });

  test("a replication connection answers replication commands and has no timeouts", async () => {
    const client = await connect(to("disable"), { ...options, replication: "database" });
    assert.equal((await client.query("IDENTIFY_SYSTEM")).rows[0].dbname, "postgres");
    assert.deepEqual((await client.query("SHOW statement_timeout")).rows, [{ statement_timeout: "0" }]);
    assert.deepEqual((await client.query("SHOW lock_timeout")).rows, [{ lock_timeout: "0" }]);
    await client.end();
  });

  test("a socket of one's own is used, a new one for each attempt", async () => {
    let sockets = 0;
    const stream = () => {
      sockets++;
      return new net.Socket();
    };
    const client = await connect(to("prefer"), { ...options, stream });
    assert.equal(sockets, 2);
    await client.end();
  });

  test("prefer and allow go on without encryption where the server has none, require does not", async () => {
    for (const mode of ["prefer", "allow", "disable"] as const) {
      const client = await connect(to(mode), options);
      assert.equal(await isEncrypted(client), false);
      await client.end();
    }
    for (const mode of ["require", "verify-ca", "verify-full"] as const) {
      await assert.rejects(connect(to(mode), options), failure("TLS_FAILED", /does not support SSL.*sslmode/));
    }
  });

  test("what is wrong is told by its own code and never with the password", async () => {
    const secret = "never-this-secret";
    await assert.rejects(
      connect({ ...to("disable"), password: secret }, options),
      failure("AUTHENTICATION_FAILED", /password/),
    );
    const { password: _, ...without } = to("disable");
    await assert.rejects(connect(without, options), failure("AUTHENTICATION_FAILED", /password/));
    await assert.rejects(
      connect({ ...to("disable"), database: "nix" }, options),
      failure("AUTHENTICATION_FAILED", /nix/),
    );
    await assert.rejects(
      connect({ ...to("disable"), user: "nobody_here" }, options),
      failure("AUTHENTICATION_FAILED", /nobody_here/),
    );
    const refused = { ...to("disable"), port: await freePort(), password: secret };
    await assert.rejects(connect(refused, options), failure("CONNECTION_FAILED", /ECONNREFUSED/));
    await assert.rejects(
      connect({ ...to("disable"), host: "nix.invalid" }, options),
      failure("CONNECTION_FAILED", /nix\.invalid/),
    );
  });

  test("a server that never answers is given up after the timeout", async () => {
    const silent = net.createServer(() => {}).listen(0, "127.0.0.1");
    await new Promise((resolve) => silent.once("listening", resolve));
    const port = (silent.address() as net.AddressInfo).port;
    const config = { ...to("prefer"), port, connectTimeoutMs: 300 };
    await assert.rejects(connect(config, options), failure("CONNECTION_FAILED", /timeout/));
    silent.close();
  });

  test("a connection that the server ends is reported and does not end the process", async () => {
    const lost: PgFloError[] = [];
    const client = await connect(to("disable"), { ...options, onLost: (error) => lost.push(error) });
    const { rows } = await client.query("select pg_backend_pid() as pid");
    const ended = new Promise((resolve) => client.once("end", resolve));
    await server.query(`select pg_terminate_backend(${rows[0].pid})`);
    await ended;
    assert.equal(lost[0]?.code, "CONNECTION_LOST");
  });

  test("a pool has the same settings, and a connection that it loses is replaced", async () => {
    const pool = await openPool(to("prefer"), { ...options, max: 2 });
    const first = await pool.query("select pg_backend_pid() as pid, current_setting('TimeZone') as zone");
    assert.equal(first.rows[0].zone, "UTC");
    const removed = new Promise((resolve) => pool.once("remove", resolve));
    await server.query(`select pg_terminate_backend(${first.rows[0].pid})`);
    await removed;
    const second = await pool.query("select pg_backend_pid() as pid");
    assert.notEqual(second.rows[0].pid, first.rows[0].pid);
    await pool.end();
  });
});

describe("connecting with TLS at the server", () => {
  // tls_only may come encrypted only, plain_only without encryption only, tls_client by its certificate only.
  const hba = `
    hostssl   all tls_client all cert
    hostssl   all tls_only   all scram-sha-256
    hostnossl all plain_only all scram-sha-256
    host      all postgres   all scram-sha-256`;
  let server: TestServer;
  let tls: Awaited<ReturnType<typeof tlsSettings>>;
  before(async () => {
    tls = await tlsSettings(hba);
    server = await startPostgres({ settings: tls.settings });
    for (const role of ["tls_only", "plain_only", "tls_client"]) {
      await server.query(`create role ${role} login password 'secret'`);
    }
  });
  after(async () => {
    await server[Symbol.asyncDispose]();
    await tls[Symbol.asyncDispose]();
  });

  const to = (sslMode: SslMode, more: Partial<ConnectionConfig> = {}): ConnectionConfig => ({
    ...server.config("postgres"),
    host: "localhost",
    sslMode,
    ...more,
  });

  async function encrypted(config: ConnectionConfig): Promise<boolean> {
    const client = await connect(config, options);
    const result = await isEncrypted(client);
    await client.end();
    return result;
  }

  test("each mode encrypts as libpq does", async () => {
    assert.equal(await encrypted(to("disable")), false);
    assert.equal(await encrypted(to("allow")), false);
    assert.equal(await encrypted(to("prefer")), true);
    assert.equal(await encrypted(to("require")), true);
  });

  test("allow encrypts where the server asks for it, disable says what is wrong", async () => {
    const login = { user: "tls_only", password: "secret" };
    assert.equal(await encrypted(to("allow", login)), true);
    await assert.rejects(connect(to("disable", login), options), failure("AUTHENTICATION_FAILED", /pg_hba/, "secret"));
  });

  test("verify-full wants the authority and the host's name, verify-ca and require with a root only the authority", async () => {
    const known = { sslRootCert: tlsFiles.ca };
    assert.equal(await encrypted(to("verify-full", known)), true);
    const byAddress = { ...known, host: "127.0.0.1" };
    await assert.rejects(connect(to("verify-full", byAddress), options), failure("TLS_FAILED", /ALTNAME/));
    assert.equal(await encrypted(to("verify-ca", byAddress)), true);
    assert.equal(await encrypted(to("require", byAddress)), true);
    for (const mode of ["verify-ca", "verify-full"] as const) {
      await assert.rejects(connect(to(mode), options), failure("TLS_FAILED", /sslmode/));
    }
    await assert.rejects(
      connect(to("require", { sslRootCert: tlsFiles.clientCert }), options),
      failure("TLS_FAILED", /certificate/),
    );
  });

  test("a certificate of the client is enough to log in", async () => {
    const files = { sslRootCert: tlsFiles.ca, sslCert: tlsFiles.clientCert, sslKey: tlsFiles.clientKey };
    assert.equal(await encrypted(to("verify-full", { ...files, user: "tls_client", password: "" })), true);
  });

  test("a file that cannot be read is named", async () => {
    const missing = to("verify-full", { sslRootCert: "/nowhere/root.pem" });
    await assert.rejects(connect(missing, options), failure("TLS_FAILED", /sslrootcert \/nowhere\/root\.pem.*ENOENT/));
    const broken = to("verify-full", { sslRootCert: tlsFiles.ca, sslCert: tlsFiles.ca, sslKey: tlsFiles.clientKey });
    await assert.rejects(connect(broken, options), failure("TLS_FAILED", /certificate|key/i));
  });

  test("a unix socket is never encrypted, whatever the mode", async () => {
    const { rows } = { rows: await server.query("select current_setting('unix_socket_directories') as folder") };
    const config = to("verify-full", { host: String(rows[0]!.folder) });
    // The test's pg_hba.conf has no line for it: the server's answer shows that we came without TLS.
    await assert.rejects(connect(config, options), failure("AUTHENTICATION_FAILED", /pg_hba/));
  });
});

async function freePort(): Promise<number> {
  const listener = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => listener.once("listening", resolve));
  const { port } = listener.address() as net.AddressInfo;
  await new Promise((resolve) => listener.close(resolve));
  return port;
}
