// A copying thread: connections, each with one range after the other, in the snapshot that the range wants. While a
// range's last file is finished its connection already reads the next one.
import { parentPort } from "node:worker_threads";

import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { lsn } from "../base/lsn.ts";
import type { RawConnection } from "../postgres/raw-connection.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import { type ColumnPlan, planColumns, withBloomFilters } from "../types/registry.ts";
import type { CopierOptions, CopyJob, ErrorData, FromCopier, ToConnection, ToCopier } from "./copier-messages.ts";
import { type CopyProgress, copyRange } from "./range-copy.ts";
import { RateLimit } from "./rate-limit.ts";
import { enterSnapshot, openConnection } from "./snapshot-connection.ts";

const PROGRESS_INTERVAL_MS = 250;

const port = parentPort!;
const stop = new AbortController();
/** Of each connection. */
const queues: Queue<ToConnection>[] = [];
const options = await startOptions();
const limit = new RateLimit(options.rate);

function tell(message: FromCopier): void {
  port.postMessage(message);
}

/** The thread may have been started long before its work. Nothing but a stop comes before it has said that it is ready. */
function startOptions(): Promise<CopierOptions> {
  return new Promise((resolve) => {
    port.on("message", (message: ToCopier) => {
      if (message.kind === "stop") stop.abort(new PgFloError("CONNECTION_LOST", "copier, connection, was stopped"));
      else if (message.kind !== "start") queues[message.connection]!.push(message);
      else {
        queues.push(...Array.from({ length: message.options.connectionCount }, () => queueOf<ToConnection>()));
        resolve(message.options);
      }
    });
  });
}

async function runConnections(): Promise<void> {
  const storage = openStorage(options.storage);
  const ticker = setInterval(() => tellProgress(), PROGRESS_INTERVAL_MS);
  // One that waits for a job would wait for ever: no other one gets any while the range that failed is not given back.
  const endAll = (): void => {
    for (const jobs of queues) jobs.push({ kind: "end" });
  };
  stop.signal.addEventListener("abort", endAll, { once: true });
  const running = queues.map((jobs, connection) =>
    runJobs(connection, jobs, storage, stop.signal).catch((error: unknown) => {
      stop.abort(error); // a thread fails as a whole
      throw error;
    }),
  );
  try {
    for (const outcome of await Promise.allSettled(running))
      if (outcome.status === "rejected") throw stop.signal.reason;
  } finally {
    clearInterval(ticker);
    port.removeAllListeners("message");
  }
}

async function runJobs(number: number, jobs: Queue<ToConnection>, storage: Storage, stop: AbortSignal): Promise<void> {
  const connection = await openConnection(options);
  let snapshot: string | null = null;
  // What is being read is given up; the range is repeated by whoever takes it next.
  const destroy = (): void => connection.destroy(stop.reason);
  if (stop.aborted) destroy();
  stop.addEventListener("abort", destroy, { once: true });
  let finishing: Promise<void> = Promise.resolve();
  for (;;) {
    tell({ kind: "ready", connection: number });
    const message = await jobs.next();
    if (message.kind === "end") break;
    if (snapshot !== message.job.snapshot) {
      if (snapshot !== null) await connection.query("commit");
      snapshot = message.job.snapshot;
      await enterSnapshot(connection, snapshot);
      failpoint("copy.snapshot-imported");
    }
    const finish = await copyJob(connection, storage, message.job);
    await finishing; // one range may be finishing while the next is read
    finishing = finish();
  }
  await finishing;
  await connection.close();
}

/** Of the ranges that are read now, since it was told last; by job. */
const reading = new Map<number, CopyProgress>();

function tellProgress(): void {
  for (const [jobId, progress] of reading) {
    if (progress.rowCount === 0 && progress.sizeBytes === 0) continue;
    tell({ kind: "progress", jobId, ...progress });
    progress.rowCount = 0;
    progress.sizeBytes = 0;
  }
}

/** Reads the range; gives what finishes its files. A failure of the connection is thrown, any other one is told. */
async function copyJob(connection: RawConnection, storage: Storage, job: CopyJob): Promise<() => Promise<void>> {
  const { jobId } = job;
  const failed = (error: unknown) => tell({ kind: "failed", jobId, error: errorData(error, job) });
  // Rolling back to the savepoint gives up the table's lock: a copy of hours must not hold off the owner's DDL.
  await connection.query("savepoint range");
  const progress: CopyProgress = { rowCount: 0, sizeBytes: 0 };
  reading.set(jobId, progress);
  try {
    const { fileSizeBytes, compression } = options;
    const range = { ...job, columns: plansFor(job), fileSizeBytes, compression };
    const pace = (byteCount: number) => limit.pause(byteCount, stop.signal);
    const copy = await copyRange(connection, storage, { ...range, snapshotLsn: lsn(job.snapshotLsn) }, progress, pace);
    // The lock is still held, so what is true now was true while the rows were read.
    const [row] = await connection.query(`select pg_relation_filenode(${job.heapOid})`);
    await connection.query("rollback to savepoint range");
    if (row?.[0] !== String(job.relfilenode)) {
      await copy.abort();
      tell({ kind: "rewritten", jobId });
      return async () => {};
    }
    return () => copy.finish().then((result) => tell({ kind: "done", jobId, result }), failed);
  } catch (error) {
    if (error instanceof PgFloError && error.code === "CONNECTION_LOST") throw error;
    await connection.query("rollback to savepoint range");
    failed(error);
    return async () => {};
  } finally {
    tellProgress();
    reading.delete(jobId);
  }
}

const plans = new Map<string, ColumnPlan[]>();

function plansFor(job: CopyJob): ColumnPlan[] {
  const key = JSON.stringify([job.schema, job.table, job.schemaVersion]);
  const planned = plans.get(key) ?? withBloomFilters(planColumns(job.columns, options.types), job.bloomFilter);
  plans.set(key, planned);
  return planned;
}

function errorData(error: unknown, job: CopyJob | null): ErrorData {
  const { code, description, fix, facts } = described(error, job);
  return { code, description, fix, facts };
}

function described(error: unknown, job: CopyJob | null): PgFloError {
  const subject = job ? `copy range ${job.rangeNumber} of ${job.schema}.${job.table}` : "copier";
  if (!(error instanceof PgFloError)) {
    const what = error instanceof Error ? error.message : String(error);
    return new PgFloError("INTERNAL", `${subject}, ${what}`, { cause: error });
  }
  if (job === null || error.code !== "SERVER_FAILED") return error;
  // Read again a moment later a damaged page is as damaged: the others must not wait for it.
  return new PgFloError("TABLE_FAILED", `${subject}, ${error.description}`, {
    fix: "mend what the server's log tells of this table; it is tried again by itself, or at once by pg-flo resync",
    facts: error.facts,
  });
}

interface Queue<T> {
  push(item: T): void;
  next(): Promise<T>;
}

function queueOf<T>(): Queue<T> {
  const items: T[] = [];
  let waiting: ((item: T) => void) | null = null;
  return {
    push(item) {
      if (waiting) waiting(item);
      else items.push(item);
      waiting = null;
    },
    next() {
      const item = items.shift();
      return item === undefined ? new Promise((resolve) => (waiting = resolve)) : Promise.resolve(item);
    },
  };
}

try {
  await runConnections();
} catch (error) {
  tell({ kind: "failed", jobId: null, error: errorData(error, null) });
}
port.close(); // an open port keeps the thread alive
