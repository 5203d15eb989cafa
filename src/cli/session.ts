// One connection for the length of one piece of work: what commands that only look, make or drop need.
import type { Client } from "pg";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { applicationName, type ConnectOptions, connect, connectionName, endClient } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";

export type SessionOptions = Omit<ConnectOptions, "applicationName">;

/** Connects, works, disconnects. Throws PgFloError only: what the server refuses is told with its SQLSTATE. */
export async function withSession<Result>(
  config: ConnectionConfig,
  name: { readonly group: string; readonly what: string },
  work: (client: Client) => Promise<Result>,
  options: SessionOptions = {},
): Promise<Result> {
  const client = await connect(config, { ...options, applicationName: applicationName(name.group, name.what) });
  try {
    return await work(client);
  } catch (error) {
    throw toPgFloError(error, `${name.what}, ${connectionName(config)}`);
  } finally {
    await endClient(client);
  }
}

/** The same database as the same role: what holds for one connection holds for the other. */
export function sameConnection(left: ConnectionConfig, right: ConnectionConfig): boolean {
  return (["host", "port", "database", "user"] as const).every((key) => left[key] === right[key]);
}
