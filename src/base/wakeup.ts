// Lets one loop tell others that there may be work, so that polling is only for what other processes do.
import { systemClock } from "./clock.ts";

export class Wakeup {
  #ring = new AbortController();
  /** Grows with each call of `wake`: read it before looking for work, so that none of them is missed. */
  count = 0;

  /** Ends every wait that is under way. */
  wake(): void {
    const ring = this.#ring;
    this.#ring = new AbortController();
    this.count++;
    ring.abort();
  }

  /** Returns after this time, when somebody wakes or woke since `seen`, or when the signal is aborted. */
  async wait(ms: number, signal: AbortSignal, seen: number): Promise<void> {
    if (seen !== this.count) return;
    await systemClock.sleep(ms, AbortSignal.any([this.#ring.signal, signal])).catch(() => {}); // an early end is an end
  }
}
