// The loop around a long-lived thing: run it, and when it fails do what the error's policy says. The only place that
// decides about trying again; a service itself just throws.
import { type BackoffLimits, backoffMs, SERVICE_BACKOFF } from "./backoff.ts";
import { type Clock, systemClock } from "./clock.ts";
import { PgFloError } from "./errors.ts";
import { errorFacts, type Log } from "./log.ts";

/** Returns when its work is done or the signal is aborted; throws what stopped it. */
export type Service = (signal: AbortSignal) => Promise<void>;

export interface ServiceOptions {
  /** For the log: `stream app_1`. */
  readonly name: string;
  readonly log: Log;
  readonly limits?: BackoffLimits;
  /** A run that lasted this long counts as healthy: the waits begin small again. Default: one minute. */
  readonly healthyAfterMs?: number;
  /** Failures in a row after which the last error is thrown. Default: never, the operator decides. */
  readonly failuresMax?: number;
  readonly clock?: Clock;
  /** A stop interrupts it in nothing that counts: an error to retry that meets it then is no failure of the stop. */
  readonly nothingToFinish?: boolean;
}

const HEALTHY_AFTER_MS = 60_000;

/**
 * Runs a service until it is done or the signal is aborted. Errors whose action is `retry` are logged and tried again
 * after a back-off; every other error is thrown, also one that is not a PgFloError: unknown means ask a person.
 */
export async function runService(run: Service, signal: AbortSignal, options: ServiceOptions): Promise<void> {
  const clock = options.clock ?? systemClock;
  for (let failures = 0; !signal.aborted; ) {
    const startedAt = clock.now();
    try {
      return await run(signal);
    } catch (error) {
      const retryable = error instanceof PgFloError && error.action === "retry";
      if (signal.aborted && (isAbort(error, signal) || (retryable && options.nothingToFinish))) return;
      if (clock.now() - startedAt >= (options.healthyAfterMs ?? HEALTHY_AFTER_MS)) failures = 0;
      failures++;
      const again = retryable && !signal.aborted;
      if (!again || failures >= (options.failuresMax ?? Number.POSITIVE_INFINITY)) throw error;
      const waitMs = backoffMs(failures, options.limits ?? SERVICE_BACKOFF, clock.random);
      options.log.warn(`${options.name} failed, trying again`, { ...errorFacts(error), failures, waitMs });
      await waitUnlessAborted(clock, waitMs, signal);
    }
  }
}

async function waitUnlessAborted(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!isAbort(error, signal)) throw error;
  }
}

/** True for the error that says no more than that the signal was aborted. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === "AbortError");
}
