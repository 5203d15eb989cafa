// Looks from time to time at what the source keeps for the group's slots, so that the budget's burn rate is known.
// One connection, one statement; a source that does not answer is told by the stream, here it only leaves a gap.
import { systemClock } from "../base/clock.ts";
import { errorFacts, type Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { applicationName } from "../postgres/connect.ts";
import { KeptConnection } from "../postgres/kept-connection.ts";
import { toPgFloError } from "../postgres/pg-error.ts";
import { sampleSlots, type WalBudget, type WalSample, walBudget, withSample } from "../postgres/wal-budget.ts";

const LOOK_MS = 10_000;
/** While there is no slot to look at: a worker takes its streams a moment after it begins. */
const NONE_MS = 1000;
const STATEMENT_TIMEOUT_MS = 5000;

/** By slot: of those that were there at the last look. */
export type WalBudgets = Map<string, WalBudget>;

/**
 * Keeps `budgets` current until the signal, and tells `onLook` of each look. Never ends the worker: what it cannot see is
 * not known, no more.
 */
export async function watchWal(
  { config, log }: { readonly config: Config; readonly log: Log },
  slots: () => readonly string[],
  budgets: WalBudgets,
  onLook: (budgets: WalBudgets) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  await using source = new KeptConnection(config.source, {
    applicationName: applicationName(config.group, "wal"),
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    lockTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  let samples = new Map<string, WalSample[]>();
  while (!signal.aborted) {
    try {
      const watched = slots();
      const newest =
        watched.length === 0
          ? new Map<string, WalSample>()
          : await source.use((client) => sampleSlots(client, watched, performance.now()));
      samples = new Map([...newest].map(([slot, sample]) => [slot, withSample(samples.get(slot) ?? [], sample)]));
      for (const slot of budgets.keys()) if (!samples.has(slot)) budgets.delete(slot);
      for (const [slot, taken] of samples) budgets.set(slot, walBudget(taken)!);
      if (watched.length > 0) await onLook(budgets);
    } catch (error) {
      const failure = toPgFloError(error, `look at the slots of group ${config.group}`);
      log[failure.action === "retry" ? "debug" : "warn"](failure.message, errorFacts(failure));
    }
    await systemClock.sleep(slots().length === 0 || budgets.size === 0 ? NONE_MS : LOOK_MS, signal).catch(() => {}); // an abort ends the loop
  }
}
