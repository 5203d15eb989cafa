// Copies ranges of any table of the group under the snapshots that this worker holds, whoever planned them and whoever
// reads the stream. It claims one range after the other, the largest table's first; what it holds when it ends is free
// for others at once.
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { formatLsn } from "../base/lsn.ts";
import { runService } from "../base/service.ts";
import type { Wakeup } from "../base/wakeup.ts";
import type { Config, TableConfig } from "../config/config.ts";
import { type CopierThreads, runCopiers } from "../copy/copier.ts";
import type { CopyJob, CopyJobResult } from "../copy/copier-messages.ts";
import { RateLimit } from "../copy/rate-limit.ts";
import { storeProgress } from "../metadata/capacity.ts";
import type { Queryable } from "../metadata/queryable.ts";
import {
  type ClaimedRange,
  claimRange,
  completeRange,
  countOpenRanges,
  releaseRange,
  releaseRanges,
} from "../metadata/ranges.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import type { PgType } from "../postgres/catalog.ts";
import { applicationName } from "../postgres/connect.ts";
import { equalParts, typeParts } from "../postgres/type-parts.ts";
import type { Storage } from "../storage/storage.ts";
import { failCopy, stopRewritten } from "./copy-outcomes.ts";
import type { Definitions } from "./definitions.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { heartbeatMs } from "./membership.ts";
import { tableConfig } from "./table-config.ts";

const POLL_MS = 1000;

export interface CopyServiceOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly workerId: string;
  readonly definitions: Definitions;
  readonly snapshots: HeldSnapshots;
  readonly work: Wakeup;
  readonly figures: CopyFigures;
  readonly copiers: CopierThreads;
  /** Whether no further range may be copied now. */
  readonly waits: () => boolean;
  readonly log: Log;
  /** A table's definition is not the one that is known here: it must be discovered again. */
  readonly onTableChanged: () => void;
}

/** For progress bars, status and metrics. */
export interface CopyFigures {
  rowCount: number;
  sizeBytes: number;
  /** By this worker. */
  rangesDone: number;
  /** These, and what is left in the group. */
  rangesTotal: number;
  /** Ranges that this worker reads or finishes now, and how many it may. */
  running: number;
  parallel: number;
}

export const noCopyFigures: Readonly<CopyFigures> = {
  ...{ rowCount: 0, sizeBytes: 0, rangesDone: 0, rangesTotal: 0, running: 0, parallel: 0 },
};

export class CopyService {
  readonly #options: CopyServiceOptions;
  readonly #claimed = new Map<number, ClaimedRange>();
  /** Of the claimed ranges, what has been read. */
  readonly #read = new Map<number, { rowCount: number; sizeBytes: number }>();
  #tables = new Map<number, Table>();
  #lookedAtMs = 0;
  /** Those that the copiers that run now were given. */
  #types: ReadonlyMap<number, PgType> = new Map();
  readonly #rate = new RateLimit();
  /** Ranges claimed so far. */
  #claims = 0;

  constructor(options: CopyServiceOptions) {
    this.#options = options;
  }

  /** Runs until the signal. */
  run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    return runService((inner) => this.#copy(inner), signal, { name: "copy", log, nothingToFinish: true });
  }

  async #copy(signal: AbortSignal): Promise<void> {
    const { config, db, definitions, snapshots, workerId, work } = this.#options;
    await releaseRanges(db, workerId);
    await snapshots.check();
    for (;;) {
      signal.throwIfAborted();
      const seen = work.count;
      await this.#look();
      const open = await countOpenRanges(db, config.group, snapshots.lsns, definitions.config.copy.parallel);
      const claims = this.#claims;
      if (open > 0 && !this.#options.waits()) await this.#runCopiers(open, signal);
      // Others were quicker, or this worker is taken for dead and gets none: threads are not started again at once.
      if (claims === this.#claims) await work.wait(POLL_MS, signal, seen);
    }
  }

  async #look(): Promise<void> {
    const { copiers, definitions, figures, snapshots } = this.#options;
    const { needs } = await snapshots.refresh();
    if (needs.length === 0) await copiers.drop();
    figures.parallel = definitions.config.copy.parallel;
    this.#rate.set(definitions.config.copy.maxRateBytes);
    this.#lookedAtMs = systemClock.now();
    figures.rangesTotal = figures.rangesDone + needs.reduce((sum, need) => sum + need.rangesLeft, 0);
  }

