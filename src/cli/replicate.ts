// `pg-flo replicate`: runs a worker until a signal, or until it has caught up.
import type { Command } from "commander";
import type { Log } from "../base/log.ts";
import { formatLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { HttpAddress } from "../metrics/http-server.ts";
import type { Monitor } from "../metrics/monitor.ts";
import { runWorker, type WorkerFigures } from "../worker/worker.ts";
import { streamLagMs } from "../worker/worker-figures.ts";
import { type CliContext, withConfig } from "./context.ts";
import { startProgress } from "./progress.ts";
import { stopSignal } from "./stop-signal.ts";

interface ReplicateOptions {
  readonly untilCaughtUp?: boolean;
}

export function registerReplicate(program: Command, context: CliContext): void {
  program
    .command("replicate")
    .description("copy the tables and keep them current, until SIGTERM or SIGINT (twice: at once)")
    .option("--until-caught-up", "end when all is copied and everything committed before the start is durable")
    .action(
      withConfig<ReplicateOptions>(context, async ({ config, log, options, globals, stderr }) => {
        const signal = stopSignal(log);
        await using monitor = config.http ? await openMonitor(config, config.http, log) : null;
        let figures: WorkerFigures | null = null;
        const counted = monitor?.log ?? log;
        const progress = startProgress(() => figures, { log: counted, json: globals.json === true, terminal: stderr });
        try {
          await runWorker(
            {
              config,
              log: progress.log,
              untilCaughtUp: options.untilCaughtUp === true,
              onFigures: (live) => {
                figures = live;
                monitor?.onFigures(live);
              },
              ...(monitor && { health: monitor.health }),
            },
            signal,
          );
        } finally {
          progress.stop();
        }
        log.info(signal.aborted ? "stopped" : "caught up", summary(figures));
      }),
    );
}

/** Loaded only where it is asked for. */
async function openMonitor(config: Config, address: HttpAddress, log: Log): Promise<Monitor> {
  const { startMonitor } = await import("../metrics/monitor.ts");
  return startMonitor(config, address, log);
}

function summary(figures: WorkerFigures | null): Record<string, string | number> {
  if (figures === null) return {};
  const { stream, copy } = figures;
  const { progress } = stream;
  return {
    copiedRows: copy.rowCount,
    ...(progress && {
      changes: progress.changeCount,
      rows: progress.rowCount,
      position: formatLsn(progress.position),
      lagMs: streamLagMs(progress),
    }),
  };
}
