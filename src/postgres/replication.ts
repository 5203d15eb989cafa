// The replication connection: slots, and one running stream whose messages go to a handler in place.
// It answers the walsender by a timer of its own, so that a handler that holds back reading cannot cost the connection.
// It does not look into pgoutput messages, and confirms nothing by itself: only `confirm` moves the slot.
// Source: https://www.postgresql.org/docs/current/protocol-replication.html
import { type DatabaseError, escapeIdentifier } from "pg";
import { type ConnectionConfig, RECEIVE_TIMEOUT_MS } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { formatLsn, LSN_ZERO, type Lsn, lsn, parseLsn } from "../base/lsn.ts";
import { takeBytesAsTheyAre } from "./client-encoding.ts";
import { connect, receiveTimeoutMs } from "./connect.ts";
import { toPgFloError } from "./pg-error.ts";
import { type RawConnection, type TextRow, takeOver } from "./raw-connection.ts";
import { GatheringSocket } from "./socket.ts";
import { standbyStatusMessage, violation } from "./wire.ts";

export interface ReplicationOptions {
  readonly applicationName: string;
  /** More session settings, each `name=value`. */
  readonly options?: readonly string[];
}

export interface SystemIdentity {
  readonly systemId: string;
  readonly timeline: number;
  readonly xlogPos: Lsn;
  readonly dbname: string;
}

export interface SlotOptions {
  readonly temporary: boolean;
  readonly snapshot: "export" | "nothing";
  /** Synchronized to standbys; PostgreSQL 17 and later. */
  readonly failover?: boolean;
}

export interface CreatedSlot {
  /** The exported snapshot sees exactly the transactions with a commit LSN below it. */
  readonly consistentPoint: Lsn;
  /** Null with `nothing`. Valid until the next command on this connection. */
  readonly snapshotName: string | null;
}

/** https://www.postgresql.org/docs/current/protocol-logical-replication.html#PROTOCOL-LOGICAL-REPLICATION-PARAMS */
export interface StartOptions {
  readonly slot: string;
  /** The server starts here or at the slot's confirmed position, whichever is later. */
  readonly startLsn: Lsn;
  readonly protoVersion: 1 | 2 | 3 | 4;
  readonly publicationNames: readonly string[];
  readonly binary: boolean;
  readonly messages: boolean;
  readonly streaming?: "on" | "parallel";
}

export interface ReplicationHandler {
  /**
   * One pgoutput message, `bytes` from `start` to `end`. Its WAL position is the 64-bit integer in `view` at
   * `walStartAt`, which is read only by who needs it: a bigint per message would cost more than the message.
   */
  data(bytes: Uint8Array, view: DataView, start: number, end: number, walStartAt: number): void;
  /** Everything before `walEnd` that concerns this slot was sent. */
  keepalive(walEnd: Lsn): void;
  /** As CopyHandler's: after the last message of what was received; a promise holds back reading. */
  chunk(): void | Promise<void>;
}

const STATUS_INTERVAL_MS = 10_000;
/** While reading is held back the walsender's request for an answer cannot be seen: so it is answered unasked. */
const HELD_STATUS_INTERVAL_MS = 1000;
const CONFIRM_INTERVAL_MS = 100;
const STOP_TIMEOUT_MS = 2000;

const XLOG_DATA = 0x77; // w: int64 start, int64 end, int64 time, payload
const XLOG_DATA_HEADER_BYTES = 25;
const KEEPALIVE = 0x6b; // k: int64 end, int64 time, byte reply requested
const KEEPALIVE_BYTES = 18;

/** Connects for logical replication to the config's database. Errors as `connect`'s. */
export async function openReplication(
  config: ConnectionConfig,
  options: ReplicationOptions,
): Promise<ReplicationConnection> {
  const client = await connect(config, {
    ...options,
    replication: "database",
    stream: () => new GatheringSocket({ gather: true }),
  });
  const raw = takeOver(client, receiveTimeoutMs(config));
  try {
    await takeBytesAsTheyAre(raw);
    const [row] = await raw.query("SHOW server_version_num");
    return new ReplicationConnection(raw, Number(row?.[0]), receiveTimeoutMs(config));
  } catch (error) {
    raw.destroy();
    throw error;
  }
}

export class ReplicationConnection {
  /** As `server_version_num`: 180004 is 18.4. */
  readonly serverVersion: number;
  readonly #raw: RawConnection;
  readonly #receiveTimeoutMs: number;
  #askedMs = 0;
  #handler: ReplicationHandler | undefined;
  #stopping = false;
  // The highest WAL position seen, in halves: a bigint per message would allocate.
  #receivedHigh = 0;
  #receivedLow = 0;
  #confirmed: Lsn = LSN_ZERO;
  #statusSentMs = 0;
  #confirmTimer: NodeJS.Timeout | undefined;

