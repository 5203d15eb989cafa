// Acts on the WAL budget: tells each change of a slot's level once, lets the copy wait or has the slot dropped, as the
// config's policy says. Levels are of the slots that this worker looks at; only the one that reads a slot tells of it.
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { WalBudget } from "../postgres/wal-budget.ts";
import type { Definitions } from "./definitions.ts";
import type { StreamService } from "./stream-service.ts";
import { type LevelName, nextLevel, type WalLevel } from "./wal-level.ts";

export interface WalGuardOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly definitions: Definitions;
  /** Those that this worker runs. */
  readonly streams: () => readonly StreamService[];
  readonly log: Log;
}

const codes: Readonly<Record<LevelName, string>> = {
  ok: "WAL_BUDGET_OK",
  warning: "WAL_BUDGET_WARNING",
  critical: "WAL_BUDGET_CRITICAL",
};

export class WalGuard {
  readonly #options: WalGuardOptions;
  readonly #levels = new Map<string, WalLevel>();
  /** What was told last, by slot: a look may come before its stream is read here. */
  readonly #told = new Map<string, LevelName>();

  constructor(options: WalGuardOptions) {
    this.#options = options;
  }

  /** Whether the copy waits for a slot to need less. */
  get throttled(): boolean {
    return [...this.#levels.values()].some(({ throttled }) => throttled);
  }

  /** One more look at the slots. */
  async look(budgets: ReadonlyMap<string, WalBudget>): Promise<void> {
    const { walBudget } = this.#options.definitions.config;
    for (const slot of this.#levels.keys()) if (!budgets.has(slot)) this.#levels.delete(slot);
    for (const [slot, budget] of budgets) {
      const level = nextLevel(this.#levels.get(slot) ?? null, budget, walBudget);
      this.#levels.set(slot, level);
      const reader = this.#options.streams().find((stream) => stream.slot === slot);
      if (!reader) continue;
      if (level.name !== (this.#told.get(slot) ?? "ok")) await this.#tell(slot, level, budget);
      this.#told.set(slot, level.name);
      if (level.name === "critical" && walBudget.action === "drop slot") reader.giveUpSlot();
    }
  }

  async #tell(slot: string, level: WalLevel, budget: WalBudget): Promise<void> {
    const { config, db, definitions, log } = this.#options;
    const { action } = definitions.config.walBudget;
    const taken = level.name === "critical" && action !== "warn" ? `; action: ${action}` : "";
    const subject = `replication slot ${slot}`;
    const message = `${subject} ${levelText(level, budget)}${taken}`;
    const severity = level.name === "ok" ? "info" : level.name === "warning" ? "warning" : "error";
    log[severity === "warning" ? "warn" : severity](message);
    await addEvent(db, config.group, { severity, code: codes[level.name], subject: slot, message });
  }
}

/** What a person is told: `keeps 12.0 GB of WAL at the source, …`. Also for status. */
export function levelText(level: WalLevel, { retainedBytes, growthBytesPerSecond, timeLeftMs }: WalBudget): string {
  const threshold = level.name === "critical" ? level.criticalBytes : level.warningBytes;
  const bound = level.name === "ok" ? "below its budget again" : `${level.name} from ${megabytes(threshold!)} on`;
  const growth =
    growthBytesPerSecond !== null && growthBytesPerSecond > 0
      ? `, growing by ${megabytes(growthBytesPerSecond)}/s`
      : "";
  const left = timeLeftMs === null ? "" : `, lost in ${Math.round(timeLeftMs / 60_000)} min if that goes on`;
  return `keeps ${megabytes(retainedBytes)} of WAL at the source, ${bound}${growth}${left}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
