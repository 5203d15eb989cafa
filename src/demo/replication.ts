// A worker and the application beside it, for the length of a demo. What fails in either ends the other and is thrown
// by whatever is being waited for.
import { setTimeout as sleep } from "node:timers/promises";
import { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn, lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { runWorker } from "../worker/worker.ts";
import { streamTotals, type WorkerFigures } from "../worker/worker-figures.ts";
import { runWorkload, type WorkloadCounts } from "./workload.ts";

const POLL_MS = 20;
const TRANSACTIONS_PER_SECOND = 200;
const CATCH_UP_TIMEOUT_MS = 60_000;

export class Replication implements AsyncDisposable {
  readonly #stopWorker = new AbortController();
  readonly #stopWorkload = new AbortController();
  readonly #worker: Promise<void>;
  readonly #workload: Promise<WorkloadCounts>;
  readonly #failed: Promise<never>;
  #figures: WorkerFigures | null = null;
  #counts: WorkloadCounts | null = null;

  /** Starts both. */
  constructor(config: Config, log: Log) {
    const onFigures = (figures: WorkerFigures) => {
      this.#figures = figures;
    };
    const onTick = (counts: WorkloadCounts) => {
      this.#counts = counts;
    };
    this.#worker = runWorker({ config, log, untilCaughtUp: false, onFigures }, this.#stopWorker.signal);
    const options = { ratePerSecond: TRANSACTIONS_PER_SECOND, onTick };
    this.#workload = runWorkload(config.source, this.#stopWorkload.signal, options);
    const { promise, reject } = Promise.withResolvers<never>();
    this.#worker.then(() => reject(new PgFloError("INTERNAL", "demo, worker, it ended by itself")), reject);
    this.#workload.catch(reject);
    promise.catch(() => {}); // heard by whoever waits next
    this.#failed = promise;
  }

  /** The worker's live figures; null until it has any. */
  get figures(): WorkerFigures | null {
    return this.#figures;
  }

  /** Done so far. */
  counted(): { readonly transactions: number; readonly changes: number; readonly lagMs: number } {
    const totals = this.#figures && streamTotals(this.#figures);
    return {
      transactions: this.#counts?.transactions ?? 0,
      changes: totals?.changes ?? 0,
      lagMs: totals?.lagMs ?? 0,
    };
  }

  /** Asks again and again; rejects when worker or application fail meanwhile. */
  async until(done: () => boolean | Promise<boolean>): Promise<void> {
    while (!(await Promise.race([done(), this.#failed]))) await sleep(POLL_MS);
  }

  /** Lets both go on for a while. */
  async goOn(ms: number, signal: AbortSignal): Promise<void> {
    const end = performance.now() + ms;
    await this.until(() => signal.aborted || performance.now() >= end);
  }

  /** Waits for the transactions that run. */
  async stopWorkload(): Promise<WorkloadCounts> {
    this.#stopWorkload.abort();
    return Promise.race([this.#workload, this.#failed]);
  }

  /** Waits until everything with a commit LSN below `mark` is durable, then stops the worker. */
  async finish(mark: Lsn): Promise<{ readonly position: Lsn; readonly changes: number }> {
    const deadline = performance.now() + CATCH_UP_TIMEOUT_MS;
    const position = () => lowestPosition(this.#figures);
    await this.until(() => {
      if (position() >= mark - 1n) return true;
      if (performance.now() > deadline) {
        const what = `demo, worker, is at ${formatLsn(position())} and not at ${formatLsn(mark)} after ${CATCH_UP_TIMEOUT_MS / 1000} s`;
        throw new PgFloError("INTERNAL", what);
      }
      for (const stream of this.#figures?.streams ?? []) {
        if (stream.progress && stream.progress.reached >= mark - 1n) stream.flush();
      }
      return false;
    });
    const reached = { position: position(), changes: this.counted().changes };
    this.#stopWorker.abort();
    await this.#worker;
    return reached;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopWorkload.abort();
    this.#stopWorker.abort();
    await Promise.allSettled([this.#worker, this.#workload]);
  }
}

/** Up to where every stream is durable; 0 before they have begun. */
function lowestPosition(figures: WorkerFigures | null): Lsn {
  const positions = (figures?.streams ?? []).map(({ progress }) => progress?.position ?? lsn(0n));
  return positions.reduce((lowest, position) => (position < lowest ? position : lowest), positions[0] ?? lsn(0n));
}
