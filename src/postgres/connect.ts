// Opens connections to Postgres with libpq's meaning of the TLS options and with the session settings that values,
// catalog statements and timeouts rely on. Refuses to fall back to plain text where sslmode asks for encryption.
// Source: https://www.postgresql.org/docs/current/libpq-ssl.html
import { readFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import { type ConnectionConfig, RECEIVE_TIMEOUT_MS } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { sqlState, toPgFloError } from "./pg-error.ts";

const CATALOG_STATEMENT_TIMEOUT_MS = 60_000;
const CATALOG_LOCK_TIMEOUT_MS = 10_000;
const KEEPALIVE_IDLE_MS = 10_000;
const END_TIMEOUT_MS = 2000;

export interface ConnectOptions {
  /** What the server shows in pg_stat_activity; `applicationName(group, what)` makes it. */
  readonly applicationName: string;
  /** `database`: a walsender connection for logical replication. Its statements have no timeouts unless given. */
  readonly replication?: "database";
  /** 0 is none. Default 60,000; 0 for replication. Copying connections pass 0. */
  readonly statementTimeoutMs?: number;
  /** 0 is none. Default 10,000; 0 for replication. */
  readonly lockTimeoutMs?: number;
  /** More session settings, each `name=value`. They win over the ones set here. */
  readonly options?: readonly string[];
  /** Makes the socket, called once per attempt; pg does authentication and TLS over it. */
  readonly stream?: () => Duplex;
  /** Called once when an open connection is lost. Without it the loss shows at the next statement. */
  readonly onLost?: (error: PgFloError) => void;
}

export interface PoolOptions extends Omit<ConnectOptions, "replication" | "stream" | "onLost"> {
  readonly max: number;
}

/** `pg-flo <group> <what>`, cut to the 63 bytes that the server keeps. */
export function applicationName(group: string, what: string): string {
  return `pg-flo ${group} ${what}`.slice(0, 63);
}

/** `user@host:port/database`, for messages. Never the password. */
export function connectionName(config: ConnectionConfig): string {
  return `${config.user}@${config.host}:${config.port}/${config.database}`;
}

/**
 * Connects, authenticates and sets the session up. Throws PgFloError: CONNECTION_FAILED, AUTHENTICATION_FAILED,
 * TLS_FAILED. The client has an 'error' listener, so a lost connection never ends the process.
 */
export async function connect(config: ConnectionConfig, options: ConnectOptions): Promise<pg.Client> {
  return (await negotiate(config, options)).client;
}

/**
 * A pool whose connections have the same settings. The first connection is opened (and closed) here, so that what is
 * wrong shows at once, as PgFloError, and so that every later connection uses the encryption that was found.
 */
export async function openPool(config: ConnectionConfig, options: PoolOptions): Promise<pg.Pool> {
  const { client, tls } = await negotiate(config, options);
  await endClient(client);
  const pool = new pg.Pool({ ...clientConfig(config, options, tls), max: options.max });
  // Emitted for idle connections only: the pool has already thrown that one away and opens another when needed.
  pool.on("error", () => {});
  // One that is in use tells its loss twice, at its statement and as an event, which unheard would end the process.
  pool.on("connect", (connected) => connected.on("error", () => {}));
  return pool;
}

/** pg's client config. `tls` decides for the modes that may go either way (allow, prefer); default: as the mode prefers. */
export function clientConfig(
  config: ConnectionConfig,
  options: ConnectOptions,
  tls: boolean = attempts(config)[0] === true,
): pg.ClientConfig {
  return {
    host: config.host,
    port: config.port,
    database: config.database,
    user: config.user,
    ...(config.password === undefined ? {} : { password: config.password }),
    ssl: tls ? tlsOptions(config) : false,
    connectionTimeoutMillis: config.connectTimeoutMs,
    // Statements without a limit at the server have none here.
    ...(options.statementTimeoutMs === 0 ? {} : { query_timeout: receiveTimeoutMs(config) }),
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_IDLE_MS,
    application_name: options.applicationName,
    options: startupOptions(options),
    // pg-types has no key for it, pg itself passes it on: https://node-postgres.com/apis/client
    ...(options.replication === undefined ? {} : { replication: options.replication }),
    ...(options.stream === undefined ? {} : { stream: options.stream }),
  };
}

/** How long the connection may bring nothing that is due. */
export function receiveTimeoutMs(config: ConnectionConfig): number {
  return config.receiveTimeoutMs ?? RECEIVE_TIMEOUT_MS;
}

/** Ends the session politely; a server that does not answer within 2 s is left. Safe to call twice. */
export async function endClient(client: pg.Client): Promise<void> {
  const timer = setTimeout(() => client.connection?.stream?.destroy(), END_TIMEOUT_MS);
  try {
    await client.end();
  } finally {
    clearTimeout(timer);
  }
}

async function negotiate(config: ConnectionConfig, options: ConnectOptions) {
  const [first, second] = attempts(config);
  try {
    return { client: await open(config, options, first), tls: first };
  } catch (error) {
    if (second === undefined || !mayTryOtherway(first, error)) throw describe(error, config);
  }
  try {
    return { client: await open(config, options, second), tls: second };
  } catch (error) {
    throw describe(error, config);
  }
}

/** With TLS or without, in the order of trying. A unix socket never has TLS, as in libpq. */
function attempts(config: ConnectionConfig): [boolean, boolean?] {
  if (config.host.startsWith("/")) return [false];
  switch (config.sslMode) {
    case "disable":
      return [false];
    case "allow":
      return [false, true];
    case "prefer":
      return [true, false];
    default:
      return [true];
  }
}

/** Only an answer of the server about encryption leads to the other way: never a timeout, which an attacker can make. */
function mayTryOtherway(tls: boolean, error: unknown): boolean {
  if (tls) return error instanceof Error && error.message === "The server does not support SSL connections";
  return sqlState(error) === "28000";
}

async function open(config: ConnectionConfig, options: ConnectOptions, tls: boolean): Promise<pg.Client> {
  const client = new pg.Client(clientConfig(config, options, tls));
  let connected = false;
  // pg emits 'error' when the connection is lost, also while nobody waits for a result. Unheard it ends the process.
  client.on("error", (error) => {
    if (connected) options.onLost?.(toPgFloError(error, `connection to ${connectionName(config)}`));
  });
  try {
    await client.connect();
  } catch (error) {
    // Also after a failed start the socket may be open.
    client.connection?.stream?.destroy();
    throw error;
  }
  connected = true;
  return client;
}

function describe(error: unknown, config: ConnectionConfig): PgFloError {
  return toPgFloError(error, `connect to ${connectionName(config)} with sslmode ${config.sslMode}`);
}

/** libpq's table of modes: https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-SSLMODE-STATEMENTS */
function tlsOptions(config: ConnectionConfig): ConnectionOptions {
  const verifies =
    config.sslMode === "verify-ca" ||
    config.sslMode === "verify-full" ||
    // As in libpq: a root certificate that is there is used.
    (config.sslMode === "require" && config.sslRootCert !== undefined);
  return {
    rejectUnauthorized: verifies,
    ...(config.sslMode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    // `system`: the certificates that node brings or NODE_EXTRA_CA_CERTS adds.
    ...(config.sslRootCert === undefined || config.sslRootCert === "system"
      ? {}
      : { ca: readTlsFile(config.sslRootCert, "sslrootcert") }),
    ...(config.sslCert === undefined ? {} : { cert: readTlsFile(config.sslCert, "sslcert") }),
    ...(config.sslKey === undefined ? {} : { key: readTlsFile(config.sslKey, "sslkey") }),
  };
}

function readTlsFile(path: string, option: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw new PgFloError("TLS_FAILED", `${option} ${path}, cannot be read, ${reason}`, {
      fix: `correct the path, or let this user read the file`,
      facts: { option, path },
      cause: error,
    });
  }
}

function startupOptions(options: ConnectOptions): string {
  const timeouts = options.replication === undefined;
  const statementTimeoutMs = options.statementTimeoutMs ?? (timeouts ? CATALOG_STATEMENT_TIMEOUT_MS : 0);
  const lockTimeoutMs = options.lockTimeoutMs ?? (timeouts ? CATALOG_LOCK_TIMEOUT_MS : 0);
  const settings = [
    // client_encoding=UTF8 is what pg always asks for.
    "DateStyle=ISO",
    "IntervalStyle=postgres",
    "extra_float_digits=3",
    "bytea_output=hex",
    "TimeZone=UTC",
    // Rows that a policy would hide raise an error, instead of missing in the mirror.
    "row_security=off",
    `statement_timeout=${statementTimeoutMs}`,
    `lock_timeout=${lockTimeoutMs}`,
    "idle_in_transaction_session_timeout=0",
    ...(options.options ?? []),
  ];
  // Spaces and backslashes are escaped by a backslash: https://www.postgresql.org/docs/current/libpq-connect.html
  return settings.map((setting) => `-c ${setting.replace(/[\\\s]/g, (character) => `\\${character}`)}`).join(" ");
}
