// Compaction by workers: table after table, whichever waits the longest, in a process of its own: the stream never waits
// for it, and whatever becomes of it (DuckDB takes the whole process with it when a thread is ended in a query) the worker
// goes on. Which worker takes a table is decided in the metadata. Nothing of it stops a worker: what fails is told
// and tried again at its next time.
import { fork } from "node:child_process";
import { once } from "node:events";
import { systemClock } from "../base/clock.ts";
import { codeFile } from "../base/code-file.ts";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { dueForCompaction } from "../metadata/compactions.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { CompactProcessOptions, FromCompactProcess, ToCompactProcess } from "./compact-messages.ts";

/** How often it is asked which tables are due, at most. */
const POLL_MS = 60_000;
/** How long a stopped process may take to give its table back before it is ended: then the claim runs out. */
const STOP_TIMEOUT_MS = 5000;

export async function compactRegularly(
  { config, db, log }: { readonly config: Config; readonly db: Queryable; readonly log: Log },
  signal: AbortSignal,
): Promise<void> {
  const { everyMs } = config.compact;
  if (everyMs === null) return;
  while (!signal.aborted) {
    try {
      const due = await dueForCompaction(db, config.group, everyMs);
      if (due.length > 0) await runProcess({ config, tableIds: due }, log, signal);
    } catch (error) {
      if (!(error instanceof PgFloError)) throw error;
      log.warn("tables could not be compacted", errorFacts(error));
    }
    // So that workers that were started together do not ask together.
    const waitMs = Math.min(POLL_MS, everyMs) * (0.5 + systemClock.random());
    await systemClock.sleep(waitMs, signal).catch(() => {}); // an abort ends the loop
  }
}

async function runProcess(options: CompactProcessOptions, log: Log, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const child = fork(codeFile("compact-process", import.meta.url), { serialization: "advanced", execArgv: [] });
  const send = (message: ToCompactProcess) => child.connected && child.send(message, () => {}); // it may just end
  let failure: PgFloError | undefined;
  child.on("message", (message: FromCompactProcess) => {
    if (message.kind === "log") log[message.level](message.message, message.facts);
    else failure = new PgFloError(message.code, message.description, { fix: message.fix });
  });
  let overdue: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    send({ kind: "stop" });
    overdue = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  send({ kind: "work", options });
  try {
    const [code, ended] = await once(child, "exit");
    if (failure) throw failure;
    if (code !== 0 && !signal.aborted) {
      throw new PgFloError("INTERNAL", `compact, its process ended by ${ended ?? code}`);
    }
  } catch (error) {
    throw error instanceof PgFloError
      ? error
      : new PgFloError("INTERNAL", `compact, process, ${error}`, { cause: error });
  } finally {
    signal.removeEventListener("abort", onAbort);
    clearTimeout(overdue);
  }
}
