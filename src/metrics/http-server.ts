// A small HTTP server that only answers: GET and HEAD, a handful of paths, nothing that changes anything. It must never
// slow or stop the worker beside it: few connections, short times, and what fails is an answer, not an exception.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { isIP } from "node:net";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";

const CONNECTIONS_MAX = 32;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5000;
const HEADER_BYTES_MAX = 8192;
const URL_LENGTH_MAX = 1000;
/** How long a scrape that is under way may take when the worker ends. */
const CLOSE_MS = 1000;

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export type Route = (query: URLSearchParams) => Answer | Promise<Answer>;

export interface HttpAddress {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly url: string;
}

/** Listens. HTTP_FAILED when it cannot: the port is in use, the address is not this machine's. */
export async function startHttpServer(
  address: HttpAddress,
  routes: Readonly<Record<string, Route>>,
  log: Log,
): Promise<HttpServer> {
  const server = createServer({ maxHeaderSize: HEADER_BYTES_MAX, requestTimeout: REQUEST_TIMEOUT_MS });
  server.headersTimeout = REQUEST_TIMEOUT_MS;
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.maxConnections = CONNECTIONS_MAX;
  server.on("request", (request, response) => {
    respond(request, response, routes, address).catch((error: unknown) => {
      log.warn("an HTTP request could not be answered", errorFacts(error));
      if (response.headersSent) response.destroy();
      else send(request, response, plain(500, "it failed, the log says why"));
    });
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  await listen(server, address);
  server.on("error", (error) => log.warn("the HTTP server failed", errorFacts(error)));
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : address.port;
  return { url: `http://${urlHost(address.host)}:${port}`, [Symbol.asyncDispose]: () => close(server) };
}

export function plain(status: number, text: string): Answer {
  return { status, contentType: "text/plain; charset=utf-8", body: `${text}\n` };
}

async function listen(server: Server, address: HttpAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen({ host: address.host, port: address.port }, resolve);
  try {
    await promise;
  } catch (error) {
    throw listenError(error as NodeJS.ErrnoException, address);
  } finally {
    server.off("error", reject);
  }
}

function listenError(error: NodeJS.ErrnoException, { host, port }: HttpAddress): PgFloError {
  const known: Readonly<Record<string, readonly [what: string, fix: string]>> = {
    EADDRINUSE: [
      "is in use by another process",
      "stop that process, or set another port in http (each worker of a machine needs its own)",
    ],
    EACCES: ["may not be used by this user", "set a port above 1023 in http"],
    EADDRNOTAVAIL: ["is no address of this machine", "set an address of this machine, or 0.0.0.0, in http"],
    ENOTFOUND: ["cannot be resolved", "set an address of this machine, or 0.0.0.0, in http"],
  };
  const [what, fix] = known[error.code ?? ""] ?? [
    `cannot be listened on (${error.code ?? error.message})`,
    "set another address in http",
  ];
  const subject = `http ${urlHost(host)}:${port}`;
  return new PgFloError("HTTP_FAILED", `${subject}, ${what}`, { fix, facts: { host, port }, cause: error });
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  routes: Readonly<Record<string, Route>>,
  address: HttpAddress,
): Promise<void> {
  request.resume(); // a body says nothing here
  if (!hostAllowed(request.headers.host, address.host)) return send(request, response, plain(421, "wrong Host"));
  if (request.method !== "GET" && request.method !== "HEAD") {
    response.setHeader("Allow", "GET, HEAD");
    return send(request, response, plain(405, "only GET and HEAD"));
  }
  const target = request.url ?? "";
  if (!target.startsWith("/") || target.length > URL_LENGTH_MAX) {
    return send(request, response, plain(400, "wrong path"));
  }
  const [path, query = ""] = target.split("?", 2) as [string, string?];
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined;
  if (!route) return send(request, response, plain(404, `there is ${Object.keys(routes).join(", ")}`));
  send(request, response, await route(new URLSearchParams(query)));
}

function send(request: IncomingMessage, response: ServerResponse, { status, contentType, body }: Answer): void {
  response.writeHead(status, {
    "Content-Type": contentType,
    "Content-Length": Buffer.byteLength(body),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ...(status >= 400 && status !== 503 ? { Connection: "close" } : {}),
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

/**
 * A page of somewhere else can make a browser ask this server under a name of its own (DNS rebinding). So an address that
 * only this machine reaches is only answered under its own names; one that is open to others has names that we do not know.
 */
export function hostAllowed(header: string | undefined, bound: string): boolean {
  const host = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.exec(header ?? "")?.[1]?.toLowerCase();
  if (host === undefined) return false;
  const name = host.replace(/^\[|\]$/g, "");
  if (!isLoopback(bound)) return true;
  return isLoopback(name) || name === bound.toLowerCase();
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

function urlHost(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), CLOSE_MS);
  await closed;
  clearTimeout(timer);
}
