// Workers of a history, and how they end: by themselves, stopped, by an error at a failpoint, or killed there or at any
// instruction, as a process: a thread that ends in one of DuckDB's queries takes its whole process with it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PgFloError } from "../../../src/base/errors.ts";
import { armFailpoints } from "../../../src/base/failpoints.ts";
import { createLog, type Log, type LogFacts, silentLog } from "../../../src/base/log.ts";
import type { Config } from "../../../src/config/config.ts";
import { connect } from "../../../src/postgres/connect.ts";
import { readSlot, slotName } from "../../../src/postgres/slot.ts";
import { runWorker } from "../../../src/worker/worker.ts";

export type Way = "calm" | "error" | "process";

export interface RunningWorker {
  /** Settles when it has ended, however: rejects with what no worker may end with. */
  readonly ended: Promise<void>;
  readonly running: boolean;
  /** In order where that is its way, else as SIGKILL does. */
  end(): Promise<void>;
}

export function startWorker(way: Way, config: Config, failpoint: string): RunningWorker {
  if (way === "process") return inProcess(config, failpoint);
  return inside(config, way === "error" ? failpoint : undefined);
}

/** The server cannot decode its own log, whoever asks (docs/ERRORS.md, SERVER_FAILED): what was to be shown cannot be. */
export class UndecodableLog extends Error {}
const UNDECODABLE = /could not map filen/;
/** So often in a row it is no transaction that ends meanwhile. */
const REFUSALS = 6;
/** Of a worker's log, told when it does not catch up. */
const LAST_LINES = 40;

/** Until everything that was committed before is durable. */
export async function catchUp(config: Config, timeoutMs: number): Promise<void> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const refused = new AbortController();
  let refusals = 0;
  const lines: string[] = [];
  const base = createLog({ json: false, level: "debug", tty: false, write: (line) => lines.push(line) });
  const warn = (message: string, facts?: LogFacts) => {
    base.warn(message, facts);
    if (UNDECODABLE.test(String(facts?.error)) && ++refusals === REFUSALS) refused.abort();
  };
  const log: Log = { ...base, warn, child: () => log };
  const signal = AbortSignal.any([timeout, refused.signal]);
  await retrying(() => runWorker({ config, log, untilCaughtUp: true }, signal), signal);
  if (refused.signal.aborted) await assertUndecodable(config);
  if (timeout.aborted) throw new Error(`not caught up after ${timeoutMs} ms\n${lines.slice(-LAST_LINES).join("")}`);
}

/** Throws UndecodableLog when the server refuses it to its own SQL function as well. */
async function assertUndecodable({ source, group }: Config): Promise<never> {
  const client = await connect(source, { applicationName: "test" });
  try {
    for (let slot = await readSlot(client, slotName(group)); slot.exists && slot.active; ) {
      await sleep(50);
      slot = await readSlot(client, slotName(group));
    }
    const { rows } = await client.query<{ names: string }>(
      "select string_agg(quote_ident(pubname), ',') as names from pg_publication where pubname ^@ $1",
      [`pg_flo_${group}_`],
    );
    const options = ["proto_version", "1", "publication_names", rows[0]!.names];
    await client.query("select count(*) from pg_logical_slot_peek_binary_changes($1, null, null, variadic $2)", [
      slotName(group),
      options,
    ]);
  } catch (error) {
    if (UNDECODABLE.test(String(error))) throw new UndecodableLog(String(error));
    throw error;
  } finally {
    await client.end();
  }
  throw new Error("the server decodes what it refused to the worker");
}

/** What a worker may end with that was replaced, or whose predecessor's lease has not run out: it is started again. */
const replaced = new Set(["STREAM_TAKEN", "LEASE_LOST"]);
/** What an armed error may end it with. */
const armed = new Set([...replaced, "INTERNAL", "CONNECTION_LOST", "STORAGE_FULL"]);

export async function retrying(run: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      return await run();
    } catch (error) {
      if (
        !(error instanceof PgFloError) ||
        !(replaced.has(error.code) || (signal.aborted && error.action === "retry"))
      ) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 100));
    }
  }
}

function inside(config: Config, failpoint: string | undefined): RunningWorker {
  const stop = new AbortController();
  armFailpoints(failpoint);
  const run = () => runWorker({ config, log: silentLog, untilCaughtUp: false }, stop.signal);
  return watch(
    retrying(run, stop.signal)
      .catch((error: unknown) => {
        if (!(error instanceof PgFloError)) throw error;
        // What it would have tried again when it was stopped in the middle of it.
        const whileStopping = stop.signal.aborted && error.action === "retry";
        const byFailpoint = failpoint !== undefined && armed.has(error.code);
        if (!whileStopping && !byFailpoint) throw error;
      })
      .finally(() => armFailpoints(undefined)),
    () => stop.abort(),
  );
}

function inProcess(config: Config, failpoint: string): RunningWorker {
  const file = fileURLToPath(new URL("./process.ts", import.meta.url));
  const env = { ...process.env, PG_FLO_FAILPOINTS: failpoint };
  const child = spawn(process.execPath, [file, JSON.stringify(config)], { env, stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = once(child, "close").then(([code, signal]) => {
    for (const hit of stderr.match(/^failpoint .*$/gm) ?? []) process.stderr.write(`${hit}\n`);
    if (signal === "SIGKILL" || code === 0 || [...replaced].some((each) => stderr.includes(`[${each}]`))) return;
    throw new Error(`a worker ended with ${code ?? signal}: ${stderr}`);
  });
  return watch(ended, () => void child.kill("SIGKILL"));
}

function watch(ended: Promise<void>, end: () => void): RunningWorker {
  let running = true;
  const watched = ended.finally(() => {
    running = false;
  });
  watched.catch(() => {}); // awaited later
  return {
    ended: watched,
    get running() {
      return running;
    },
    end: async () => {
      end();
      await watched;
    },
  };
}
