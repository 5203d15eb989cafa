// One authenticated connection read by our own framing: small queries, COPY out, and COPY both for replication.
// Bytes go to a handler in place; nothing is allocated per message. Refuses pipelining: one operation at a time.
// Source: https://www.postgresql.org/docs/current/protocol-flow.html
import type { Duplex } from "node:stream";
import type { Client, DatabaseError } from "pg";
import { RECEIVE_TIMEOUT_MS } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import { toPgFloError } from "./pg-error.ts";
import type { ReceiveBuffer } from "./receive-buffer.ts";
import { type ByteSource, GatheringSocket, StreamSource } from "./socket.ts";
import {
  backend,
  copyDoneMessage,
  parseDataRow,
  parseErrorFields,
  partialMessageBytes,
  queryMessage,
  readMessages,
  terminateMessage,
  violation,
} from "./wire.ts";

export type TextRow = (string | null)[];

export interface CopyHandler {
  /** One CopyData payload: `bytes` from `start` to `end`; `view` covers the same bytes at the same positions. */
  row(bytes: Uint8Array, view: DataView, start: number, end: number): void;
  /**
   * After the last whole message of what was received, before its memory is used again. A promise holds the memory
   * and stops reading until it is done: back-pressure. What `row` or `chunk` throws ends the connection and the copy.
   */
  chunk(): void | Promise<void>;
  /** A NOTICE or WARNING that came during the copy. What it throws ends the copy as above. */
  notice?(notice: DatabaseError): void;
}

interface Operation {
  readonly kind: "query" | "copyOut" | "copyBoth";
  readonly handler: CopyHandler | undefined;
  readonly rows: TextRow[];
  readonly settle: (error: Error | undefined) => void;
  /** CopyDone was sent (copyBoth only): the server's own is the answer, not the question. */
  doneSent: boolean;
  error: Error | undefined;
  finished: boolean;
}

const CLOSE_TIMEOUT_MS = 2000;
const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

export class RawConnection {
  readonly #source: ByteSource;
  /** For errors: who talks, e.g. `postgres@db:5432/app`. */
  readonly #subject: string;
  #operation: Operation | undefined;
  #bytes: Uint8Array = NO_BYTES;
  #view: DataView = NO_VIEW;
  #gotRows = false;
  #waiting = false;
  readonly #receiveTimeoutMs: number;
  /** When something was received, asked for, or reading went on. */
  #activeMs = performance.now();
  /** Set once, when the connection can no longer be used. */
  #closedBy: Error | undefined;
  readonly #closed = Promise.withResolvers<void>();

  constructor(source: ByteSource, subject: string, receiveTimeoutMs: number) {
    this.#receiveTimeoutMs = receiveTimeoutMs;
    this.#source = source;
    this.#subject = subject;
    source.attachReader({
      received: (buffer) => this.#received(buffer),
      closed: (error) => this.#fail(this.#lost(error)),
    });
  }

  /** True while a handler's `chunk` promise holds back reading. */
  get paused(): boolean {
    return this.#waiting;
  }

  /** For how long nothing was received, while reading was not held back here. */
  get silentMs(): number {
    return this.#waiting ? 0 : performance.now() - this.#activeMs;
  }

  /**
   * Runs one statement by the simple protocol; values in text format. For small results. CONNECTION_LOST when no answer
   * comes in time; `patient`: it may take as long as it takes.
   */
  async query(sql: string, { patient = false }: { readonly patient?: boolean } = {}): Promise<TextRow[]> {
    const rows: TextRow[] = [];
    const watch = patient ? undefined : this.#watch();
    try {
      await this.#run("query", sql, undefined, rows);
    } finally {
      clearInterval(watch);
    }
    return rows;
  }

  /**
   * Runs `COPY … TO STDOUT` and hands each CopyData payload to the handler. Resolves after the last row's `chunk`.
   * Rejects with the mapped server error (the connection stays usable), with CONNECTION_LOST, with what the handler
   * threw, or with the signal's reason; these three destroy the connection.
   */
  async copyOut(sql: string, handler: CopyHandler, signal?: AbortSignal): Promise<void> {
    const watch = this.#watch();
    try {
      await this.#run("copyOut", sql, handler, [], signal);
    } finally {
      clearInterval(watch);
    }
  }

