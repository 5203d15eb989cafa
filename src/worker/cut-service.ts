// What the owner of a stream does for the copy of its tables, those that are only copied going with the first stream:
// gives cuts to tables that wait for one, makes a snapshot where the one that is needed is lost, and plans ranges. Only
// the owner can: a cut is awaited by the stream that runs here. Copying itself is any worker's.
import { randomBytes } from "node:crypto";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import { runService } from "../base/service.ts";
import type { Wakeup } from "../base/wakeup.ts";
import type { Config } from "../config/config.ts";
import { planHeaps } from "../copy/plan.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { planTables, type TablePlan } from "../metadata/range-plans.ts";
import { type CopyNeed, movableTables, moveToSnapshot } from "../metadata/snapshots.ts";
import { takeCut } from "../metadata/streams.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import type { Storage } from "../storage/storage.ts";
import { completeCopies, heapsOf } from "./complete-copies.ts";
import { beginCopyAnew, stopRewritten } from "./copy-outcomes.ts";
import { measureHeaps, planStored } from "./copy-plan.ts";
import { stopChanged } from "./definition-check.ts";
import type { Definitions } from "./definitions.ts";
import { FIRST_STREAM } from "./discovery.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { changedHeaps, oneSnapshotReason } from "./resume-plan.ts";
import { snapshotOfNewSlot } from "./snapshot.ts";
import { onSource } from "./source-connection.ts";
import { type StreamService, streamFenced } from "./stream-service.ts";

const POLL_MS = 1000;
const COMPLETION_POLL_MS = 100;

export interface CutServiceOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly stream: StreamService;
  readonly snapshots: HeldSnapshots;
  readonly work: Wakeup;
  readonly definitions: Definitions;
  readonly log: Log;
  /** Another worker registered tables that this one does not know: the definitions must be read again. */
  readonly onTableChanged: () => void;
}

export class CutService {
  readonly #options: CutServiceOptions;

  constructor(options: CutServiceOptions) {
    this.#options = options;
  }

