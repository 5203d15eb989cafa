// Compaction by workers: table after table, whichever waits the longest, in a thread of its own, so that the stream never
// waits for it. Which worker takes a table is decided in the metadata. Nothing of it stops a worker: what fails is told
// and tried again at its next time.
import { Worker } from "node:worker_threads";
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { dueForCompaction } from "../metadata/compactions.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { CompactThreadOptions, FromCompactThread } from "./compact-messages.ts";

/** How often it is asked which tables are due, at most. */
const POLL_MS = 60_000;
/** How long a stopped thread may take to give its table back before it is ended: then the claim runs out. */
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
      if (due.length > 0) await runThread({ config, tableIds: due }, log, signal);
    } catch (error) {
      if (!(error instanceof PgFloError)) throw error;
      log.warn("tables could not be compacted", errorFacts(error));
    }
    // So that workers that were started together do not ask together.
    const waitMs = Math.min(POLL_MS, everyMs) * (0.5 + systemClock.random());
    await systemClock.sleep(waitMs, signal).catch(() => {}); // an abort ends the loop
  }
}

// import.meta.url ends in .ts in development and in .js in the package; the thread's file lies beside it.
function threadFile(): URL {
  return new URL(`./compact-thread${import.meta.url.slice(import.meta.url.lastIndexOf("."))}`, import.meta.url);
}

async function runThread(options: CompactThreadOptions, log: Log, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const thread = new Worker(threadFile(), { workerData: options, execArgv: [] });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  thread.on("message", (message: FromCompactThread) => {
    if (message.kind === "log") log[message.level](message.message, message.facts);
    else reject(new PgFloError(message.code, message.description, { fix: message.fix }));
  });
  thread.on("error", (error) => reject(new PgFloError("INTERNAL", `compact, thread, ${error}`, { cause: error })));
  thread.on("exit", () => resolve());
  const onAbort = (): void => {
    thread.postMessage("stop");
    setTimeout(() => void thread.terminate(), STOP_TIMEOUT_MS).unref();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
    await thread.terminate();
  }
}
