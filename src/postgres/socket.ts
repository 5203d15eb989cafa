// The socket under one Postgres connection. While pg connects and authenticates (and under TLS always) it is an ordinary
// Duplex; afterwards our framing reads it in place, without a copy, an event or an object per piece.
//
// It can gather: the walsender sends each change by itself, and waking up for each costs both sides more than the change.
// So while there is a backlog we stop reading for a moment and let the kernel collect. Only stopping inside `onread`
// works for that: after `pause()` on 'data' events one small read slips in each time.
import { type NetConnectOpts, Socket } from "node:net";
import { Duplex } from "node:stream";
import { GatherPace } from "./gather.ts";
import { ReceiveBuffer } from "./receive-buffer.ts";

/** Takes received bytes from the buffer: moves `start` past what it used, and sets `wantedBytes`. */
export interface ByteReader {
  /** Returns false to stop reading; the bytes it used then stay as they are until `resumeReading`. */
  received(buffer: ReceiveBuffer): boolean;
  /** Called once. `error` is undefined when the server just closed the connection. */
  closed(error: Error | undefined): void;
}

/** What framing needs from a connection, plain or TLS. */
export interface ByteSource {
  attachReader(reader: ByteReader): void;
  resumeReading(): void;
  write(bytes: Uint8Array): unknown;
  /** Ends politely after what was written. */
  end(bytes: Uint8Array): unknown;
  destroy(): unknown;
}

const PLAIN_BUFFER_BYTES = 256 * 1024;
const GATHER_BUFFER_BYTES = 4 * 1024 * 1024;
/** Pieces that were copied together are read at the latest when they are this much. */
const COPIED_MAX_BYTES = PLAIN_BUFFER_BYTES / 2;

export interface GatheringSocketOptions {
  /** For many small messages over TCP (replication): let the kernel gather while there is a backlog. */
  readonly gather: boolean;
}

export class GatheringSocket extends Duplex implements ByteSource {
  readonly #socket: Socket;
  readonly #buffer: ReceiveBuffer;
  #pace: GatherPace | undefined;
  #gatherTimer: NodeJS.Timeout | undefined;
  /** The consumer asked us to wait: pg's side of the Duplex is full, or the reader returned false. */
  #held = false;
  #reader: ByteReader | undefined;
  #error: Error | undefined;

