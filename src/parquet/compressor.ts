// Pages are compressed in libuv's thread pool, by a few lanes. Shared by all files of a thread; holds callers back when
// too much waits.
import { constants, createZstdCompress, type ZstdCompress } from "node:zlib";
import type { Compression } from "../base/compression.ts";
import { CODEC_SNAPPY, CODEC_ZSTD } from "./codec.ts";
import { MAX_BUFFER_BYTES, PageBuffers } from "./page-buffers.ts";

/** Lanes work side by side; more than the cores that are left over gain nothing. */
const LANE_COUNT = 2;
/** Uncompressed bytes that may wait for the lanes before callers are held back. */
const MAX_PENDING_BYTES = 12 * 1024 * 1024;
/** zlib's output buffer of a lane: where zstd has room for whatever it makes of a page it writes there at once. */
const OUTPUT_BYTES = MAX_BUFFER_BYTES + 32 * 1024;
/** Frames lie in buffers of so many bytes or a multiple, which are used again; smaller ones in what they need. */
const FRAME_STEP_BYTES = 64 * 1024;
/**
 * Level 1 with tables that fit into the processor's first cache: on pages of a megabyte it takes a tenth less time than
 * level 1 as it comes, and the result is a little smaller.
 */
const ZSTD_LEVEL_1 = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_windowLog]: 17,
  [constants.ZSTD_c_hashLog]: 12,
};
const NO_BYTES = new Uint8Array(0);

/** One compressed page; a huge one is in several pieces. */
export interface Frame {
  readonly pieces: readonly Uint8Array[];
  readonly sizeBytes: number;
  /** What the last piece lies in, to be used again when it is written; null where that does not pay. */
  readonly buffer: Uint8Array<ArrayBuffer> | null;
}

interface Job {
  readonly input: Uint8Array;
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
}

interface Lane {
  readonly busy: boolean;
  /** Only when it is not busy; `done` comes when it is not any more. */
  run(job: Job, done: () => void): void;
}

export class Compressor {
  /** CompressionCodec of parquet.thrift. */
  readonly codec: number;
  /** Of all columns of all files that compress here. */
  readonly buffers = new PageBuffers();
  readonly #lanes: readonly Lane[];
  readonly #queue: Job[] = [];
  #pendingBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(compression: Compression) {
    this.codec = compression === "snappy" ? CODEC_SNAPPY : CODEC_ZSTD;
    this.#lanes = Array.from({ length: LANE_COUNT }, () => laneOf(compression, this.buffers));
  }

  /** Undefined while more pages are welcome; else a promise of room again. Callers hold back on it. */
  room(): Promise<void> | undefined {
    if (this.#pendingBytes <= MAX_PENDING_BYTES) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Compresses `input` to one frame; it must not change until the promise is done. */
  compress(input: Uint8Array): Promise<Frame> {
    this.#pendingBytes += input.length;
    return new Promise((resolve, reject) => {
      this.#queue.push({ input, resolve, reject });
      this.#dispatch();
    });
  }

  /** The frame's bytes are written, or not wanted: what they lie in is used again. One that is forgotten is garbage. */
  release({ buffer }: Frame): void {
    if (buffer) this.buffers.give(buffer);
  }

  #dispatch(): void {
    for (const lane of this.#lanes) {
      if (lane.busy) continue;
      const job = this.#queue.shift();
      if (!job) return;
      lane.run(job, () => {
        this.#pendingBytes -= job.input.length;
        if (this.#pendingBytes <= MAX_PENDING_BYTES) this.#wake();
        this.#dispatch();
      });
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

function laneOf(compression: Compression, buffers: PageBuffers): Lane {
  switch (compression) {
    case "zstd":
      return new ZstdLane(ZSTD_LEVEL_1, buffers);
    case "zstd-2":
      return new ZstdLane({ [constants.ZSTD_c_compressionLevel]: 2 }, buffers);
    case "zstd-3":
      return new ZstdLane({ [constants.ZSTD_c_compressionLevel]: 3 }, buffers);
    case "snappy":
      return new SnappyLane();
  }
}

class SnappyLane implements Lane {
  busy = false;

  run({ input, resolve, reject }: Job, done: () => void): void {
    this.busy = true;
    void compressSnappy(input)
      .then(resolve, reject)
      .then(() => {
        this.busy = false;
        done();
      });
  }
}

async function compressSnappy(input: Uint8Array): Promise<Frame> {
  const { compress } = await import("snappy");
  // Without the copy each result keeps a buffer of the largest possible size until it is collected.
  const bytes = await compress(input, { copyOutputData: true });
  return { pieces: [bytes], sizeBytes: bytes.length, buffer: null };
}

/**
 * One long-lived context, because making one for every page costs as much as compressing it. Each write is a frame, and
 * is taken out of zlib's output buffer at once. By itself zlib makes a new one whenever that is full: memory outside of
 * V8's heap, which sets off its collector (a tenth of all time with rows of some kilobytes).
 */
class ZstdLane implements Lane {
  busy = false;
  readonly #params: Readonly<Record<number, number>>;
  readonly #buffers: PageBuffers;
  #stream: ZstdCompress | null = null;
  #pieces: Buffer[] = [];
  #sizeBytes = 0;
  #fail: (error: Error) => void = () => {};

  constructor(params: Readonly<Record<number, number>>, buffers: PageBuffers) {
    this.#params = params;
    this.#buffers = buffers;
  }

  run(job: Job, done: () => void): void {
    this.busy = true;
    // Its own flag: a failed context still calls back for this job when the lane already works on the next one.
    let settled = false;
    const settle = (act: () => void): void => {
      if (settled) return;
      settled = true;
      this.#pieces = [];
      this.#sizeBytes = 0;
      this.busy = false;
      act();
      done();
    };
    this.#fail = (error) => settle(() => job.reject(error));
    const stream = this.#open();
    // Node.js's own field (lib/zlib.js, processChunk): where the next output goes in the buffer, which is free again.
    (stream as unknown as { _outOffset: number })._outOffset = 0;
    stream.write(job.input, () => {
      if (this.#stream !== stream) return; // failed: its error event says so
      const frame = this.#takeOut();
      settle(() => job.resolve(frame));
    });
  }

  /** Pieces before the last one are whole buffers, which zlib has filled and left. */
  #takeOut(): Frame {
    const last = this.#pieces.pop() ?? NO_BYTES;
    const reused = last.length >= FRAME_STEP_BYTES;
    const buffer = reused
      ? this.#buffers.take(Math.ceil(last.length / FRAME_STEP_BYTES) * FRAME_STEP_BYTES)
      : new Uint8Array(last.length);
    buffer.set(last);
    const pieces = [...this.#pieces, buffer.subarray(0, last.length)];
    return { pieces, sizeBytes: this.#sizeBytes, buffer: reused ? buffer : null };
  }

  #open(): ZstdCompress {
    if (this.#stream) return this.#stream;
    const stream = createZstdCompress({
      chunkSize: OUTPUT_BYTES,
      // Every write is a frame: a flush behind it would wake a thread of the pool once more for each page.
      flush: constants.ZSTD_e_end,
      params: this.#params,
    });
    stream.on("data", (piece: Buffer) => {
      if (this.#stream !== stream) return;
      this.#pieces.push(piece);
      this.#sizeBytes += piece.length;
    });
    stream.on("error", (error) => {
      if (this.#stream !== stream) return;
      this.#stream = null;
      this.#fail(error);
    });
    this.#stream = stream;
    return stream;
  }
}
