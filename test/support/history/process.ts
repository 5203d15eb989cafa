// A worker in a process of its own, with a config that no file could say: limits so small that everything happens.
// Its only argument is that config, as JSON.
import { createLog } from "../../../src/base/log.ts";
import { runWorker } from "../../../src/worker/worker.ts";

const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
const log = createLog({ json: false, level: "warn", tty: false });
await runWorker({ config: JSON.parse(process.argv[2]!), log, untilCaughtUp: false }, stop.signal);