  /** As `copyOut` for START_REPLICATION, without its limit: `send` and `endCopy` may be used until it settles. */
  copyBoth(sql: string, handler: CopyHandler): Promise<void> {
    return this.#run("copyBoth", sql, handler, []);
  }

  /** Sends a ready-made frontend message. Without effect when the connection is gone: its operation says so. */
  send(message: Uint8Array): void {
    if (this.#closedBy === undefined) this.#source.write(message);
  }

  /** Ends our side of a copyBoth; it settles when the server has ended its own. */
  endCopy(): void {
    const operation = this.#operation;
    if (operation?.kind !== "copyBoth" || operation.doneSent) return;
    operation.doneSent = true;
    this.send(copyDoneMessage());
  }

  /** Ends the session politely; a server that does not answer within 2 s is left. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#closedBy === undefined) {
      if (this.#operation !== undefined) return this.destroy();
      this.#closedBy = this.#gone();
      this.#source.end(terminateMessage());
    }
    const timer = setTimeout(() => this.#source.destroy(), CLOSE_TIMEOUT_MS);
    await this.#closed.promise;
    clearTimeout(timer);
  }

  /** Drops the connection at once; a running operation rejects with `reason`. */
  destroy(reason?: Error): void {
    this.#fail(reason ?? this.#gone());
  }

  /** Looks all the time whether the connection brings something: packets can vanish without a word. */
  #watch(): NodeJS.Timeout {
    return setInterval(() => this.endIfSilent(), this.#receiveTimeoutMs / 10);
  }

  /** Ends the connection when its operation has waited longer than the receive timeout. */
  endIfSilent(): void {
    const isSilent = () => this.#operation !== undefined && this.silentMs > this.#receiveTimeoutMs;
    if (!isSilent()) return;
    // After work that took long, what came meanwhile is read only now: timers come before the sockets.
    setImmediate(() => {
      if (isSilent()) this.#fail(this.silent());
    });
  }

  /** The error of a connection that brings nothing. */
  silent(): PgFloError {
    const seconds = Math.round(this.#receiveTimeoutMs / 1000);
    return new PgFloError("CONNECTION_LOST", `${this.#subject}, connection, it brought nothing for ${seconds} s`, {
      fix: "nothing, pg-flo connects again; if the server needs longer, raise receive_timeout",
    });
  }

  async #run(
    kind: Operation["kind"],
    sql: string,
    handler: CopyHandler | undefined,
    rows: TextRow[],
    signal?: AbortSignal,
  ): Promise<void> {
    signal?.throwIfAborted();
    if (this.#closedBy !== undefined) throw this.#closedBy;
    if (this.#operation !== undefined) throw new PgFloError("INTERNAL", `${this.#subject}, operation, one is running`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const settle = (error: Error | undefined) => (error === undefined ? resolve() : reject(error));
    this.#operation = { kind, handler, rows, settle, doneSent: false, error: undefined, finished: false };
    const abort = () => this.#fail(signal?.reason instanceof Error ? signal.reason : new Error("aborted"));
    signal?.addEventListener("abort", abort, { once: true });
    this.#activeMs = performance.now();
    this.#source.write(queryMessage(sql));
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** One piece of the stream: every whole message, then the handler's `chunk`. Never throws: it runs under the socket. */
  #received(buffer: ReceiveBuffer): boolean {
    this.#activeMs = performance.now();
    if (this.#closedBy !== undefined) {
      buffer.start = buffer.end;
      buffer.wantedBytes = 0;
      return true;
    }
    try {
      this.#bytes = buffer.bytes;
      this.#view = buffer.view;
      buffer.start = readMessages(buffer.bytes, buffer.view, buffer.start, buffer.end, this);
      // One message can be hundreds of megabytes, and the handler may hold reading back for long.
      this.#bytes = NO_BYTES;
      this.#view = NO_VIEW;
      buffer.wantedBytes = partialMessageBytes(buffer.view, buffer.start, buffer.end);
      return this.#endChunk();
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  /** @internal Called by the framing for each message. */
  message(type: number, start: number, end: number): void {
    if (type === backend.copyData) {
      const handler = this.#operation?.handler;
      if (handler === undefined) throw violation("CopyData came outside of a COPY", start);
      this.#gotRows = true;
      handler.row(this.#bytes, this.#view, start, end);
    } else this.#rareMessage(type, start, end);
  }

  #rareMessage(type: number, start: number, end: number): void {
    const operation = this.#operation;
    switch (type) {
      case backend.notice:
        operation?.handler?.notice?.(parseErrorFields(this.#bytes, start, end));
        return;
      case backend.notification:
      case backend.parameterStatus:
        return; // may come at any time and mean nothing to us
      case backend.error:
        this.#onError(parseErrorFields(this.#bytes, start, end));
        return;
    }
    if (operation === undefined) throw violation(`message of type ${type} came outside of an operation`, start);
    switch (type) {
      case backend.readyForQuery:
        operation.finished = true;
        return;
      case backend.dataRow:
        if (operation.kind !== "query") break;
        operation.rows.push(parseDataRow(this.#bytes, this.#view, start, end));
        return;
      case backend.copyDone:
        if (operation.kind === "copyBoth") this.endCopy();
        return;
      case backend.copyOutResponse:
        if (operation.kind !== "copyOut") break;
        return;
      case backend.copyBothResponse:
        if (operation.kind !== "copyBoth") break;
        return;
      case backend.rowDescription:
      case backend.commandComplete:
      case backend.emptyQuery:
        return;
    }
    throw violation(`message of type ${type} does not belong to a ${operation.kind}`, start);
  }

  /** The server ends a failed statement with ReadyForQuery, a failed session by closing: either settles the operation. */
  #onError(error: Error): void {
    const mapped = toPgFloError(error, this.#subject);
    if (this.#operation === undefined) this.#fail(mapped);
    else this.#operation.error ??= mapped;
  }

  #endChunk(): boolean {
    const operation = this.#operation;
    if (operation === undefined) return true;
    const gotRows = this.#gotRows;
    this.#gotRows = false;
    const pending = gotRows ? operation.handler?.chunk() : undefined;
    if (pending === undefined) {
      this.#finish(operation);
      return true;
    }
    this.#waiting = true;
    pending.then(
      () => {
        this.#waiting = false;
        this.#activeMs = performance.now();
        if (this.#closedBy !== undefined) return;
        this.#finish(operation);
        this.#source.resumeReading();
      },
      (error: unknown) => this.#fail(error),
    );
    return false;
  }

  #finish(operation: Operation): void {
    if (!operation.finished || this.#operation !== operation) return;
    this.#operation = undefined;
    operation.settle(operation.error);
  }

  /** The end of the connection, whatever the reason. An error that the server gave before it closed says more. */
  #fail(reason: unknown): void {
    const error = reason instanceof Error ? reason : new Error(String(reason));
    const operation = this.#operation;
    this.#operation = undefined;
    this.#closedBy ??= operation?.error ?? error;
    operation?.settle(operation.error ?? error);
    this.#source.destroy();
    this.#closed.resolve();
  }

  #lost(cause: Error | undefined): PgFloError {
    const what = cause === undefined ? "the server closed it" : cause.message;
    return new PgFloError("CONNECTION_LOST", `${this.#subject}, connection, ${what}`, { cause });
  }

  #gone(): PgFloError {
    return new PgFloError("CONNECTION_LOST", `${this.#subject}, connection, it was closed here`);
  }
}

interface ClientInside {
  readonly connection: NodeJS.EventEmitter & { readonly stream: Duplex };
}

/**
 * Takes the socket of an idle, authenticated client; the client must not be used any more. A client made with a
 * GatheringSocket as its `stream` and without TLS is read in place, any other by copying from its 'data' events.
 */
export function takeOver(client: Client, receiveTimeoutMs = RECEIVE_TIMEOUT_MS): RawConnection {
  const { connection } = client as unknown as ClientInside;
  const { stream } = connection;
  // pg's own listeners would report to the client, where an unheard 'error' ends the process. Errors of the stream
  // still reach its 'error' listener in pg, so that one gets a place to go; ours hears the same error.
  connection.removeAllListeners();
  connection.on("error", () => undefined);
  stream.removeAllListeners("data");
  const source = stream instanceof GatheringSocket ? stream : new StreamSource(stream);
  return new RawConnection(source, `${client.user}@${client.host}:${client.port}/${client.database}`, receiveTimeoutMs);
}
