// pgbench at work while its database is replicated by a worker that is killed again and again.
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import type { ReplicationRun } from "./replication-run.ts";
import { connectionEnvironment, findTools } from "./tools.ts";

export const pgbenchTables = ["pgbench_accounts", "pgbench_branches", "pgbench_tellers", "pgbench_history"] as const;

/** Runs pgbench to its end; rejects with what it wrote when it fails. */
export async function pgbench(config: ConnectionConfig, args: readonly string[]): Promise<void> {
  const tools = await findTools();
  const child = spawn(tools.pgbench, args, {
    env: { ...tools.env, ...connectionEnvironment(config) },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let written = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    written += text;
  });
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (code !== 0) throw new Error(`pgbench ended with ${code}: ${written}`);
}

/**
 * Starts a worker and kills it with SIGKILL after a random time, `kills` times, each new one started at once. The
 * waits grow from `firstMs` to `lastMs`: early deaths are in the copy, late ones in the stream.
 */
export async function replicateWithKills(
  run: ReplicationRun,
  plan: { readonly kills: number; readonly firstMs: number; readonly lastMs: number; readonly random: () => number },
): Promise<void> {
  for (let kill = 0; kill < plan.kills; kill++) {
    await using worker = run.start();
    const bound = plan.firstMs + ((plan.lastMs - plan.firstMs) * kill) / Math.max(1, plan.kills - 1);
    await sleep(300 + plan.random() * bound);
    if (!worker.running) throw new Error(`the worker ended by itself: ${(await worker.ended).stderr}`);
    worker.kill("SIGKILL");
    await worker.ended;
  }
}