  /** Runs until the signal. */
  run(signal: AbortSignal): Promise<void> {
    const { log, stream } = this.#options;
    const name = `cuts of stream ${stream.stream}`;
    return runService((inner) => this.#serve(inner), signal, { name, log, nothingToFinish: true });
  }

  async #serve(signal: AbortSignal): Promise<void> {
    const { snapshots, work } = this.#options;
    await snapshots.check(); // it may be a lost one that failed the run before
    for (;;) {
      signal.throwIfAborted();
      const seen = work.count;
      const { needs, lost } = await snapshots.refresh();
      const own = needs.filter(({ stream }) => (stream ?? FIRST_STREAM) === this.#options.stream.stream);
      const gone = own.flatMap(({ snapshot }) => (snapshot !== null && lost.has(snapshot) ? [snapshot] : []));
      const pending = own.some(({ snapshot }) => snapshot === null);
      const leaving = await this.#leaveOld(own);
      if (pending || gone.length > 0 || leaving.size > 0) {
        if (!(await this.#newSnapshot(new Set(gone), leaving, signal))) await work.wait(POLL_MS, signal, seen);
      } else if (own.some(({ unplanned }) => unplanned > 0)) await this.#plan();
      else if (!own.some(({ copied }) => copied > 0)) await work.wait(POLL_MS, signal, seen);
      else await this.#complete(!own.some(({ rangesLeft }) => rangesLeft > 0), seen, signal);
    }
  }

  /** Tables that need not stay with a snapshot that has kept vacuum from cleaning for too long. */
  async #leaveOld(needs: readonly CopyNeed[]): Promise<ReadonlySet<number>> {
    const { config, db, definitions, stream, log } = this.#options;
    const old = needs.flatMap(({ snapshot, ageMs }) => {
      return snapshot !== null && ageMs !== null && ageMs >= definitions.config.copy.snapshotMaxAgeMs ? [snapshot] : [];
    });
    const leaving = await movableTables(db, { group: config.group, stream: stream.stream }, old);
    if (leaving.size > 0) log.info("a snapshot is older than copy.snapshot_max_age", { tables: leaving.size });
    return leaving;
  }

  /** Nobody hurries the stream while ranges are left. */
  async #complete(hurry: boolean, seen: number, signal: AbortSignal): Promise<void> {
    const { work, stream, definitions } = this.#options;
    const waiting = await completeCopies({ ...this.#options, types: definitions.types }, await this.#tables(), signal);
    if (waiting > 0 && hurry) stream.flush();
    await work.wait(waiting > 0 && hurry ? COMPLETION_POLL_MS : POLL_MS, signal, seen);
  }

  async #tables(): Promise<Table[]> {
    const { config, db, stream } = this.#options;
    return (await readTables(db, config.group)).filter((table) => (table.stream ?? FIRST_STREAM) === stream.stream);
  }

  /**
   * A temporary slot's snapshot. Tables without a cut get its consistent point, with the stream watching. False: there
   * are tables whose definition this worker has not read, or that the stream does not know yet.
   */
  async #newSnapshot(gone: ReadonlySet<Lsn>, leaving: ReadonlySet<number>, signal: AbortSignal): Promise<boolean> {
    const { config, log, definitions, snapshots, work, stream: service, onTableChanged } = this.#options;
    const goesOn = ({ state, snapshotLsn, tableId }: Table) =>
      state === "copying" && snapshotLsn !== null && (gone.has(snapshotLsn) || leaving.has(tableId));
    await this.#prepareResume((await this.#tables()).filter(goesOn));
    // Read again: a table that begins anew has another generation, which the stream must know.
    const tables = await this.#tables();
    const resumed = tables.filter(goesOn);
    const pending = tables.filter((table) => table.state === "pending");
    const stream = await service.running(signal);
    const streamed = pending.filter((table) => table.stream !== null);
    // With a definition from before it began anew it would soon be found to be another one, and be copied once more.
    const unread = pending.find((table) => !definitions.isRegistered(table));
    const unknown = unread ?? streamed.find((table) => !service.knows(table));
    if (unknown) {
      log.info("tables wait until their definitions were read", { table: `${unknown.schema}.${unknown.name}` });
      onTableChanged();
      return false;
    }
    const awaited = stream.awaitCut(new Map(streamed.map(({ tableId, generation }) => [tableId, generation])));
    failpoint("cut.awaited");
    const count = pending.length + resumed.length;
    log.info("creating a snapshot, which waits for the transactions that run now", { tables: count });
    const name = `pg_flo_${config.group}_copy_${randomBytes(3).toString("hex")}`;
    const snapshot = await snapshotOfNewSlot(config, { name, temporary: true }, signal);
    const { lsn } = snapshot;
    await snapshots.add(snapshot);
    try {
      failpoint("cut.slot-created");
      await stopChanged({ ...this.#options, config: definitions.config }, pending);
      if (awaited.length > 0) await stream.cutTaken(awaited, lsn);
      failpoint("cut.stored");
      await cutCopyOnly(this.#options.db, config.group, pending, lsn);
      await this.#goOnUnder(lsn, resumed);
    } finally {
      snapshots.settled(lsn);
      work.wake();
    }
    return true;
  }

  async #goOnUnder(snapshot: Lsn, tables: readonly Table[]): Promise<void> {
    const { db, stream, log } = this.#options;
    if (tables.length === 0) return;
    const moved = await moveToSnapshot(db, stream.fence!, { tables, snapshot });
    if (moved === "fenced") throw streamFenced(stream.fence!);
    log.info("the copy goes on under a new snapshot", { tables: moved.length, snapshot: formatLsn(snapshot) });
  }

  /** Tables whose copy was begun under a snapshot that is gone: those that cannot go on under another begin anew. */
  async #prepareResume(copying: readonly Table[]): Promise<void> {
    if (copying.length === 0) return;
    const { config, db, definitions } = this.#options;
    await onSource(config, "plan the copy", async (source) => {
      const heapsByTable = await heapsOf(source, copying);
      const measuredByTable = await measureHeaps(source, heapsByTable);
      const stored = await planStored(db, config.group);
      for (const table of copying) {
        const { tableId, schema, name } = table;
        const subject = `${schema}.${name}`;
        const changed = changedHeaps(table, measuredByTable.get(tableId) ?? [], stored.get(tableId) ?? []);
        const reason = oneSnapshotReason(table, heapsByTable.get(tableId) ?? [], definitions.types);
        if (changed !== null) await stopRewritten(this.#options, table, subject, changed);
        else if (reason !== null) await beginCopyAnew(this.#options, table, subject, reason);
      }
    });
  }

  /** Measured only now: what the snapshot sees lies in blocks that are there, or in the open end of the last range. */
  async #plan(): Promise<void> {
    const { config, db, work, log, definitions } = this.#options;
    const unplanned = (await this.#tables()).filter((table) => table.state === "copying" && table.rangesTotal === null);
    await onSource(config, "plan the copy", async (source) => {
      const heapsByTable = await heapsOf(source, unplanned);
      const measured = await measureHeaps(source, heapsByTable);
      const plans = unplanned.map((table): TablePlan => {
        const { tableId, generation } = table;
        const heaps = measured.get(tableId) ?? [];
        const tableBlocks = heaps.reduce((sum, heap) => sum + Math.ceil(heap.heapBytes / heap.blockBytes), 0);
        const oneSnapshot = oneSnapshotReason(table, heapsByTable.get(tableId) ?? [], definitions.types) !== null;
        return { tableId, generation, tableBlocks, oneSnapshot, ranges: planHeaps(heaps, config.copy.fileSizeBytes) };
      });
      await planTables(db, plans);
      failpoint("copy.planned");
      const ranges = plans.reduce((sum, plan) => sum + plan.ranges.length, 0);
      log.info("planned the copy", { tables: plans.length, ranges });
    });
    work.wake();
  }
}

/** The cut of those of the tables that wait for one and are only copied. */
export async function cutCopyOnly(db: Queryable, group: string, tables: readonly Table[], lsn: Lsn): Promise<void> {
  const copyOnly = tables.filter((table) => table.stream === null && table.state === "pending");
  if (copyOnly.length === 0) return;
  await takeCut(db, { group, fence: null, tables: copyOnly, lsn });
  failpoint("cut.copy-only-stored");
}
