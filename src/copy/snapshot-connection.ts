// A connection that reads in a snapshot which another one exported.
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { takeBytesAsTheyAre } from "../postgres/client-encoding.ts";
import { connect, receiveTimeoutMs } from "../postgres/connect.ts";
import { quoteLiteral } from "../postgres/quote.ts";
import { type RawConnection, takeOver } from "../postgres/raw-connection.ts";
import { GatheringSocket } from "../postgres/socket.ts";

export interface SnapshotSource {
  readonly source: ConnectionConfig;
  readonly applicationName: string;
  /** As `pg_export_snapshot` named it. */
  readonly snapshot: string;
}

/** Opens the connection inside the snapshot. A snapshot that nobody holds any more is SNAPSHOT_LOST. */
async function openInSnapshot({ snapshot, ...options }: SnapshotSource): Promise<RawConnection> {
  const connection = await openConnection(options);
  try {
    await enterSnapshot(connection, snapshot);
  } catch (error) {
    connection.destroy();
    throw error;
  }
  return connection;
}

/** Works on a connection inside the snapshot; the signal ends both. */
export async function inSnapshot<T>(
  source: SnapshotSource,
  signal: AbortSignal,
  work: (connection: RawConnection) => Promise<T>,
): Promise<T> {
  const connection = await openInSnapshot(source);
  const giveUp = (): void => connection.destroy(signal.reason);
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    signal.throwIfAborted();
    const result = await work(connection);
    await connection.close();
    return result;
  } finally {
    signal.removeEventListener("abort", giveUp);
    connection.destroy();
  }
}

/** Opens it outside of any. */
export async function openConnection(options: Omit<SnapshotSource, "snapshot">): Promise<RawConnection> {
  const { source, applicationName } = options;
  const client = await connect(source, {
    applicationName,
    statementTimeoutMs: 0,
    stream: () => new GatheringSocket({ gather: false }),
  });
  const connection = takeOver(client, receiveTimeoutMs(source));
  await takeBytesAsTheyAre(connection);
  return connection;
}

/** Begins a transaction that sees the snapshot. SNAPSHOT_LOST: the connection is of no use any more. */
export async function enterSnapshot(connection: RawConnection, snapshot: string): Promise<void> {
  await connection.query("begin transaction isolation level repeatable read read only");
  try {
    await connection.query(`set transaction snapshot ${quoteLiteral(snapshot)}`);
  } catch (error) {
    if (error instanceof PgFloError && error.code === "CONNECTION_LOST") throw error;
    throw new PgFloError("SNAPSHOT_LOST", `snapshot ${snapshot}, import, it is no longer there`, { cause: error });
  }
}

/**
 * Does the work in a savepoint that is rolled back, which gives up the locks of the tables that it reads: a copy of
 * hours must not hold off their owner's DDL.
 */
export async function inSavepoint<T>(connection: RawConnection, work: () => Promise<T>): Promise<T> {
  await connection.query("savepoint range");
  try {
    const result = await work();
    await connection.query("rollback to savepoint range");
    return result;
  } catch (error) {
    if (!(error instanceof PgFloError && error.code === "CONNECTION_LOST")) {
      await connection.query("rollback to savepoint range");
    }
    throw error;
  }
}
