// Bytes a second that the connections of a worker read together, whichever threads they are in: a clock in shared memory,
// which each one moves on by the time that its bytes are worth. Waiting in front of the socket slows the server down.
import { systemClock } from "../base/clock.ts";

/** Below this nobody waits: timers are no more exact than a millisecond or two. */
const SHORTEST_WAIT_NS = 10_000_000n;
/** What was not read in this time may be read later, so that a moment's hold-up does not lower the rate. */
const SAVED_NS = 200_000_000n;
/** Another rate is noticed after this. */
const LONGEST_WAIT_MS = 500;
const RATE = 0;
/** When what was read so far is worth its time, by process.hrtime, which all threads share. */
const PAID_UNTIL = 1;

export type SharedRate = SharedArrayBuffer;

export class RateLimit {
  readonly shared: SharedRate;
  readonly #cells: BigInt64Array;

  constructor(shared: SharedRate = new SharedArrayBuffer(16)) {
    this.shared = shared;
    this.#cells = new BigInt64Array(shared);
  }

  /** Null: no limit. Holds at once, also for who waits. */
  set(bytesPerSecond: number | null): void {
    const rate = BigInt(bytesPerSecond ?? 0);
    if (Atomics.exchange(this.#cells, RATE, rate) !== rate) Atomics.store(this.#cells, PAID_UNTIL, 0n);
  }

  /** So many bytes were read. A promise: until more may be read, or the signal aborts. */
  pause(byteCount: number, signal: AbortSignal): Promise<void> | undefined {
    const rate = Atomics.load(this.#cells, RATE);
    if (rate === 0n) return undefined;
    this.#pay((BigInt(byteCount) * 1_000_000_000n) / rate);
    return this.#owedNs() < SHORTEST_WAIT_NS ? undefined : this.#wait(signal);
  }

  #pay(costNs: bigint): void {
    for (;;) {
      const paidUntil = Atomics.load(this.#cells, PAID_UNTIL);
      const earliest = process.hrtime.bigint() - SAVED_NS;
      const next = (paidUntil > earliest ? paidUntil : earliest) + costNs;
      if (Atomics.compareExchange(this.#cells, PAID_UNTIL, paidUntil, next) === paidUntil) return;
    }
  }

  #owedNs(): bigint {
    return Atomics.load(this.#cells, PAID_UNTIL) - process.hrtime.bigint();
  }

  async #wait(signal: AbortSignal): Promise<void> {
    for (let owed = this.#owedNs(); owed > 0n && !signal.aborted; owed = this.#owedNs()) {
      const ms = Math.min(LONGEST_WAIT_MS, Math.ceil(Number(owed) / 1e6));
      await systemClock.sleep(ms, signal).catch(() => {}); // an abort ends the loop
    }
  }
}
