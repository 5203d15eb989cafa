// Runs one stream of a worker: claims it, opens the slot, and binds what becomes durable to the lease's fence.
// Each run is one connection; the service around it opens the next one with back-off.
import { isDeepStrictEqual } from "node:util";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import { runService } from "../base/service.ts";
import type { Config } from "../config/config.ts";
import { commitBatch } from "../metadata/batches.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import {
  claimStream,
  markStreamLost,
  movePosition,
  type StreamClaim,
  type StreamFence,
  type StreamKey,
  type Stream as StreamRow,
} from "../metadata/streams.ts";
import { readVersions } from "../metadata/table-versions.ts";
import { readTables, setTableError, type Table, type TableColumn } from "../metadata/tables.ts";
import type { PgType } from "../postgres/catalog.ts";
import { applicationName } from "../postgres/connect.ts";
import { openReplication, type ReplicationConnection } from "../postgres/replication.ts";
import { endSlotSession } from "../postgres/sessions.ts";
import { dropSlot, readSlot, slotLostError, slotLostReason, slotName } from "../postgres/slot.ts";
import type { Storage } from "../storage/storage.ts";
import type { Misfit } from "../stream/change-events.ts";
import { Stream } from "../stream/stream.ts";
import type { StreamCommits } from "../stream/stream-options.ts";
import { type StreamProgress, startProgress } from "../stream/stream-state.ts";
import type { StreamTable } from "../stream/stream-table.ts";
import { batchContent, batchFigures } from "./batch-content.ts";
import { resolveMisfit } from "./definition-changes.ts";
import type { Definitions } from "./definitions.ts";
import { streamTables } from "./discovery.ts";
import { followTimeline } from "./failover.ts";
import { onSource, refuseStandby } from "./source-connection.ts";

/** About a second: long enough for a connection that was lost by itself. */
const COMMIT_ATTEMPTS_AT_SOURCE = 4;

export interface StreamServiceOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly workerId: string;
  readonly stream: number;
  /** By number of the stream: the counters of this worker, which go on when it takes the stream again. */
  readonly counted: Map<number, StreamProgress>;
  readonly definitions: Definitions;
  readonly log: Log;
  /** A table's definition changed: it must be discovered again. */
  readonly onTableChanged: () => void;
}

export class StreamService {
  readonly #options: StreamServiceOptions;
  #binary: boolean;
  /** Newer ones than the definitions have. */
  #types: ReadonlyMap<number, PgType> | null = null;
  #again = false;
  /** As the slot is; null when the server does not know it. */
  #slotFailover: boolean | null = null;
  #current: Stream | null = null;
  #giveUp: AbortController | null = null;
  #tables: ReadonlyMap<number, StreamTable> = new Map();
  #reading: Promise<void> = Promise.resolve();
  /** Of the newest run: what this worker's writes for the stream are bound to. */
  fence: StreamFence | null = null;
  #waiting: ((stream: Stream) => void)[] = [];
  progress: StreamProgress | null = null;

  constructor(options: StreamServiceOptions) {
    this.#options = options;
    this.#binary = options.definitions.binary;
  }