  constructor(options: GatheringSocketOptions) {
    super({ allowHalfOpen: false, emitClose: true });
    this.#pace = options.gather ? new GatherPace() : undefined;
    this.#buffer = new ReceiveBuffer(options.gather ? GATHER_BUFFER_BYTES : PLAIN_BUFFER_BYTES);
    this.#socket = new Socket({
      onread: {
        buffer: () => {
          this.#buffer.makeRoom(this.#held);
          return this.#buffer.space();
        },
        callback: (byteCount) => this.#onRead(byteCount),
      },
    });
    this.#socket.on("connect", () => this.emit("connect"));
    this.#socket.on("error", (error) => {
      this.#error = error;
    });
    this.#socket.on("end", () => this.#onEnd());
    this.#socket.on("close", () => this.#onClose());
  }

  /** As net.Socket's: `connect(port, host)` or `connect(path)`. Emits 'connect'. */
  connect(portOrPath: number | string, host?: string): this {
    const isPath = typeof portOrPath === "string" && Number.isNaN(Number(portOrPath));
    // A unix socket holds some 30 kB of small messages, then the server waits for us: there is nothing to gather.
    if (isPath) this.#pace = undefined;
    const target: NetConnectOpts = isPath
      ? { path: portOrPath }
      : { port: Number(portOrPath), ...(host === undefined ? {} : { host }) };
    this.#socket.connect(target);
    return this;
  }

  setNoDelay(noDelay?: boolean): this {
    this.#socket.setNoDelay(noDelay);
    return this;
  }

  setKeepAlive(enable?: boolean, initialDelayMs?: number): this {
    this.#socket.setKeepAlive(enable, initialDelayMs);
    return this;
  }

  ref(): this {
    this.#socket.ref();
    return this;
  }

  unref(): this {
    this.#socket.unref();
    return this;
  }

  /** From now on received bytes go to the reader, not to 'data' events. */
  attachReader(reader: ByteReader): void {
    this.#reader = reader;
    this.resumeReading();
  }

  resumeReading(): void {
    this.#held = false;
    if (this.#gatherTimer === undefined) this.#socket.resume();
  }

  override _read(): void {
    if (this.#reader === undefined && this.#held) this.resumeReading();
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#socket.write(chunk, callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    if (this.#socket.destroyed) callback();
    else this.#socket.end(() => callback());
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#gatherTimer);
    this.#socket.destroy();
    this.#closeReader(error ?? this.#error);
    callback(error);
  }

  #onRead(byteCount: number): boolean {
    this.#buffer.end += byteCount;
    this.#held = !this.#deliver();
    const gathering = this.#startGathering(byteCount);
    return !this.#held && !gathering;
  }

  #deliver(): boolean {
    const buffer = this.#buffer;
    if (this.#reader !== undefined) return this.#reader.received(buffer);
    const copy = Buffer.from(buffer.bytes.subarray(buffer.start, buffer.end));
    buffer.start = buffer.end;
    return this.push(copy);
  }

  #startGathering(byteCount: number): boolean {
    const pauseMs = this.#pace?.afterRead(byteCount, performance.now()) ?? 0;
    if (pauseMs === 0) return false;
    this.#gatherTimer = setTimeout(() => {
      this.#gatherTimer = undefined;
      if (!this.#held) this.#socket.resume();
    }, pauseMs);
    return true;
  }

  #onEnd(): void {
    if (this.#reader === undefined) this.push(null);
    else this.#closeReader(this.#error);
  }

  #onClose(): void {
    clearTimeout(this.#gatherTimer);
    // Bytes that pg or TLS have not read yet are still theirs: without an error the stream ends by itself behind them.
    if (this.#error !== undefined || this.#reader !== undefined) this.destroy(this.#error);
    else this.push(null);
  }

  #closeReader(error: Error | undefined): void {
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.closed(error);
  }
}

/** Reads any other stream (TLS over a GatheringSocket, say) by copying its pieces into a buffer of ours. */
export class StreamSource implements ByteSource {
  readonly #stream: Duplex;
  readonly #buffer = new ReceiveBuffer(PLAIN_BUFFER_BYTES);
  #reader: ByteReader | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #held = false;
  #error: Error | undefined;

  constructor(stream: Duplex) {
    this.#stream = stream;
  }

  attachReader(reader: ByteReader): void {
    this.#reader = reader;
    this.#stream.on("data", (chunk: Buffer) => this.#onData(chunk));
    this.#stream.on("error", (error) => {
      this.#error = error;
    });
    this.#stream.on("end", () => this.#onClose());
    this.#stream.on("close", () => this.#onClose());
    this.#stream.resume();
  }

  resumeReading(): void {
    this.#held = false;
    this.#schedule();
  }

  write(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  end(bytes: Uint8Array): void {
    this.#stream.end(bytes);
  }

  destroy(): void {
    this.#stream.destroy();
  }

  /** A TLS record comes as one event, often with one small message: they are read together, after the events of a turn. */
  #onData(chunk: Buffer): void {
    this.#buffer.makeRoom(false, chunk.length);
    this.#buffer.append(chunk);
    if (this.#buffer.end - this.#buffer.start >= COPIED_MAX_BYTES) this.#deliver();
    else this.#schedule();
  }

  #schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.#deliver();
    });
  }

  #deliver(): void {
    if (this.#reader === undefined || this.#held) return;
    this.#held = !this.#reader.received(this.#buffer);
    if (this.#held) {
      this.#stream.pause();
      this.#buffer.makeRoom(true);
    } else this.#stream.resume();
  }

  #onClose(): void {
    clearImmediate(this.#scheduled);
    this.#scheduled = undefined;
    this.#deliver();
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.closed(this.#error);
  }
}
