// When to let the kernel gather: how long to stop reading after a read, decided by what the reads bring. Pure: the clock
// is the caller's. It aims at reads that are large, and yet smaller than what the kernel can hold: a full receive window
// stops the server, and a fixed pause would then be a limit on speed (20 ms and 2 MB are 100 MB/s, whatever the network).

const PAUSE_MIN_MS = 1;
const PAUSE_MAX_MS = 20;
const PAUSE_START_MS = 5;
/** More than this within the longest pause's time is a backlog (800 kB/s); below it we read at once. */
const BACKLOG_BYTES = 16 * 1024;
/** Larger reads save nothing more. */
const TARGET_MAX_BYTES = 512 * 1024;
const TARGET_MIN_BYTES = 2 * BACKLOG_BYTES;
/** Every so many reads one longer pause shows anew what the receive window holds: it grows, and may shrink. */
const PROBE_EVERY_READS = 100;
const PROBE_FACTOR = 4;

export class GatherPace {
  #pauseMs = PAUSE_START_MS;
  #largestBytes = 0;
  #readsToProbe = PROBE_EVERY_READS;
  #windowStartMs = 0;
  #windowBytes = 0;
  #afterPause = false;

  /** How many milliseconds to stop reading now, after a read of `byteCount`; 0 to read on. */
  afterRead(byteCount: number, nowMs: number): number {
    if (!this.#afterPause) {
      if (nowMs - this.#windowStartMs > PAUSE_MAX_MS) {
        this.#windowStartMs = nowMs;
        this.#windowBytes = 0;
      }
      this.#windowBytes += byteCount;
      this.#afterPause = this.#windowBytes >= BACKLOG_BYTES;
      return this.#afterPause ? this.#pauseMs : 0;
    }
    if (byteCount < (BACKLOG_BYTES * this.#pauseMs) / PAUSE_MAX_MS) {
      this.#afterPause = false;
      this.#windowStartMs = nowMs;
      this.#windowBytes = 0;
      return 0;
    }
    this.#adapt(byteCount);
    return this.#readsToProbe === 0 ? Math.min(PAUSE_MAX_MS, this.#pauseMs * PROBE_FACTOR) : this.#pauseMs;
  }

  /**
   * Half of the largest read is less than the window. If reads are as large as that whatever the pause, the window is
   * what limits them, and each step makes the pause shorter, until it is not.
   */
  #adapt(byteCount: number): void {
    if (this.#readsToProbe === 0) {
      this.#readsToProbe = PROBE_EVERY_READS;
      this.#largestBytes = byteCount;
      return; // the read of the longer pause says nothing about the usual one
    }
    this.#readsToProbe--;
    this.#largestBytes = Math.max(byteCount, this.#largestBytes);
    const targetBytes = Math.max(TARGET_MIN_BYTES, Math.min(TARGET_MAX_BYTES, this.#largestBytes / 2));
    const factor = Math.max(0.5, Math.min(2, targetBytes / byteCount));
    this.#pauseMs = Math.max(PAUSE_MIN_MS, Math.min(PAUSE_MAX_MS, this.#pauseMs * factor));
  }
}
