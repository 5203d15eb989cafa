// Time and chance as things that are passed in, so that loops can be simulated with a seed and without waiting.
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** Milliseconds that never go back, from an arbitrary start. */
  now(): number;
  /** Waits, or rejects with the signal's reason as soon as it is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** At least 0, less than 1. */
  random(): number;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  random: () => Math.random(),
  async sleep(ms, signal) {
    signal?.throwIfAborted();
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      signal?.throwIfAborted(); // the reason itself, not node's AbortError around it
      throw error;
    }
  },
};
