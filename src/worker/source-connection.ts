// A connection to the source for a few statements: opened, used, closed. What the server says in between becomes an
// error with a code, so that a server that restarts is waited for and not reported as a defect.
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import type { Config } from "../config/config.ts";
import { applicationName, connect, endClient } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";

/** `what` is told to the server (application_name) and opens messages: `read the slot of group app, …`. */
export async function onSource<T>(config: Config, what: string, work: (source: ClientBase) => Promise<T>): Promise<T> {
  const source = await connect(config.source, { applicationName: applicationName(config.group, what) });
  try {
    return await work(source);
  } catch (error) {
    throw toPgFloError(error, `${what} of group ${config.group}`);
  } finally {
    await endClient(source);
  }
}

/** CONNECTION_FAILED, which is tried again: a standby that is about to be promoted is a source only then. */
export async function refuseStandby(source: ClientBase, group: string): Promise<void> {
  const { rows } = await source.query<{ standby: boolean }>("select pg_is_in_recovery() as standby");
  if (!rows[0]!.standby) return;
  throw new PgFloError("CONNECTION_FAILED", `source of group ${group}, it is a standby`, {
    fix: "promote it, or point source at the primary; pg-flo tries again",
  });
}
