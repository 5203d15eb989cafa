// A worker in a thread of its own, which can be ended at any instruction: its sockets break off, nothing is cleaned up.
import { parentPort, workerData } from "node:worker_threads";
import { silentLog } from "../../../src/base/log.ts";
import type { Config } from "../../../src/config/config.ts";
import { runWorker } from "../../../src/worker/worker.ts";

export interface ThreadData {
  readonly config: Config;
}

const { config } = workerData as ThreadData;
const stop = new AbortController();
parentPort?.once("message", () => stop.abort());
await runWorker({ config, log: silentLog, untilCaughtUp: false }, stop.signal);
parentPort?.close();
