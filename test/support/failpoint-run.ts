// A pipeline that is killed at failpoints: the command line with one armed, and what is wanted of its end.
import assert from "node:assert/strict";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import type { Failpoint } from "../../src/base/failpoints.ts";
import { createLog } from "../../src/base/log.ts";
import { loadConfig } from "../../src/config/load.ts";
import { runWorker } from "../../src/worker/worker.ts";
import { type CliProcess, spawnCli } from "./cli.ts";
import { makeRun, type ReplicationRun, type RunOptions } from "./replication-run.ts";

export interface FailpointRun extends ReplicationRun {
  readonly group: string;
  /** Runs the command line, which must be killed at the failpoint and nowhere else. */
  killedAt(name: Failpoint, how?: KillOptions): Promise<void>;
  /** Starts a worker with these failpoints armed, as PG_FLO_FAILPOINTS has them. */
  armed(failpoints: string): CliProcess;
  /** `replicate --until-caught-up` in this process: what a restart does, in half of its time. */
  restart(): Promise<void>;
}

export interface KillOptions {
  /** The second hit, say. */
  readonly nth?: number;
  /** Default: replicate --until-caught-up. */
  readonly args?: readonly string[];
  /** What happens meanwhile. */
  readonly during?: (worker: CliProcess) => Promise<void>;
}

const TIMEOUT_MS = 60_000;
/** A test ends these itself, at its own time. */
const ARMED_TIMEOUT_MS = 600_000;
const RESTART_TIMEOUT_MS = 30_000;

export async function makeFailpointRun(options: RunOptions): Promise<FailpointRun> {
  const run = await makeRun(options);
  const env = passwords(options.source);
  return {
    ...run,
    group: options.group ?? "app",
    killedAt: async (name, { nth = 1, args = ["replicate", "--until-caught-up"], during } = {}) => {
      const options = { env: { ...env, PG_FLO_FAILPOINTS: `${name}:${nth}=kill` }, timeoutMs: TIMEOUT_MS };
      await using worker = spawnCli([...args, "--config", run.config], options);
      const [ended] = await Promise.all([worker.ended, during?.(worker)]);
      assert.ok(ended.stderr.endsWith(`failpoint ${name}: kill\n`), `${name} was not reached: ${ended.stderr}`);
      assert.equal(ended.signal, "SIGKILL", ended.stderr);
    },
    armed: (failpoints) =>
      spawnCli(["replicate", "--config", run.config], {
        env: { ...env, PG_FLO_FAILPOINTS: failpoints },
        timeoutMs: ARMED_TIMEOUT_MS,
      }),
    restart: () => restart(run.config, options.source),
  };
}

async function restart(file: string, source: ConnectionConfig): Promise<void> {
  const config = loadConfig(file, passwords(source));
  const timeout = AbortSignal.timeout(RESTART_TIMEOUT_MS);
  let told = "";
  const write = (line: string): void => {
    told += line;
  };
  const log = createLog({ json: false, level: "info", tty: false, write });
  await runWorker({ config, log, untilCaughtUp: true }, timeout);
  assert.ok(!timeout.aborted, `not caught up in time: ${told.slice(-4000)}`);
}

function passwords({ password }: ConnectionConfig): Record<string, string> {
  return { SOURCE_PASSWORD: password ?? "", METADATA_PASSWORD: "" };
}
