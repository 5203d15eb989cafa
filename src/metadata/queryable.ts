// How this layer talks to Postgres: one statement, or one short transaction with time limits.
// It owns no connection, takes whatever can query (a pg.Pool, a pg.Client), and turns the server's refusals into
// errors with a code. It refuses to let two transactions of one pg.Client run into each other.
import { PgFloError } from "../base/errors.ts";
import { sqlState, toPgFloError } from "../postgres/pg-error.ts";

/** What a pg.Client, a pg.PoolClient and a pg.Pool have in common. int8 arrives as text, json parsed, times as Date. */
export interface Queryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>;
}

interface Pool extends Queryable {
  connect(): Promise<Queryable & { release(destroy?: boolean): void }>;
}

export const statementTimeoutMs = 60_000;
export const lockTimeoutMs = 15_000;
const deadlockAttempts = 5;

/**
 * For the `options` of the metadata's pg.Pool or pg.Client: the time limits of statements outside a transaction.
 * Transactions set theirs themselves.
 */
export const metadataSessionOptions =
  `-c statement_timeout=${statementTimeoutMs} -c lock_timeout=${lockTimeoutMs} ` +
  `-c idle_in_transaction_session_timeout=${statementTimeoutMs}`;

export interface TransactionOptions {
  /** Default `read committed`. `snapshot`: every statement sees the same moment, and nothing is written. */
  readonly isolation?: "read committed" | "snapshot";
  readonly lockTimeoutMs?: number;
  /** Further settings, each `name = value`, for this transaction alone. They cost no round trip. */
  readonly settings?: readonly string[];
}

const idleLimits = new WeakMap<Queryable, number>();

/**
 * Transactions of this pool or client that stand still for longer are ended by the server: whoever is suspended or cut off
 * in the middle of one keeps its locks, and with them the others from taking its work, for no longer.
 */
export function limitIdleTransactions(db: Queryable, milliseconds: number): void {
  idleLimits.set(db, Math.min(milliseconds, statementTimeoutMs));
}

/** Runs one statement. What the rows look like is what the statement says: the caller names their type. */
export async function rows<Row>(db: Queryable, text: string, values: unknown[] = []): Promise<Row[]> {
  const result = await alone(db, () => run(db, text, values));
  return result as Row[];
}

/** Runs one statement that gives at most one row. */
export async function row<Row>(db: Queryable, text: string, values: unknown[] = []): Promise<Row | undefined> {
  return (await rows<Row>(db, text, values))[0];
}

/**
 * Runs `work` in one transaction with time limits; begins again after a deadlock, so `work` must have no effect
 * but its statements. When the connection breaks during COMMIT nobody knows whether it was done: the functions
 * that use this say how to find out.
 */
export async function transaction<T>(
  db: Queryable,
  work: (transaction: Queryable) => Promise<T>,
  options: TransactionOptions = {},
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      const begin = beginStatement(options, idleLimits.get(db) ?? statementTimeoutMs);
      return await (isPool(db) ? onPooledConnection(db, work, begin) : alone(db, () => onConnection(db, work, begin)));
    } catch (error) {
      if (!isDeadlock(error) || attempt === deadlockAttempts) throw error;
    }
  }
}

async function onPooledConnection<T>(
  pool: Pool,
  work: (transaction: Queryable) => Promise<T>,
  begin: string,
): Promise<T> {
  const client = await connectedClient(pool);
  let broken = true;
  try {
    const result = await onConnection(client, work, begin);
    broken = false;
    return result;
  } finally {
    client.release(broken); // a connection that saw an error is not used again: its state is not known
  }
}

async function connectedClient(pool: Pool): ReturnType<Pool["connect"]> {
  try {
    return await pool.connect();
  } catch (error) {
    throw describeFailure(error); // as for a statement: a server that restarts is waited for
  }
}

async function onConnection<T>(
  client: Queryable,
  work: (transaction: Queryable) => Promise<T>,
  begin: string,
): Promise<T> {
  const inside: Queryable = { query: (text, values) => client.query(text, values) };
  await run(client, begin);
  let result: T;
  try {
    result = await work(inside);
  } catch (error) {
    if (error instanceof PgFloError && error.code === "CONNECTION_LOST") throw error;
    try {
      await client.query("rollback");
    } catch (rollbackError) {
      throw new PgFloError("CONNECTION_LOST", "roll back a metadata transaction, the connection broke", {
        cause: new AggregateError([error, rollbackError]),
      });
    }
    throw error;
  }
  await run(client, "commit");
  return result;
}

function beginStatement(options: TransactionOptions, idleMs: number): string {
  const mode = options.isolation === "snapshot" ? "isolation level repeatable read read only" : "read write";
  return (
    `begin ${mode}; set local statement_timeout = ${statementTimeoutMs}; ` +
    `set local lock_timeout = ${options.lockTimeoutMs ?? lockTimeoutMs}; ` +
    `set local idle_in_transaction_session_timeout = ${idleMs}` +
    (options.settings ?? []).map((setting) => `; set local ${setting}`).join("")
  );
}

// A pg.Client queues statements but knows nothing of transactions: a heartbeat sent while one is open would run
// inside it, and vanish with its rollback. So what uses one client directly takes turns.
const turns = new WeakMap<Queryable, Promise<unknown>>();

async function alone<T>(db: Queryable, work: () => Promise<T>): Promise<T> {
  if (isPool(db)) return work();
  const before = turns.get(db) ?? Promise.resolve();
  const mine = before.then(work, work);
  turns.set(db, mine);
  return mine;
}

function isPool(db: Queryable): db is Pool {
  return "totalCount" in db && "connect" in db;
}

async function run(db: Queryable, text: string, values?: unknown[]): Promise<unknown[]> {
  try {
    return (await db.query(text, values)).rows;
  } catch (error) {
    throw describeFailure(error);
  }
}

/** The SQLSTATE that a failure came with, however often it was wrapped; undefined for other failures. */
export function sqlStateOf(error: unknown): string | undefined {
  return error instanceof PgFloError ? sqlStateOf(error.cause) : sqlState(error);
}

function isDeadlock(error: unknown): boolean {
  return sqlStateOf(error) === "40P01";
}

function describeFailure(error: unknown): PgFloError {
  const subject = "metadata schema _pg_flo";
  const message = error instanceof Error ? error.message : String(error);
  switch (sqlState(error)) {
    case "42P01": // undefined_table
    case "3F000": // invalid_schema_name
    case "42703": // undefined_column
      return new PgFloError("METADATA_CORRUPT", `${subject}, a table or column is missing, ${message}`, {
        cause: error,
      });
    case "42501": // insufficient_privilege
      return new PgFloError("PERMISSION_DENIED", `${subject}, the role of metadata.url lacks a right, ${message}`, {
        fix: "grant that role CREATE on the database, or make it the owner of schema _pg_flo and all in it",
        cause: error,
      });
    default:
      return toPgFloError(error, subject);
  }
}
