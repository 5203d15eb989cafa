// How long to wait before trying again. Exponential with full jitter, so that workers that lost the same server do not
// come back in step: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

export interface BackoffLimits {
  /** The bound of the first wait. It doubles with each failure after it. */
  readonly firstMs: number;
  /** No wait is longer. */
  readonly maxMs: number;
}

export const SERVICE_BACKOFF: BackoffLimits = { firstMs: 250, maxMs: 30_000 };

/** Milliseconds to wait after `failures` failures in a row (from 1); `random` gives at least 0, less than 1. */
export function backoffMs(failures: number, limits: BackoffLimits, random: () => number): number {
  // 2 ** 1024 is Infinity, which the bound takes care of.
  const bound = Math.min(limits.maxMs, limits.firstMs * 2 ** Math.max(0, failures - 1));
  return Math.floor(random() * bound);
}