  constructor(raw: RawConnection, serverVersion: number, receiveTimeoutMs = RECEIVE_TIMEOUT_MS) {
    this.#raw = raw;
    this.#receiveTimeoutMs = receiveTimeoutMs;
    this.serverVersion = serverVersion;
  }

  async identifySystem(): Promise<SystemIdentity> {
    const row = await this.#oneRow("IDENTIFY_SYSTEM", 4);
    return { systemId: row[0]!, timeline: Number(row[1]), xlogPos: parseLsn(row[2]!), dbname: row[3] ?? "" };
  }

  /** The text of a timeline's history; of the first one it is empty. */
  async timelineHistory(timeline: number): Promise<string> {
    return timeline === 1 ? "" : (await this.#oneRow(`TIMELINE_HISTORY ${timeline}`, 2))[1]!;
  }

  /** Whether a permanent slot, which nobody reads, is synchronized to standbys. PostgreSQL 17 and later. */
  async alterSlot(name: string, options: { readonly failover: boolean }): Promise<void> {
    await this.#raw.query(`ALTER_REPLICATION_SLOT ${escapeIdentifier(name)} (FAILOVER ${options.failover})`);
  }

  /** Creates a pgoutput slot; waits until every transaction that runs now has ended. */
  async createSlot(name: string, options: SlotOptions): Promise<CreatedSlot> {
    const temporary = options.temporary ? " TEMPORARY" : "";
    const sql = `CREATE_REPLICATION_SLOT ${escapeIdentifier(name)}${temporary} LOGICAL pgoutput`;
    const row = await this.#oneRow(`${sql} ${slotOptions(options, this.serverVersion)}`, 4, { patient: true });
    return { consistentPoint: parseLsn(row[1]!), snapshotName: row[2] ?? null };
  }

  /** Drops a slot, and waits until nobody uses it. */
  async dropSlot(name: string): Promise<void> {
    await this.#raw.query(`DROP_REPLICATION_SLOT ${escapeIdentifier(name)} WAIT`, { patient: true });
  }

  /**
   * Streams until the signal, then resolves after a polite end (or 2 s). Rejects with the mapped error when the server
   * ends it (a lost slot, a missing publication, a shutdown: CONNECTION_LOST) or with what the handler threw.
   * After the signal no handler is called any more, and other commands still work; a new stream needs a new connection.
   */
  async start(options: StartOptions, handler: ReplicationHandler, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    // The walsender never resets its "streaming is done": a second stream would end as soon as it has begun.
    if (this.#stopping) throw new PgFloError("INTERNAL", `slot ${options.slot}, stream, a connection streams once`);
    this.#handler = handler;
    const run = this.#raw.copyBoth(startCommand(options), {
      row: (bytes, view, start, end) => this.#onCopyData(bytes, view, start, end),
      chunk: () => (this.#stopping ? undefined : handler.chunk()),
      notice: (notice) => refuseWarning(notice, options.slot),
    });
    const ticker = setInterval(() => this.#tick(), Math.min(HELD_STATUS_INTERVAL_MS, this.#receiveTimeoutMs / 3));
    let stopTimer: NodeJS.Timeout | undefined;
    const stop = () => {
      this.#stopping = true;
      this.#sendStatus();
      this.#raw.endCopy();
      stopTimer = setTimeout(() => this.#raw.destroy(), STOP_TIMEOUT_MS);
    };
    signal.addEventListener("abort", stop, { once: true });
    try {
      await run;
    } catch (error) {
      // A connection that breaks after we asked for the end has ended as we asked.
      if (!this.#stopping || !(error instanceof PgFloError) || error.code !== "CONNECTION_LOST") throw error;
    } finally {
      signal.removeEventListener("abort", stop);
      clearInterval(ticker);
      clearTimeout(stopTimer);
      clearTimeout(this.#confirmTimer);
      this.#confirmTimer = undefined;
      this.#handler = undefined;
    }
    if (!this.#stopping) throw new PgFloError("CONNECTION_LOST", `slot ${options.slot}, stream, the server ended it`);
  }

  /**
   * Says that everything before `position` is durable; the server may then drop its WAL. Sent soon, at most ten times
   * a second. Going back is without effect.
   */
  confirm(position: Lsn): void {
    if (position <= this.#confirmed) return;
    this.#confirmed = position;
    if (this.#handler === undefined || this.#confirmTimer !== undefined) return;
    const waitMs = Math.max(0, this.#statusSentMs + CONFIRM_INTERVAL_MS - performance.now());
    this.#confirmTimer = setTimeout(() => this.#sendStatus(), waitMs);
  }

  /** The highest WAL position that the server has sent. */
  get received(): Lsn {
    return lsn((BigInt(this.#receivedHigh) << 32n) | BigInt(this.#receivedLow));
  }

  close(): Promise<void> {
    return this.#raw.close();
  }

  destroy(reason?: Error): void {
    this.#raw.destroy(reason);
  }

  /** As a connection that brings nothing, although something is due. */
  destroySilent(): void {
    this.#raw.destroy(this.#raw.silent());
  }

  #onCopyData(bytes: Uint8Array, view: DataView, start: number, end: number): void {
    const handler = this.#handler;
    if (handler === undefined || this.#stopping) return;
    const type = end > start ? bytes[start] : undefined;
    if (type === XLOG_DATA && end - start >= XLOG_DATA_HEADER_BYTES) {
      this.#onReceived(view.getUint32(start + 9), view.getUint32(start + 13));
      handler.data(bytes, view, start + XLOG_DATA_HEADER_BYTES, end, start + 1);
    } else if (type === KEEPALIVE && end - start >= KEEPALIVE_BYTES) {
      this.#onReceived(view.getUint32(start + 1), view.getUint32(start + 5));
      handler.keepalive(lsn(view.getBigUint64(start + 1)));
      if (bytes[start + 17] === 1) this.#sendStatus();
    } else throw violation("neither XLogData nor a keepalive", start);
  }

  /** Decoded transactions come in commit order, so their changes' positions go back and forth: the highest counts. */
  #onReceived(high: number, low: number): void {
    if (high < this.#receivedHigh || (high === this.#receivedHigh && low <= this.#receivedLow)) return;
    this.#receivedHigh = high;
    this.#receivedLow = low;
  }

  #tick(): void {
    const { silentMs } = this.#raw;
    if (silentMs > this.#receiveTimeoutMs) {
      this.#raw.endIfSilent();
      return;
    }
    // A server that has nothing to tell answers at once, so that silence means that it cannot be heard.
    const waitMs = this.#receiveTimeoutMs / 3;
    if (silentMs > waitMs && performance.now() - this.#askedMs > waitMs) {
      this.#askedMs = performance.now();
      this.#sendStatus(true);
    }
    if (this.#raw.paused || performance.now() - this.#statusSentMs >= STATUS_INTERVAL_MS - HELD_STATUS_INTERVAL_MS) {
      this.#sendStatus();
    }
  }

  #sendStatus(replyRequested = false): void {
    clearTimeout(this.#confirmTimer);
    this.#confirmTimer = undefined;
    this.#statusSentMs = performance.now();
    const flushed = this.#confirmed;
    const received = this.received;
    const written = received < flushed ? flushed : received;
    this.#raw.send(standbyStatusMessage({ written, flushed, timeMs: Date.now(), replyRequested }));
  }

  async #oneRow(command: string, columnCount: number, patience = { patient: false }): Promise<TextRow> {
    const rows = await this.#raw.query(command, patience);
    const row = rows[0];
    if (rows.length !== 1 || row === undefined || row.length < columnCount) {
      throw violation(`the answer to ${command.split(" ")[0]} has an unknown form`, 0);
    }
    return row;
  }
}

/**
 * From PostgreSQL 18 a publication that does not exist is only a warning, and its changes are skipped in silence; it is
 * an error before. Object not in prerequisite state is what that warning carries: nothing else warns with it.
 */
function refuseWarning(notice: DatabaseError, slot: string): void {
  if (notice.code === "55000") throw toPgFloError(notice, `slot ${slot}, stream`);
}

/** PostgreSQL 15 brought the list in parentheses, and 14 knows only the old words. */
function slotOptions(options: SlotOptions, serverVersion: number): string {
  if (serverVersion < 150000) return options.snapshot === "export" ? "EXPORT_SNAPSHOT" : "NOEXPORT_SNAPSHOT";
  const failover = options.failover && serverVersion >= 170000 ? ", FAILOVER true" : "";
  return `(SNAPSHOT '${options.snapshot}'${failover})`;
}

function startCommand(options: StartOptions): string {
  const parameters = [
    `proto_version '${options.protoVersion}'`,
    `publication_names ${quote(options.publicationNames.map((name) => escapeIdentifier(name)).join(","))}`,
    ...(options.binary ? ["binary 'true'"] : []),
    ...(options.messages ? ["messages 'true'"] : []),
    ...(options.streaming === undefined ? [] : [`streaming '${options.streaming}'`]),
  ];
  const slot = escapeIdentifier(options.slot);
  return `START_REPLICATION SLOT ${slot} LOGICAL ${formatLsn(options.startLsn)} (${parameters.join(", ")})`;
}

/** The replication grammar knows only doubled quotes: pg's escapeLiteral would write E'…' for a backslash. */
function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
