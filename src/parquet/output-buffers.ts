// Where zlib's streams write to: buffers that are used again once every frame in them is written. By itself a stream makes
// a new one whenever one is full, and V8's collector is set off by such memory outside of its heap: for rows of some
// kilobytes it took a tenth of all time, and first writes to new memory are dear on virtual machines.
import type { ZstdCompress } from "node:zlib";

const BUFFER_BYTES = 4 * 1024 * 1024;
/** What is kept while nobody uses it: about what a row group compresses to. */
const MAX_FREE = 12;

/** Fields of Node.js's own (lib/zlib.js, processChunk and processCallback): where a stream's next output goes. */
interface OutputPlace {
  _outBuffer: Buffer;
  _outOffset: number;
}

export class OutputBuffers {
  readonly chunkSize = BUFFER_BYTES;
  readonly #free: ArrayBuffer[] = [];
  /** Of each buffer: how many pieces of frames are in it, and one for the stream that writes to it. */
  readonly #users = new WeakMap<ArrayBufferLike, number>();

  /** Before a write: room for what zstd makes of so many bytes, so that it needs no buffers of its own in between. */
  makeRoom(stream: ZstdCompress, inputBytes: number): void {
    const place = stream as unknown as OutputPlace;
    const needed = mostCompressed(inputBytes);
    const isOurs = this.#users.has(place._outBuffer.buffer);
    if (needed > BUFFER_BYTES || (isOurs && BUFFER_BYTES - place._outOffset >= needed)) return;
    if (isOurs) this.#leave(place._outBuffer.buffer);
    const buffer = this.#free.pop() ?? new ArrayBuffer(BUFFER_BYTES);
    this.#users.set(buffer, 1);
    place._outBuffer = Buffer.from(buffer);
    place._outOffset = 0;
  }

  /** A piece of a frame lies in its buffer until it is released. One that is dropped without it is garbage, with its buffer. */
  hold({ buffer }: Uint8Array): void {
    const count = this.#users.get(buffer);
    if (count !== undefined) this.#users.set(buffer, count + 1);
  }

  release({ buffer }: Uint8Array): void {
    if (this.#users.has(buffer)) this.#leave(buffer);
  }

  #leave(buffer: ArrayBufferLike): void {
    const count = this.#users.get(buffer)! - 1;
    this.#users.set(buffer, count);
    if (count === 0 && this.#free.length < MAX_FREE) this.#free.push(buffer as ArrayBuffer);
  }
}

/** ZSTD_COMPRESSBOUND of zstd.h. */
function mostCompressed(inputBytes: number): number {
  const small = 128 * 1024;
  return inputBytes + (inputBytes >>> 8) + (inputBytes < small ? (small - inputBytes) >>> 11 : 0);
}
