// Copies what is left to copy: takes a snapshot, gives cuts to the tables that wait for one, plans ranges, runs copiers.
// Each run works under one snapshot; the service around it begins again under a new one when that is lost.
import { randomBytes } from "node:crypto";
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import { runService } from "../base/service.ts";
import type { Config, TableConfig } from "../config/config.ts";
import { runCopiers } from "../copy/copier.ts";
import type { CopyJob, CopyJobResult } from "../copy/copier-messages.ts";
import { type MeasuredHeap, planHeaps } from "../copy/plan.ts";
import { awaitsCompletion } from "../metadata/copy-completion.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import {
  type ClaimedRange,
  claimRange,
  completeRange,
  planRanges,
  releaseRange,
  releaseRanges,
} from "../metadata/ranges.ts";
import { takeCut } from "../metadata/streams.ts";
import { copyAgain, readTables, setTableError, type Table } from "../metadata/tables.ts";
import { type PgType, readTables as readSourceTables, type SourceTable } from "../postgres/catalog.ts";
import { applicationName } from "../postgres/connect.ts";
import type { Storage } from "../storage/storage.ts";
import { type CopiedTable, completeTable, streamHasReached, waitForStream } from "./complete-unchanged.ts";
import { measureHeaps, planStored } from "./copy-plan.ts";
import { changedHeaps, resumable } from "./resume-plan.ts";
import { type HeldSnapshot, snapshotOfNewSlot } from "./snapshot.ts";
import { onSource } from "./source-connection.ts";
import type { StreamService } from "./stream-service.ts";
import { tableConfig } from "./table-config.ts";

export interface CopyServiceOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly workerId: string;
  readonly types: ReadonlyMap<number, PgType>;
  readonly stream: StreamService;
  readonly log: Log;
  /** A table's definition changed: it must be discovered again. */
  readonly onTableChanged: () => void;
}

/** For progress bars, status and metrics. */
export interface CopyFigures {
  rowCount: number;
  sizeBytes: number;
  rangesDone: number;
  rangesTotal: number;
  /** The newest snapshot: what was copied is right from this position on. */
  snapshotLsn: Lsn | null;
}

export class CopyService {
  readonly #options: CopyServiceOptions;
  #initial: HeldSnapshot | null;
  readonly figures: CopyFigures = { rowCount: 0, sizeBytes: 0, rangesDone: 0, rangesTotal: 0, snapshotLsn: null };

  /** `initial`: the snapshot of the stream's own slot, when that was just created. */
  constructor(options: CopyServiceOptions, initial: HeldSnapshot | null) {
    this.#options = options;
    this.#initial = initial;
  }

  /** Runs until there is nothing left to copy, or the signal. */
  run(signal: AbortSignal): Promise<void> {
    return runService((inner) => this.#copyAll(inner), signal, { name: "copy", log: this.#options.log });
  }

  async #copyAll(signal: AbortSignal): Promise<void> {
    try {
      await this.#copyRounds(signal);
    } finally {
      await this.#takeInitial()?.[Symbol.asyncDispose](); // not taken: nothing was left to copy, or a failure came first
    }
  }

