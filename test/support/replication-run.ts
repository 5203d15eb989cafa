// One group in a folder of its own, its worker as a process that can be killed, and the proof that nothing was lost.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import { type CliProcess, type CliResult, runCli, spawnCli } from "./cli.ts";
import { makeTestFolder } from "./folder.ts";
import { randomOf } from "./history/random.ts";

export interface RunOptions {
  readonly source: ConnectionConfig;
  readonly metadata?: ConnectionConfig;
  readonly group?: string;
  /** YAML; default: every table of schema public. */
  readonly schemas?: string;
  /** Default `data` in the run's folder. */
  readonly storage?: string;
  /** Further lines of YAML, such as `lease: 2s`. */
  readonly more?: readonly string[];
  readonly copy?: string;
  readonly stream?: string;
}

export interface ReplicationRun extends AsyncDisposable {
  readonly folder: string;
  /** The storage's folder. */
  readonly root: string;
  readonly config: string;
  /** Exchanges the config's file for the next start. */
  configure(changes: Partial<RunOptions>): Promise<void>;
  start(...args: string[]): CliProcess;
  run(args: readonly string[], timeoutMs?: number): Promise<CliResult>;
  /** `replicate --until-caught-up`, which must end with 0. */
  catchUp(timeoutMs?: number): Promise<CliResult>;
}

/** Longer than any chaos: a worker that nobody killed must not be killed by this. */
const KEEPS_FOR_EVER_MS = 4 * 3_600_000;

export async function makeRun(options: RunOptions): Promise<ReplicationRun> {
  const folder = await makeTestFolder();
  const config = join(folder.path, "pg-flo.yaml");
  let current = options;
  await writeFile(config, configText(current));
  const env = { SOURCE_PASSWORD: options.source.password, METADATA_PASSWORD: options.metadata?.password };
  const withConfig = (args: readonly string[]) => [...args, "--config", config];
  const run = (args: readonly string[], timeoutMs = 120_000) => runCli(withConfig(args), { env, timeoutMs });
  return {
    folder: folder.path,
    root: options.storage ?? join(folder.path, "data"),
    config,
    configure: async (changes) => {
      current = { ...current, ...changes };
      await writeFile(config, configText(current));
    },
    start: (...args) =>
      spawnCli(withConfig(["replicate", ...(process.env.PG_FLO_DEBUG ? ["--log-level", "debug"] : []), ...args]), {
        env,
        timeoutMs: KEEPS_FOR_EVER_MS,
      }),
    run,
    catchUp: async (timeoutMs) => {
      const result = await run(["replicate", "--until-caught-up"], timeoutMs);
      assert.equal(result.code, 0, `catching up ended with ${result.code ?? result.signal}: ${result.stderr}`);
      return result;
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

function configText(options: RunOptions): string {
  return [
    `group: ${options.group ?? "app"}`,
    `source: { ${connectionText(options.source, "SOURCE_PASSWORD")} }`,
    ...(options.metadata ? [`metadata: { ${connectionText(options.metadata, "METADATA_PASSWORD")} }`] : []),
    `storage: ${JSON.stringify(options.storage ?? "data")}`,
    `schemas: ${options.schemas ?? '{ public: "*" }'}`,
    `copy: ${options.copy ?? "{ parallel: 2, file_size: 1MB }"}`,
    `stream: ${options.stream ?? "{ flush_interval: 200ms }"}`,
    ...(options.more ?? []),
  ].join("\n");
}

function connectionText({ host, port, user, database, receiveTimeoutMs }: ConnectionConfig, variable: string): string {
  const text = Object.entries({ host, user, database }).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  const limits = ["connect_timeout: 5", ...(receiveTimeoutMs ? [`receive_timeout: ${receiveTimeoutMs / 1000}`] : [])];
  return [...text, `port: ${port}`, `password: "\${${variable}}"`, ...limits].join(", ");
}

/** Asks until the answer is true. */
export async function until(what: string, question: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; Date.now() < deadline; await sleep(50)) if (await question()) return;
  assert.fail(`${what}: not so after ${timeoutMs / 1000} s`);
}

/** Numbers in [0, 1) that a seed repeats. The seed is printed, or taken from PG_FLO_SEED. */
export function seededRandom(): { readonly seed: number; readonly next: () => number } {
  const seed = Number(process.env.PG_FLO_SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`# seed ${seed} (PG_FLO_SEED repeats it)`);
  return { seed, next: randomOf(seed).next };
}
