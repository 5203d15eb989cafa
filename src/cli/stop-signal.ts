// SIGTERM and SIGINT: the first asks for a clean end, the second ends the process at once.
import type { Log } from "../base/log.ts";

/** Aborted by the first signal. What is not durable at a second one is repeated by the next start. */
export function stopSignal(log: Log): AbortSignal {
  const stop = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (stop.signal.aborted) process.exit(1);
    log.info(`${name}: finishing the batch and releasing the leases; once more to stop at once`);
    stop.abort();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  return stop.signal;
}