  async #copyRounds(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const tables = await readTables(this.#options.db, this.#options.config.group);
      const waiting = tables.filter((table) => table.state === "pending" || table.state === "copying");
      if (waiting.length === 0) return;
      await using snapshot = this.#takeInitial() ?? (await this.#newSnapshot(waiting, signal));
      await this.#copyUnder(snapshot, signal);
    }
  }

  #takeInitial(): HeldSnapshot | null {
    const initial = this.#initial;
    this.#initial = null;
    return initial;
  }

  /** A temporary slot's snapshot. Tables without a cut get its consistent point, with the stream watching. */
  async #newSnapshot(waiting: readonly Table[], signal: AbortSignal): Promise<HeldSnapshot> {
    const { config, log } = this.#options;
    await this.#prepareResume(waiting.filter((table) => table.state === "copying"));
    // Read again: a table that begins anew has another generation, which the stream must know.
    const pending = (await readTables(this.#options.db, config.group)).filter((table) => table.state === "pending");
    const streamed = new Map(
      pending.filter((table) => table.stream !== null).map((table) => [table.tableId, table.generation]),
    );
    const stream = streamed.size > 0 ? await this.#options.stream.running(signal) : null;
    const awaited = stream?.awaitCut(streamed) ?? [];
    failpoint("cut.awaited");
    log.info("creating a snapshot, which waits for the transactions that run now", { tables: waiting.length });
    const name = `pg_flo_${config.group}_copy_${randomBytes(3).toString("hex")}`;
    const snapshot = await snapshotOfNewSlot(config, { name, temporary: true }, signal);
    try {
      failpoint("cut.slot-created");
      await stream?.cutTaken(awaited, snapshot.lsn);
      failpoint("cut.stored");
      const copyOnly = pending.filter((table) => table.stream === null).map((table) => table.tableId);
      await this.#cutCopyOnly(copyOnly, snapshot.lsn);
      return snapshot;
    } catch (error) {
      await snapshot[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #cutCopyOnly(tableIds: readonly number[], lsn: Lsn): Promise<void> {
    const { config, db } = this.#options;
    if (tableIds.length === 0) return;
    await takeCut(db, { group: config.group, fence: null, tableIds, lsn });
    failpoint("cut.copy-only-stored");
  }

  /** Tables whose copy was begun under a snapshot that is gone: those that cannot go on under another begin anew. */
  async #prepareResume(copying: readonly Table[]): Promise<void> {
    if (copying.length === 0) return;
    const { config, db } = this.#options;
    await onSource(config, "plan the copy", async (source) => {
      const heapsByTable = await this.#heapsOf(source, copying);
      const measuredByTable = await measureHeaps(source, heapsByTable);
      const stored = await planStored(db, config.group);
      for (const table of copying) {
        const { tableId } = table;
        const now = { heaps: heapsByTable.get(tableId) ?? [], measured: measuredByTable.get(tableId) ?? [] };
        const reason = resumable(table, now, stored.get(tableId) ?? [], this.#options.types);
        if (reason !== null) await this.#beginAnew(table, reason);
      }
    });
  }

  async #copyUnder(snapshot: HeldSnapshot, signal: AbortSignal): Promise<void> {
    const { config, db, log, workerId } = this.#options;
    this.figures.snapshotLsn = snapshot.lsn;
    await releaseRanges(db, workerId);
    await this.#cutCopyOnly(await this.#pendingCopyOnly(), snapshot.lsn);
    const tables = (await readTables(db, config.group)).filter((table) => table.state === "copying");
    await this.#plan(tables);
    const planned = (await readTables(db, config.group)).filter((table) => table.state === "copying");
    const rangesLeft = planned.reduce((sum, table) => sum + (table.rangesTotal ?? 0) - table.rangesDone, 0);
    this.figures.rangesTotal = this.figures.rangesDone + rangesLeft;
    if (rangesLeft > 0) {
      log.info("copying", { tables: planned.length, ranges: rangesLeft, snapshot: formatLsn(snapshot.lsn) });
      await this.#runCopiers(snapshot, planned, Math.min(config.copy.parallel, rangesLeft), signal);
    }
    await this.#completeCopies(snapshot, signal);
  }

  /** What was read under several snapshots becomes one moment. Nobody waits for the stream while ranges are left. */
  async #completeCopies(snapshot: HeldSnapshot, signal: AbortSignal): Promise<void> {
    const { config, db } = this.#options;
    const tables = (await readTables(db, config.group)).filter((table) => table.state === "copying");
    const copied = tables.filter(awaitsCompletion);
    for (const each of await this.#heapsOfCopied(copied)) {
      const { table } = each;
      const options = { ...this.#options, flush: () => this.#options.stream.flush() };
      if (tables.length === copied.length) await waitForStream(options, table, snapshot.lsn, signal);
      else if (!(await streamHasReached(db, table, snapshot.lsn))) continue;
      try {
        if (each.changed === null) await completeTable(options, each, snapshot, signal);
        else await this.#beginAnew(table, each.changed);
      } catch (error) {
        if (!(error instanceof PgFloError) || error.action !== "stop-table") throw error;
        if (error.facts.rewritten === true) await this.#beginAnew(table, "it was rewritten since");
        else await this.#failTable(table, `${table.schema}.${table.name}`, error);
      }
    }
  }

  async #heapsOfCopied(tables: readonly Table[]): Promise<(CopiedTable & { readonly changed: string | null })[]> {
    if (tables.length === 0) return [];
    const { config, db } = this.#options;
    const planned = await planStored(db, config.group);
    return onSource(config, "complete the copy", async (source) => {
      const heaps = await this.#heapsOf(source, tables);
      const measured = await measureHeaps(source, heaps);
      return tables.map((table) => {
        const { tableId } = table;
        const ofTable = { heaps: heaps.get(tableId) ?? [], planned: planned.get(tableId) ?? [] };
        return { table, ...ofTable, changed: changedHeaps(table, measured.get(tableId) ?? [], ofTable.planned) };
      });
    });
  }

  async #pendingCopyOnly(): Promise<number[]> {
    const { config, db } = this.#options;
    const tables = await readTables(db, config.group);
    return tables.filter((table) => table.state === "pending" && table.stream === null).map((table) => table.tableId);
  }

  /** Measured only now: what the snapshot sees lies in blocks that are there, or in the open end of the last range. */
  async #plan(tables: readonly Table[]): Promise<void> {
    const unplanned = tables.filter((table) => table.rangesTotal === null);
    if (unplanned.length === 0) return;
    const { config, db } = this.#options;
    await onSource(config, "plan the copy", async (source) => {
      const measured = await measureHeaps(source, await this.#heapsOf(source, unplanned));
      for (const table of unplanned) {
        const heaps: readonly MeasuredHeap[] = measured.get(table.tableId) ?? [];
        const tableBlocks = heaps.reduce((sum, heap) => sum + Math.ceil(heap.heapBytes / heap.blockBytes), 0);
        const { tableId, generation } = table;
        const ranges = planHeaps(heaps, config.copy.fileSizeBytes);
        await planRanges(db, { tableId, generation, tableBlocks, ranges });
        failpoint("copy.planned");
      }
    });
  }

  /** The heaps that the source has now, by table. */
  async #heapsOf(source: ClientBase, tables: readonly Table[]): Promise<Map<number, SourceTable["heaps"]>> {
    const byOid = new Map((await readSourceTables(source)).map((table) => [table.oid, table.heaps]));
    return new Map(tables.map((table) => [table.tableId, byOid.get(table.relationOid) ?? []]));
  }

  async #runCopiers(
    snapshot: HeldSnapshot,
    tables: readonly Table[],
    connectionCount: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { config, db, workerId, types, log } = this.#options;
    const byId = new Map(tables.map((table) => [table.tableId, table]));
    const claimed = new Map<number, ClaimedRange>();
    const persist = (name: string, work: () => Promise<void>) => runService(work, signal, { name, log });
    const options = {
      source: config.source,
      applicationName: applicationName(config.group, "copy"),
      storage: config.storage,
      snapshot: snapshot.name,
      snapshotLsn: snapshot.lsn as bigint,
      types,
      fileSizeBytes: config.copy.fileSizeBytes,
    };
    try {
      await runCopiers(
        options,
        connectionCount,
        {
          nextJob: async () => {
            const claim = { group: config.group, workerId, leaseMs: config.leaseMs, tableIds: [...byId.keys()] };
            const range = await claimRange(db, claim);
            if (!range) return null;
            claimed.set(range.rangeId, range);
            failpoint("copy.range-claimed");
            const table = byId.get(range.tableId)!;
            return toJob(range, table, tableConfig(config, table.schema, table.name));
          },
          done: async (job, result) => {
            const range = claimed.get(job.jobId)!;
            await persist("commit of a range", () => this.#complete(range, job, result, snapshot.lsn));
            claimed.delete(job.jobId);
          },
          rewritten: async (job) => {
            const table = byId.get(claimed.get(job.jobId)!.tableId)!;
            await this.#beginAnew(table, "it was rewritten during its copy");
            claimed.delete(job.jobId);
          },
          failed: async (job, error) => {
            if (error.action === "retry") throw error;
            await this.#failTable(claimed.get(job.jobId)!, `${job.schema}.${job.table}`, error);
            claimed.delete(job.jobId);
          },
          progress: (rowCount, sizeBytes) => {
            this.figures.rowCount += rowCount;
            this.figures.sizeBytes += sizeBytes;
          },
        },
        signal,
      );
    } finally {
      // What was not completed is free for the next run at once.
      for (const range of claimed.values()) await releaseRange(db, range);
    }
  }

  async #complete(range: ClaimedRange, job: CopyJob, result: CopyJobResult, snapshotLsn: Lsn): Promise<void> {
    const { db, log } = this.#options;
    const { tableId, generation } = range;
    const { schemaVersion } = job;
    failpoint("copy.before-range-commit");
    const completion = await completeRange(db, {
      range,
      snapshotLsn,
      files: result.files.map(({ path, rowCount, sizeBytes, checksum }) => {
        const file = { tableId, generation, schemaVersion, path, rowCount, sizeBytes, checksum };
        return { ...file, lsnStart: snapshotLsn, lsnEnd: snapshotLsn };
      }),
      rows: result.rowCount,
      sizeBytes: result.sizeBytes,
      inexactColumns: result.inexact,
    });
    failpoint("copy.after-range-commit");
    this.figures.rangesDone++;
    if (completion.result === "done" && completion.tableState !== "copying") {
      log.info("table copied", { table: `${job.schema}.${job.table}`, state: completion.tableState });
    }
  }

  async #beginAnew(table: Table, reason: string): Promise<void> {
    const { config, db, log, storage } = this.#options;
    log.warn("the copy of this table begins anew", { table: `${table.schema}.${table.name}`, reason });
    for (const path of (await copyAgain(db, config.group, table.tableId)) ?? []) await storage.remove(path);
  }

  async #failTable(
    table: { readonly tableId: number; readonly generation: number },
    subject: string,
    error: PgFloError,
  ): Promise<void> {
    const { config, db, log } = this.#options;
    // A definition that is another one now is read again, and the table copied with it.
    const changed = error.code === "TABLE_CHANGED";
    const known = changed || error.code === "TABLE_FAILED";
    const failure = known ? error : new PgFloError("TABLE_FAILED", `table ${subject}, copy, ${error.message}`);
    log.error(failure.message, errorFacts(error));
    await setTableError(db, table, { code: failure.code, message: failure.message });
    failpoint("copy.table-failing");
    await addEvent(db, config.group, { severity: "error", code: error.code, subject, message: failure.message });
    if (changed) this.#options.onTableChanged();
  }
}

function toJob(range: ClaimedRange, table: Table, { onInexact, bloomFilter = [] }: Partial<TableConfig>): CopyJob {
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
    ...{ rangeNumber, heapOid, heapSchema, heapName, relfilenode, blockFrom, blockTo },
  };
}