  /** A failure must not end what other connections read now. */
  async #lookMeanwhile(): Promise<void> {
    try {
      await this.#look();
    } catch (error) {
      if (!(error instanceof PgFloError) || error.action !== "retry") throw error;
      this.#options.log.debug("what is left to copy could not be read", errorFacts(error));
    }
  }

  async #runCopiers(connectionCount: number, signal: AbortSignal): Promise<void> {
    const { config, db, definitions, log, figures, work } = this.#options;
    const claimed = this.#claimed;
    const persist = (name: string, work: () => Promise<void>) => runService(work, signal, { name, log });
    this.#types = definitions.types;
    const options = {
      source: config.source,
      applicationName: applicationName(config.group, "copy"),
      storage: config.storage,
      types: this.#types,
      fileSizeBytes: definitions.config.copy.fileSizeBytes,
      compression: config.compression,
      rate: this.#rate.shared,
    };
    const settled = (job: CopyJob): void => {
      this.#forget(job.jobId);
      work.wake();
    };
    const ended = new AbortController();
    const wanted = AbortSignal.any([signal, ended.signal]);
    const asking = new Set<Promise<CopyJob | null>>();
    const telling = this.#tellProgress(ended.signal);
    log.info("copying", { connections: connectionCount, ranges: figures.rangesTotal - figures.rangesDone });
    try {
      await runCopiers(
        options,
        connectionCount,
        {
          nextJob: () => {
            const asked = this.#nextJob(wanted);
            const answered = (): boolean => asking.delete(asked);
            asking.add(asked);
            asked.then(answered, answered);
            return asked;
          },
          done: async (job, result) => {
            const range = claimed.get(job.jobId)!;
            await persist("commit of a range", () => this.#complete(range, job, result));
            settled(job);
          },
          rewritten: async (job) => {
            const name = `${job.schema}.${job.table}`;
            await stopRewritten(this.#options, claimed.get(job.jobId)!, name, "it was rewritten during its copy");
            settled(job);
          },
          failed: async (job, error) => {
            if (error.action === "retry") throw error;
            await failCopy(this.#options, claimed.get(job.jobId)!, `${job.schema}.${job.table}`, error);
            settled(job);
          },
          progress: (jobId, rowCount, sizeBytes) => {
            figures.rowCount += rowCount;
            figures.sizeBytes += sizeBytes;
            const read = this.#read.get(jobId);
            if (read)
              this.#read.set(jobId, { rowCount: read.rowCount + rowCount, sizeBytes: read.sizeBytes + sizeBytes });
          },
        },
        signal,
        this.#options.copiers,
      );
    } finally {
      ended.abort();
      await telling;
      // One that still waited for a range would claim it for a thread that is gone, and nobody would ever read it.
      await Promise.allSettled(asking);
      // What was not completed is free for the next run at once.
      for (const range of claimed.values()) {
        await releaseRange(db, range);
        this.#forget(range.rangeId);
      }
    }
  }

  #forget(rangeId: number): void {
    this.#claimed.delete(rangeId);
    this.#read.delete(rangeId);
    this.#options.figures.running = this.#claimed.size;
  }

  /** Writes down how far the ranges are, as often as a heartbeat. A failure only leaves a gap. */
  async #tellProgress(signal: AbortSignal): Promise<void> {
    const { config, db, definitions, workerId, log } = this.#options;
    for (;;) {
      await systemClock.sleep(heartbeatMs(config.leaseMs), signal).catch(() => {}); // an abort ends the loop
      if (signal.aborted) return;
      this.#rate.set(definitions.config.copy.maxRateBytes);
      const progress = [...this.#claimed.values()].map(({ rangeId, attempt }) => {
        return { rangeId, attempt, ...(this.#read.get(rangeId) ?? { rowCount: 0, sizeBytes: 0 }) };
      });
      await storeProgress(db, workerId, progress).catch((error: unknown) =>
        log.debug("the progress of ranges was not stored", errorFacts(error)),
      );
    }
  }

  /** Waits while another connection of this worker has a range: it may be given back, or more may be planned. */
  async #nextJob(signal: AbortSignal): Promise<CopyJob | null> {
    const { config, db, definitions, snapshots, workerId, work, onTableChanged } = this.#options;
    while (!signal.aborted) {
      const seen = work.count;
      // What nobody needs any more is let go.
      if (systemClock.now() - this.#lookedAtMs > POLL_MS) await this.#lookMeanwhile();
      if (this.#options.waits()) {
        await work.wait(POLL_MS, signal, seen);
        continue;
      }
      const claim = { group: config.group, workerId, leaseMs: config.leaseMs, snapshots: snapshots.lsns };
      const range = await claimRange(db, claim);
      if (!range) {
        if (this.#claimed.size === 0) return null;
        await work.wait(POLL_MS, signal, seen);
        await this.#lookMeanwhile();
        continue;
      }
      this.#claims++;
      this.#claimed.set(range.rangeId, range);
      this.#read.set(range.rangeId, { rowCount: 0, sizeBytes: 0 });
      this.#options.figures.running = this.#claimed.size;
      failpoint("copy.range-claimed");
      const table = await this.#tableOf(range);
      const snapshot = snapshots.name(range.snapshot);
      if (table && snapshot !== undefined && this.#typesAreKnown(table)) {
        return toJob(range, table, snapshot, tableConfig(definitions.config, table.schema, table.name));
      }
      await releaseRange(db, range);
      this.#forget(range.rangeId);
      if (table && snapshot !== undefined) {
        // With newer ones at hand the copiers end and begin again; else somebody must read them first.
        if (this.#types !== definitions.types) return null;
        onTableChanged();
        await work.wait(POLL_MS, signal, seen);
      }
    }
    return null;
  }

  /** Undefined: it began anew a moment ago. */
  async #tableOf({ tableId, generation, schemaVersion }: ClaimedRange): Promise<Table | undefined> {
    const { config, db } = this.#options;
    const isIt = (table: Table | undefined) =>
      table !== undefined && table.generation === generation && table.schemaVersion === schemaVersion;
    if (!isIt(this.#tables.get(tableId))) {
      this.#tables = new Map((await readTables(db, config.group)).map((table) => [table.tableId, table]));
    }
    const table = this.#tables.get(tableId);
    return isIt(table) ? table : undefined;
  }

  /** Another worker may have registered it when its types were others than those that were read here. */
  #typesAreKnown({ columns }: Table): boolean {
    const types = this.#types;
    return columns.every(
      (column) =>
        types.has(column.typeOid) &&
        (!column.typeParts || equalParts(typeParts(column.typeOid, types) ?? undefined, column.typeParts)),
    );
  }

  async #complete(range: ClaimedRange, job: CopyJob, result: CopyJobResult): Promise<void> {
    const { db, log, figures } = this.#options;
    const { tableId, generation, snapshot } = range;
    const { schemaVersion } = job;
    failpoint("copy.before-range-commit");
    const completion = await completeRange(db, {
      range,
      snapshotLsn: snapshot,
      files: result.files.map(({ path, rowCount, sizeBytes, checksum }) => {
        const file = { tableId, generation, schemaVersion, path, rowCount, sizeBytes, checksum };
        return { ...file, lsnStart: snapshot, lsnEnd: snapshot };
      }),
      rows: result.rowCount,
      sizeBytes: result.sizeBytes,
      inexactColumns: result.inexact,
    });
    failpoint("copy.after-range-commit");
    const name = `${job.schema}.${job.table}`;
    if (completion.result === "fenced") {
      log.info("a range was taken over by another worker, or its table began anew", { table: name });
      return;
    }
    figures.rangesDone++;
    if (completion.tableState !== "copying") {
      log.info("table copied", { table: name, state: completion.tableState, snapshot: formatLsn(snapshot) });
    }
  }
}

function toJob(
  range: ClaimedRange,
  table: Table,
  snapshot: string,
  { onInexact, bloomFilter = [] }: Partial<TableConfig>,
): CopyJob {
  const { heapOid, heapSchema, heapName, relfilenode, blockFrom, blockTo, rangeNumber } = range;
  return {
    jobId: range.rangeId,
    group: table.group,
    schema: table.schema,
    table: table.name,
    schemaVersion: table.schemaVersion,
    columns: table.columns,
    exactOnly: onInexact === "error",
    bloomFilter,
    snapshot,
    snapshotLsn: range.snapshot as bigint,
    ...{ rangeNumber, heapOid, heapSchema, heapName, relfilenode, blockFrom, blockTo },
  };
}
