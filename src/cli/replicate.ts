// `pg-flo replicate`: runs a worker until a signal, or until it has caught up.
import type { Command } from "commander";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import type { HttpAddress } from "../metrics/http-server.ts";
import type { Monitor } from "../metrics/monitor.ts";
import { runWorker } from "../worker/worker.ts";
import { streamTotals, type WorkerFigures } from "../worker/worker-figures.ts";
import { type CliContext, withConfig } from "./context.ts";
import { startProgress } from "./progress.ts";
import type { recoverSlots } from "./recover-slots.ts";
import { stopSignal } from "./stop-signal.ts";

interface ReplicateOptions {
  readonly untilCaughtUp?: boolean;
  readonly resync?: boolean;
}

export function registerReplicate(program: Command, context: CliContext): void {
  program
    .command("replicate")
    .description("copy the tables and keep them current, until SIGTERM or SIGINT (twice: at once)")
    .option("--until-caught-up", "end when all is copied and everything committed before the start is durable")
    .option("--resync", "if the slot is lost, go on at a new one: compare, and read again only what differs")
    .action(
      withConfig<ReplicateOptions>(context, async ({ config, log, options, globals, stderr, env }) => {
        const signal = stopSignal(log);
        await using monitor = config.http ? await openMonitor(config, config.http, log) : null;
        let figures: WorkerFigures | null = null;
        const counted = monitor?.log ?? log;
        const progress = startProgress(() => figures, { log: counted, json: globals.json === true, terminal: stderr });
        const worker = {
          config,
          log: progress.log,
          untilCaughtUp: options.untilCaughtUp === true,
          loadConfig: () => loadConfig(globals.config, env),
          onFigures: (live: WorkerFigures) => {
            figures = live;
            monitor?.onFigures(live);
          },
          ...(monitor && { health: monitor.health }),
        };
        const work = () => runWorker(worker, signal);
        const session = { config, env, log: progress.log };
        try {
          const recovers = options.resync === true || config.stream.lostSlot === "resync";
          await (recovers ? recovering(session, work, signal) : work());
        } finally {
          progress.stop();
        }
        log.info(signal.aborted ? "stopped" : "caught up", summary(figures));
      }),
    );
}

async function recovering(
  session: Parameters<typeof recoverSlots>[0],
  work: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { overLostSlots } = await import("../worker/slot-recovery.ts");
  const { recoverSlots: recover } = await import("./recover-slots.ts");
  await overLostSlots(() => recover(session, signal), work, signal);
}

/** Loaded only where it is asked for. */
async function openMonitor(config: Config, address: HttpAddress, log: Log): Promise<Monitor> {
  const { startMonitor } = await import("../metrics/monitor.ts");
  return startMonitor(config, address, log);
}

function summary(figures: WorkerFigures | null): Record<string, string | number> {
  if (figures === null) return {};
  const totals = streamTotals(figures);
  return {
    copiedRows: figures.copy.rowCount,
    ...(totals && { changes: totals.changes, rows: totals.rows, lagMs: totals.lagMs }),
  };
}
