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

/** Opens the connection inside the snapshot. A snapshot whose exporter is gone is SNAPSHOT_LOST. */
export async function openInSnapshot({ source, applicationName, snapshot }: SnapshotSource): Promise<RawConnection> {
  const client = await connect(source, {
    applicationName,
    statementTimeoutMs: 0,
    stream: () => new GatheringSocket({ gather: false }),
  });
  const connection = takeOver(client, receiveTimeoutMs(source));
  await takeBytesAsTheyAre(connection);
  await connection.query("begin transaction isolation level repeatable read read only");
  try {
    await connection.query(`set transaction snapshot ${quoteLiteral(snapshot)}`);
  } catch (error) {
    connection.destroy();
    throw new PgFloError("SNAPSHOT_LOST", `snapshot ${snapshot}, import, it is no longer there`, { cause: error });
  }
  return connection;
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
