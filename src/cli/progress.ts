// Progress of a running worker: one line that is drawn again on a terminal, plain log lines otherwise.
import type { Log, LogFacts } from "../base/log.ts";
import { streamTotals, type WorkerFigures } from "../worker/worker-figures.ts";
import type { Output } from "./output.ts";

const DRAW_INTERVAL_MS = 200;
const LOG_INTERVAL_MS = 5000;
const BAR_WIDTH = 24;
/** The rate is taken over this time. */
const RATE_WINDOW_MS = 5000;

export interface ProgressView {
  /** The log to use meanwhile: its lines do not run into the drawn one. */
  readonly log: Log;
  stop(): void;
}

/** Shows the copy (rows, bytes, rate, time left) while there is one, then the stream. */
export function startProgress(
  figures: () => WorkerFigures | null,
  options: { readonly log: Log; readonly json: boolean; readonly terminal: Output },
): ProgressView {
  const { log, terminal } = options;
  const rates = new RateMeter();
  if (options.json || !terminal.isTty) {
    const timer = setInterval(() => logFigures(figures(), rates, log), LOG_INTERVAL_MS);
    return { log, stop: () => clearInterval(timer) };
  }
  const clear = "\r\u001b[2K";
  const draw = (): void => {
    const current = figures();
    if (current)
      terminal.post(`${clear}${progressLine(current, rates)}`.slice(0, (terminal.columns ?? 80) + clear.length));
  };
  const timer = setInterval(draw, DRAW_INTERVAL_MS);
  const stop = (): void => {
    clearInterval(timer);
    terminal.post(clear);
  };
  return { log: clearingLog(log, () => terminal.post(clear)), stop };
}

/** The same log, which calls `clear` before each line. */
export function clearingLog(log: Log, clear: () => void): Log {
  const level =
    (name: "debug" | "info" | "warn" | "error") =>
    (message: string, facts?: LogFacts): void => {
      clear();
      log[name](message, facts);
    };
  return {
    debug: level("debug"),
    info: level("info"),
    warn: level("warn"),
    error: level("error"),
    child: (facts) => clearingLog(log.child(facts), clear),
  };
}

function logFigures(figures: WorkerFigures | null, rates: RateMeter, log: Log): void {
  if (!figures) return;
  const { copy } = figures;
  const rate = rates.rate(copy.sizeBytes);
  if (copying(figures)) {
    const { rowCount, sizeBytes, rangesDone, rangesTotal } = copy;
    log.info("copying", {
      ranges: `${rangesDone}/${rangesTotal}`,
      rowCount,
      sizeBytes,
      bytesPerSecond: Math.round(rate),
    });
  }
  const totals = streamTotals(figures);
  if (totals && totals.changes > 0) log.info("streaming", { ...totals });
}

function copying({ copy }: WorkerFigures): boolean {
  return copy.rangesDone < copy.rangesTotal;
}

/** One line for a terminal. */
export function progressLine(figures: WorkerFigures, rates: RateMeter): string {
  const { copy } = figures;
  const rate = rates.rate(copy.sizeBytes);
  if (copying(figures)) {
    const share = copy.rangesDone / copy.rangesTotal;
    const done = Math.round(share * BAR_WIDTH);
    const bar = `${"█".repeat(done)}${"░".repeat(BAR_WIDTH - done)}`;
    const left = share > 0 ? ` · ${duration(((1 - share) * rates.elapsedMs()) / share)} left` : "";
    return `copy ${bar} ${Math.floor(share * 100)} % · ${count(copy.rowCount)} rows · ${size(copy.sizeBytes)} · ${size(rate)}/s${left}`;
  }
  const totals = streamTotals(figures);
  if (!totals) return "standing by";
  const lag = `${(totals.lagMs / 1000).toFixed(1)} s behind`;
  return `stream · ${count(totals.changes)} changes · ${count(totals.batches)} batches · ${lag}`;
}

/** Bytes per second over the last few seconds. */
export class RateMeter {
  readonly #started = performance.now();
  readonly #samples: { at: number; value: number }[] = [];

  rate(value: number): number {
    const now = performance.now();
    this.#samples.push({ at: now, value });
    while (this.#samples.length > 2 && now - this.#samples[0]!.at > RATE_WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0]!;
    return now === first.at ? 0 : ((value - first.value) * 1000) / (now - first.at);
  }

  elapsedMs(): number {
    return performance.now() - this.#started;
  }
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const unit = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** unit).toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}

function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
