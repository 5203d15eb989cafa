// A question to a database whose answer is kept for a few seconds, however many ask. Who asks never waits long: when
// there is no answer in time there is none, and the question goes on alone.
import { errorFacts, type Log } from "../base/log.ts";

export interface KeptAnswerOptions<T> {
  readonly ask: () => Promise<T>;
  readonly keepMs: number;
  readonly waitMs: number;
  readonly log: Log;
}

export class KeptAnswer<T> {
  readonly #options: KeptAnswerOptions<T>;
  #asked: { readonly answer: Promise<T | null>; settledAt: number | null } | null = null;

  constructor(options: KeptAnswerOptions<T>) {
    this.#options = options;
  }

  /** Null: it failed (once for all who ask within the time), or takes too long. */
  async get(): Promise<T | null> {
    const { keepMs, waitMs } = this.#options;
    const kept = this.#asked;
    const old = kept === null || (kept.settledAt !== null && performance.now() - kept.settledAt > keepMs);
    const asked = old ? this.#ask() : kept;
    const { promise: late, resolve } = Promise.withResolvers<null>();
    const timer = setTimeout(resolve, waitMs, null);
    try {
      return await Promise.race([asked.answer, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #ask() {
    const { ask, log } = this.#options;
    const answer = ask()
      .catch((error: unknown) => {
        log.debug("the figures of the group are not known", errorFacts(error));
        return null;
      })
      .finally(() => {
        asked.settledAt = performance.now();
      });
    const asked: { readonly answer: Promise<T | null>; settledAt: number | null } = { answer, settledAt: null };
    this.#asked = asked;
    return asked;
  }
}
