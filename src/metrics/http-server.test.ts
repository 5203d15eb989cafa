// Over real sockets: what is answered, what is refused, and that the server ends.
import assert from "node:assert/strict";
import { request } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";
import { PgFloError } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { type HttpServer, hostAllowed, plain, startHttpServer } from "./http-server.ts";

const local = { host: "127.0.0.1", port: 0 };

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

function ask(server: HttpServer, path: string, options: { method?: string; host?: string } = {}): Promise<Reply> {
  const { hostname, port, host } = new URL(server.url);
  const headers = { Host: options.host ?? host };
  return new Promise((resolve, reject) => {
    const asked = request({ hostname, port, path, method: options.method ?? "GET", headers, agent: false }, (reply) => {
      let body = "";
      reply.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      reply.on("end", () => resolve({ status: reply.statusCode!, body, headers: reply.headers }));
    });
    asked.on("error", reject).end();
  });
}

test("GET and HEAD of the paths that are there, nothing else", async () => {
  const routes = { "/": () => plain(200, "start"), "/a": (query: URLSearchParams) => plain(200, query.get("x") ?? "") };
  await using server = await startHttpServer(local, routes, silentLog);
  assert.deepEqual([(await ask(server, "/")).status, (await ask(server, "/a?x=1&y=2")).body], [200, "1\n"]);
  const head = await ask(server, "/", { method: "HEAD" });
  assert.deepEqual([head.status, head.body, head.headers["content-length"]], [200, "", "6"]);
  const post = await ask(server, "/", { method: "POST" });
  assert.deepEqual([post.status, post.headers.allow], [405, "GET, HEAD"]);
  const paths = ["/b", "/A", "/a/", "//a", "/../etc/passwd", "/__proto__", "/constructor", "/%2e%2e/x"];
  for (const path of paths) assert.equal((await ask(server, path)).status, 404, path);
  for (const path of ["http://elsewhere/a", "*", `/${"x".repeat(2000)}`]) {
    assert.equal((await ask(server, path)).status, 400, path);
  }
  const { headers } = await ask(server, "/");
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.match(String(headers["content-security-policy"]), /default-src 'none'/);
  assert.equal(headers["access-control-allow-origin"], undefined);
});

test("a name of elsewhere is not answered on an address of this machine alone", async () => {
  await using server = await startHttpServer(local, { "/": () => plain(200, "start") }, silentLog);
  for (const host of ["localhost", "127.0.0.1:1", "[::1]:80", "LOCALHOST:8080"]) {
    assert.equal((await ask(server, "/", { host })).status, 200, host);
  }
  for (const host of ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "a b"]) {
    assert.equal((await ask(server, "/", { host })).status, 421, host);
  }
  assert.equal(hostAllowed("10.1.2.3:8080", "0.0.0.0"), true, "where all may ask, its names are not known");
  assert.equal(hostAllowed("pg-flo.default.svc", "0.0.0.0"), true);
  assert.equal(hostAllowed("<script>", "0.0.0.0"), false);
  assert.equal(hostAllowed(undefined, "0.0.0.0"), false);
  assert.equal(hostAllowed("", "127.0.0.1"), false);
});

test("what fails is an answer, and the next request is served", async () => {
  const routes = {
    "/bad": () => Promise.reject(new Error("secret")),
    "/worse": () => {
      throw new Error("secret");
    },
    "/good": () => plain(200, "good"),
  };
  await using server = await startHttpServer(local, routes, silentLog);
  for (const path of ["/bad", "/worse"]) {
    const { status, body } = await ask(server, path);
    assert.equal(status, 500);
    assert.ok(!body.includes("secret"));
  }
  const { port } = new URL(server.url);
  const noise = connect(Number(port), "127.0.0.1");
  await new Promise((resolve) =>
    noise
      .on("close", resolve)
      .on("error", () => {})
      .end("\0\0 nonsense\r\n\r\n"),
  );
  assert.equal((await ask(server, "/good")).body, "good\n");
});

test("a port that is in use, and an address that is not ours, is one clear error with its fix", async () => {
  await using server = await startHttpServer(local, {}, silentLog);
  const { port } = new URL(server.url);
  const failure = (host: string) =>
    startHttpServer({ host, port: Number(port) }, {}, silentLog).then(
      () => assert.fail("it listens"),
      (error: unknown) => (error instanceof PgFloError ? error.message : assert.fail(String(error))),
    );
  assert.equal(
    await failure("127.0.0.1"),
    `[HTTP_FAILED] http 127.0.0.1:${port}, is in use by another process; stop that process, or set another port in http (each worker of a machine needs its own)`,
  );
  assert.match(
    await failure("192.0.2.1"),
    /^\[HTTP_FAILED\] http 192\.0\.2\.1:\d+, is no address of this machine; set/,
  );
});

test("it ends while connections are open, and while a request is under way", async () => {
  const { promise: never } = Promise.withResolvers<never>();
  const server = await startHttpServer(local, { "/slow": () => never }, silentLog);
  const { port } = new URL(server.url);
  const idle = connect(Number(port), "127.0.0.1");
  const closed = new Promise((resolve) => idle.on("close", resolve));
  const slow = ask(server, "/slow").catch((error: NodeJS.ErrnoException) => error.code);
  await new Promise((resolve) => idle.on("connect", resolve));
  await server[Symbol.asyncDispose]();
  await closed;
  assert.equal(await slow, "ECONNRESET");
});
