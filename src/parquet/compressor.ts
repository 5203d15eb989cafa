// zstd in libuv's thread pool. A few lanes, each one long-lived compression context: making a context for every page
// costs as much as compressing it. Shared by all files of a thread; holds callers back when too much waits.
import { constants, createZstdCompress, type ZstdCompress } from "node:zlib";
import { PageBuffers } from "./page-buffers.ts";

/** Lanes work side by side; more than the cores that are left over gain nothing. */
const LANE_COUNT = 2;
/** Uncompressed bytes that may wait for the lanes before callers are held back. */
const MAX_PENDING_BYTES = 12 * 1024 * 1024;
/** zlib's output buffer of a lane; results share one until it is used up. */
const OUTPUT_PIECE_BYTES = 256 * 1024;
/**
 * Level 1 with tables that fit into the processor's first cache: on pages of a megabyte it takes a tenth less time than
 * level 1 as it comes, and the result is a little smaller.
 */
const ZSTD_PARAMETERS = {
  [constants.ZSTD_c_compressionLevel]: 1,
  [constants.ZSTD_c_windowLog]: 17,
  [constants.ZSTD_c_hashLog]: 12,
};

/** One zstd frame, in the pieces that zlib made of it. */
export interface Frame {
  readonly pieces: readonly Uint8Array[];
  readonly sizeBytes: number;
}

interface Job {
  readonly input: Uint8Array;
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
}

export class Compressor {
  /** Of all columns of all files that compress here. */
  readonly buffers = new PageBuffers();
  readonly #lanes = Array.from({ length: LANE_COUNT }, () => new Lane());
  readonly #queue: Job[] = [];
  #pendingBytes = 0;
  #waiting: (() => void)[] = [];

  /** Undefined while more pages are welcome; else a promise of room again. Callers hold back on it. */
  room(): Promise<void> | undefined {
    if (this.#pendingBytes <= MAX_PENDING_BYTES) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Compresses `input` to one zstd frame; it must not change until the promise is done. */
  compress(input: Uint8Array): Promise<Frame> {
    this.#pendingBytes += input.length;
    return new Promise((resolve, reject) => {
      this.#queue.push({ input, resolve, reject });
      this.#dispatch();
    });
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

/** One context; each write is a frame. */
class Lane {
  busy = false;
  #stream: ZstdCompress | null = null;
  #pieces: Buffer[] = [];
  #sizeBytes = 0;
  #fail: (error: Error) => void = () => {};

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
    stream.write(job.input, () => {
      if (this.#stream !== stream) return; // failed: its error event says so
      // Slices of the lane's output buffer, whose other slices live as long: they are pages of the same row group.
      const frame = { pieces: this.#pieces, sizeBytes: this.#sizeBytes };
      settle(() => job.resolve(frame));
    });
  }

  #open(): ZstdCompress {
    if (this.#stream) return this.#stream;
    const stream = createZstdCompress({
      chunkSize: OUTPUT_PIECE_BYTES,
      // Every write is a frame: a flush behind it would wake a thread of the pool once more for each page.
      flush: constants.ZSTD_e_end,
      params: ZSTD_PARAMETERS,
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
