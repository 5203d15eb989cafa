// Runs copier threads and feeds them ranges. It decides nothing about ranges: its owner claims and completes them.
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { codeFile } from "../base/code-file.ts";
import { PgFloError } from "../base/errors.ts";
import type { CopierOptions, CopyJob, CopyJobResult, ErrorData, FromCopier, ToCopier } from "./copier-messages.ts";

/** How a stopped thread may take to drop its files before it is ended. */
const STOP_TIMEOUT_MS = 5000;

export interface CopierEvents {
  /** The next range to read, or null when there is none left. */
  nextJob(): Promise<CopyJob | null>;
  done(job: CopyJob, result: CopyJobResult): Promise<void>;
  rewritten(job: CopyJob): Promise<void>;
  failed(job: CopyJob, error: PgFloError): Promise<void>;
  progress(jobId: number, rowCount: number, sizeBytes: number): void;
}

/**
 * Threads that are started ahead of their work, while the worker still prepares: one takes a quarter of a second to load
 * its code, which is long beside the copy of a small table.
 */
export class CopierThreads implements AsyncDisposable {
  readonly #waiting: Worker[] = [];

  /** Starts the threads that a copy over so many connections takes. */
  prepare(connectionCount: number): void {
    for (let count = this.#waiting.length; count < threadCount(connectionCount); count++) this.#waiting.push(start());
  }

  /** One that was prepared, or a new one. It is the caller's from now on. */
  take(): Worker {
    return this.#waiting.shift() ?? start();
  }

  /** Ends those that wait. */
  async drop(): Promise<void> {
    for (const thread of this.#waiting.splice(0)) await thread.terminate();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.drop();
  }
}

function start(): Worker {
  return new Worker(codeFile("copier-thread", import.meta.url), { execArgv: [] });
}

// A thread keeps up with a connection or two, and every further one has to start and to be compiled: no more of them
// than there are cores beside that of the main thread.
function threadCount(connectionCount: number): number {
  return Math.min(connectionCount, Math.max(1, availableParallelism() - 1));
}

/**
 * Reads over `connectionCount` connections until there is no job left. Rejects with the first failure of a thread or of
 * an event handler (the other threads are stopped), and with the signal's reason.
 */
export async function runCopiers(
  options: Omit<CopierOptions, "connectionCount">,
  connectionCount: number,
  events: CopierEvents,
  signal: AbortSignal,
  prepared = new CopierThreads(),
): Promise<void> {
  const stop = new AbortController();
  const stopped = AbortSignal.any([signal, stop.signal]);
  const count = threadCount(connectionCount);
  const threads = Array.from({ length: count }, (_, thread) => {
    const share = Math.floor((connectionCount + count - 1 - thread) / count);
    return runThread(prepared.take(), { ...options, connectionCount: share }, events, stopped).catch(
      (error: unknown) => {
        stop.abort(error);
        throw error;
      },
    );
  });
  const outcomes = await Promise.allSettled(threads);
  signal.throwIfAborted();
  if (stop.signal.aborted) throw stop.signal.reason;
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

async function runThread(
  thread: Worker,
  options: CopierOptions,
  events: CopierEvents,
  signal: AbortSignal,
): Promise<void> {
  const send = (message: ToCopier): void => thread.postMessage(message);
  const jobs = new Map<number, CopyJob>();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let handling: Promise<void> = Promise.resolve();

  const handle = async (message: FromCopier): Promise<void> => {
    if (message.kind === "ready") {
      const job = signal.aborted ? null : await events.nextJob();
      if (job) jobs.set(job.jobId, job);
      const { connection } = message;
      send(job ? { kind: "job", connection, job } : { kind: "end", connection });
    } else if (message.kind === "progress") {
      events.progress(message.jobId, message.rowCount, message.sizeBytes);
    } else if (message.kind === "failed" && message.jobId === null) {
      throw toError(message.error);
    } else {
      const job = jobs.get(message.jobId!)!;
      jobs.delete(job.jobId);
      if (message.kind === "done") await events.done(job, message.result);
      else if (message.kind === "rewritten") await events.rewritten(job);
      else await events.failed(job, toError(message.error));
    }
  };

  send({ kind: "start", options });
  thread.on("message", (message: FromCopier) => {
    // A job's result is stored while the thread goes on with the next one: only "ready" waits for nothing.
    const handled = message.kind === "ready" ? handle(message) : handling.then(() => handle(message));
    if (message.kind !== "ready") handling = handled;
    handled.catch(reject);
  });
  thread.on("error", (error) =>
    reject(new PgFloError("INTERNAL", `copier thread, ${String(error)}`, { cause: error })),
  );
  thread.on("exit", () => handling.then(resolve, reject));
  const onAbort = (): void => {
    send({ kind: "stop" });
    setTimeout(() => void thread.terminate(), STOP_TIMEOUT_MS).unref();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    await promise;
  } catch (error) {
    await thread.terminate();
    await handling.catch(() => {}); // what is being stored: its owner knows these ranges only until this ends
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function toError(data: ErrorData): PgFloError {
  return new PgFloError(data.code, data.description, { fix: data.fix, facts: data.facts });
}
