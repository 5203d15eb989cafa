// A connection to the source for a few statements: opened, used, closed. What the server says in between becomes an
// error with a code, so that a server that restarts is waited for and not reported as a defect.
import type { ClientBase } from "pg";
import type { Config } from "../config/config.ts";
import { applicationName, connect } from "../postgres/connect.ts";
import { toPgFloError } from "../postgres/pg-error.ts";

/** `what` is told to the server (application_name) and opens messages: `read the slot of group app, …`. */
export async function onSource<T>(config: Config, what: string, work: (source: ClientBase) => Promise<T>): Promise<T> {
  const source = await connect(config.source, { applicationName: applicationName(config.group, what) });
  try {
    return await work(source);
  } catch (error) {
    throw toPgFloError(error, `${what} of group ${config.group}`);
  } finally {
    await source.end();
  }
}
