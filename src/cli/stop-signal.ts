// SIGTERM and SIGINT: the first asks for a clean end, the second ends the process at once.
import type { Log } from "../base/log.ts";

/** npm and npx pass on a Ctrl-C that the terminal has already sent to every process: both are one. */
const SAME_KEYPRESS_MS = 200;

/** Aborted by the first signal. What is not durable at a second one is repeated by the next start. */
export function stopSignal(log: Log, ends = "finishing the batch and releasing the leases"): AbortSignal {
  const stop = new AbortController();
  let firstAt = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    if (stop.signal.aborted) {
      if (performance.now() - firstAt < SAME_KEYPRESS_MS) return;
      process.exit(1);
    }
    firstAt = performance.now();
    log.info(`${name}: ${ends}; once more to stop at once`);
    stop.abort();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  return stop.signal;
}