  /** Runs until the signal, over lost connections. */
  run(signal: AbortSignal): Promise<void> {
    const { log, stream } = this.#options;
    const run = async (inner: AbortSignal): Promise<void> => {
      while (await this.#runOnce(inner)) log.debug("the stream begins again with new definitions");
    };
    return runService(run, signal, { name: `stream ${stream}`, log });
  }

  /** New versions of tables are stored: the stream finishes what it has read and goes on with them. */
  renew(types: ReadonlyMap<number, PgType>, columns: readonly TableColumn[]): void {
    if (!this.#knowsTypes(columns)) this.#options.onTableChanged();
    this.#types = types;
    this.#again = true;
    this.#current?.end();
  }

  /** The stream that runs now, or the next one that does. */
  async running(signal: AbortSignal): Promise<Stream> {
    signal.throwIfAborted(); // its event would never come, nor would another stream
    if (this.#current) return this.#current;
    const { promise, resolve, reject } = Promise.withResolvers<Stream>();
    this.#waiting.push(resolve);
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    return promise.finally(() => signal.removeEventListener("abort", abort));
  }

  get stream(): number {
    return this.#options.stream;
  }

  get slot(): string {
    return slotName(this.#options.config.group, this.stream);
  }

  /** Whether it reads the table as it is defined now: another worker may have registered it otherwise meanwhile. */
  knows(table: Table): boolean {
    const known = this.#tables.get(table.relationOid);
    return (
      known !== undefined &&
      known.tableId === table.tableId &&
      known.schemaVersion === table.schemaVersion &&
      isDeepStrictEqual(known.identity, table.identity)
    );
  }

  /** Other tables are registered now, and published: the stream that runs goes on with them. */
  async changeTables(): Promise<void> {
    this.#types = null;
    await this.#readTables();
    this.#current?.changeTables(this.#tables);
  }

  /** One after the other: the newest must stay. */
  #readTables(): Promise<void> {
    const { config, db, definitions, stream } = this.#options;
    this.#reading = this.#reading.then(async () => {
      const tables = await readTables(db, config.group);
      const versions = await readVersions(db, config.group);
      const types = this.#types ?? definitions.types;
      this.#tables = streamTables(tables, types, definitions.config.schemas, stream, versions);
    });
    const reading = this.#reading;
    this.#reading = reading.catch(() => {}); // told to who asked
    return reading;
  }

  /** Makes durable what has been read. */
  flush(): void {
    this.#current?.flush();
  }

  /** True: once more, with other definitions. */
  async #runOnce(signal: AbortSignal): Promise<boolean> {
    const { config, db, workerId, storage, counted, log } = this.#options;
    this.#again = false;
    // Claimed for every run: the new epoch makes sure that no commit of the run before can still arrive.
    const key = { group: config.group, stream: this.#options.stream };
    const claim = await claimStream(db, { ...key, workerId, leaseMs: config.leaseMs });
    if (!claim.taken) throw streamTaken(key, claim);
    const { stream, fence } = claim;
    this.fence = fence;
    failpoint("stream.taken");
    await this.#checkSlot(fence, stream);
    await this.#readTables();
    const connection = await openReplication(config.source, {
      applicationName: applicationName(config.group, "stream"),
    });
    const position = await this.#startPosition(connection, fence, stream);
    const before = counted.get(stream.stream);
    this.progress = before
      ? { ...before, reached: position, position, changedUpTo: position }
      : startProgress(position);
    counted.set(stream.stream, this.progress);
    const running = new Stream(connection, {
      group: config.group,
      stream: stream.stream,
      epoch: fence.epoch,
      slot: stream.slotName,
      publications: stream.publications,
      position,
      batch: stream.batch,
      tables: this.#tables,
      binary: this.#binary,
      storage,
      flushIntervalMs: config.stream.flushIntervalMs,
      fileSizeBytes: config.stream.fileSizeBytes,
      compression: config.compression,
      memoryBytes: config.stream.memoryBytes,
      spillFolder: config.stream.spillFolder,
      commits: this.#commits(fence, signal),
      progress: this.progress,
      log,
    });
    log.info("streaming", { slot: stream.slotName, position: formatLsn(position), binary: this.#binary });
    this.#current = running;
    for (const resolve of this.#waiting.splice(0)) resolve(running);
    const giveUp = new AbortController();
    this.#giveUp = giveUp;
    try {
      const ended = running.run(AbortSignal.any([signal, giveUp.signal]));
      if (this.#again) running.end(); // its tables were read before the newest version was stored
      await ended;
    } catch (error) {
      // Lost while it was read: the slot tells why.
      if (error instanceof PgFloError && error.code === "SLOT_LOST") {
        await this.#checkSlot(fence, { ...stream, position: this.progress.position });
      }
      throw this.#mapError(error);
    } finally {
      this.#current = null;
      this.#giveUp = null;
    }
    if (giveUp.signal.aborted && !signal.aborted) await this.#dropSlot(fence, stream.slotName);
    if (signal.aborted) return false;
    if (running.misfit) await this.#resolve(running.misfit);
    return this.#again || running.misfit !== null;
  }

  async #resolve(misfit: Misfit): Promise<void> {
    const { db, log, definitions, onTableChanged } = this.#options;
    const { copy, types, columns } = await resolveMisfit({ config: definitions.config, db, log }, misfit);
    if (types) this.#types = types;
    if (copy || !this.#knowsTypes(columns)) onTableChanged();
  }

  /** Copies must not write types otherwise than the stream: those that are newer than the definitions are read again. */
  #knowsTypes(columns: readonly TableColumn[]): boolean {
    return columns.every(({ typeOid }) => this.#options.definitions.types.has(typeOid));
  }

  /** The source's disk matters more: the stream finishes its batch, its slot is dropped, and the stream is lost. */
  giveUpSlot(): void {
    this.#giveUp?.abort();
  }

  /** In this order: a slot that is gone is told as lost by the next start, one that stays keeps WAL for nobody. */
  async #dropSlot(fence: StreamFence, slot: string): Promise<void> {
    const { config, db } = this.#options;
    await onSource(config, "drop the slot", (source) => dropSlot(source, slot));
    failpoint("slot.given-up");
    const error = slotLostError(slot, "wal_budget");
    await markStreamLost(db, fence);
    const event = { severity: "error", code: "SLOT_DROPPED", subject: slot } as const;
    await addEvent(db, config.group, { ...event, message: error.message });
    throw error;
  }

  /** Where the stream goes on at this server, which may be another one than last time. */
  async #startPosition(connection: ReplicationConnection, fence: StreamFence, stream: StreamRow): Promise<Lsn> {
    const { config, db, log } = this.#options;
    try {
      const position = await followTimeline(db, { fence, stream, log }, connection);
      if (position === null) throw streamFenced(fence);
      const { failover } = config.stream;
      if (this.#slotFailover !== null && this.#slotFailover !== failover) {
        await connection.alterSlot(stream.slotName, { failover });
        log.info(failover ? "the slot is synchronized to standbys" : "the slot stays on this server alone");
      }
      return position;
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  /** What the slot no longer has cannot be read any more: SLOT_LOST, with the cause. */
  async #checkSlot(fence: StreamFence, { slotName: slot, position }: StreamRow): Promise<void> {
    const { config, db } = this.#options;
    const state = await onSource(config, "read the slot", async (source) => {
      await refuseStandby(source, config.group); // what it has of slots says nothing before it is promoted
      // Of the worker that had the stream before, or of our own lost connection: neither can make anything durable.
      await endSlotSession(source, slot, [applicationName(config.group, "stream")]);
      return readSlot(source, slot);
    });
    this.#slotFailover = state.exists ? state.failover : null;
    const reason = slotLostReason(state, position!);
    if (reason === null) return;
    await markStreamLost(db, fence);
    failpoint("stream.marked-lost");
    throw slotLostError(slot, reason);
  }

  // A column that jams a binary slot was added after the start: the same slot decodes with text.
  #mapError(error: unknown): unknown {
    const jammed =
      error instanceof Error && /no binary output function/.test(`${error.message} ${String(error.cause)}`);
    const needsText = error instanceof PgFloError && error.code === "NEEDS_TEXT";
    if (!jammed && !needsText) return error;
    this.#binary = false;
    return needsText
      ? error
      : new PgFloError("NEEDS_TEXT", "stream, a column's type cannot be sent in binary", { cause: error });
  }

  #commits(fence: StreamFence, signal: AbortSignal): StreamCommits {
    const { db, log, config, storage } = this.#options;
    // A server that shuts down in order waits until its log is confirmed. When the metadata are on it too, they are gone
    // first: then the stream gives up, which lets the server end, and begins again at the last durable position.
    const { source, metadata } = config;
    const atSource = metadata.host === source.host && metadata.port === source.port;
    const limits = atSource ? { failuresMax: COMMIT_ATTEMPTS_AT_SOURCE } : {};
    const persist = (name: string, work: () => Promise<void>) => runService(work, signal, { name, log, ...limits });
    // Once more after the signal, which ends the retries: what goes before a position must not be left out.
    const persistAlways = async (name: string, work: () => Promise<void>) => {
      let done = false;
      const once = async () => {
        await work();
        done = true;
      };
      await persist(name, once);
      if (!done) await once();
    };
    return {
      batch: async (number, position, files, cut, changes) => {
        const batch = { ...fence, batch: number, position, ...batchContent(files, cut, changes) };
        await persistAlways("commit of a batch", async () => {
          failpoint("batch.before-commit");
          const outcome = await commitBatch(db, batch);
          if (outcome.result === "fenced") throw streamFenced(fence);
          failpoint("batch.after-commit");
          for (const path of outcome.refusedPaths) await storage.remove(path);
        });
        log.debug("batch committed", { batch: number, position: formatLsn(position), ...batchFigures(files, changes) });
      },
      position: (batch, position) =>
        persist("commit of a position", async () => {
          if ((await movePosition(db, { ...fence, batch, position })) === "fenced") throw streamFenced(fence);
          failpoint("stream.position-moved");
        }),
      tableFailed: async (table, error) => {
        const changed = error.code === "TABLE_CHANGED";
        const subject = `${table.schema}.${table.name}`;
        // What an encoder says does not name the table.
        const message = error.message.includes(subject) ? error.message : `table ${subject}: ${error.message}`;
        if (changed) log.warn(message, errorFacts(error));
        else log.error(message, errorFacts(error));
        // Its changes are dropped: unless the error is stored, nobody would miss them behind the batch's position.
        await persistAlways("error of a table", async () => {
          await setTableError(db, table, { code: error.code, message });
          failpoint("stream.table-failed");
          const severity = changed ? "warning" : "error";
          await addEvent(db, config.group, { severity, code: error.code, subject, message });
        });
        // The definition is read again, and the table copied with it.
        if (changed) this.#options.onTableChanged();
      },
    };
  }
}

/** What a worker is told that was replaced. */
export function streamFenced({ group, stream }: StreamKey): PgFloError {
  return new PgFloError("STREAM_TAKEN", `stream ${stream} of group ${group}, lease, another worker took it over`);
}

/** Says who owns the stream. */
function streamTaken({ group, stream }: StreamKey, claim: Extract<StreamClaim, { taken: false }>): PgFloError {
  const { host, pid, heartbeatAgeMs } = claim.owner;
  const age = heartbeatAgeMs === null ? "unknown" : `${Math.round(heartbeatAgeMs / 1000)} s ago`;
  return new PgFloError(
    "STREAM_TAKEN",
    `stream ${stream} of group ${group}, owner, worker with pid ${pid} on ${host} (last heartbeat ${age})`,
  );
}
