// How much of the WAL budget of a slot is used up, and what is to be done about it. Pure: a look at the slot in, a level
// out. Levels rise at their thresholds and fall only well below them, so that nobody is told twice.
import type { WalBudgetConfig } from "../config/config.ts";
import type { WalBudget } from "../postgres/wal-budget.ts";

export type LevelName = "ok" | "warning" | "critical";

export interface WalLevel {
  readonly name: LevelName;
  /** Where the levels begin; null: nowhere, there is no limit and none is configured. */
  readonly warningBytes: number | null;
  readonly criticalBytes: number | null;
  /** The copy waits: by that policy, from critical on until it is ok again. */
  readonly throttled: boolean;
}

/** Shares of max_slot_wal_keep_size at which the levels begin unless the config names sizes. */
const WARNING_SHARE = 0.5;
const CRITICAL_SHARE = 0.8;
/** A level ends below this share of its threshold. */
const FALLEN_SHARE = 0.9;

/** The level after one more look. `before`: null at first. */
export function nextLevel(
  before: WalLevel | null,
  { retainedBytes, safeBytes }: Pick<WalBudget, "retainedBytes" | "safeBytes">,
  config: WalBudgetConfig,
): WalLevel {
  // What is kept and what may still come are together what the server lets a slot keep.
  const share = (part: number) =>
    safeBytes === null ? null : Math.floor((retainedBytes + Math.max(0, safeBytes)) * part);
  const criticalBytes = config.criticalBytes ?? share(CRITICAL_SHARE);
  const warningBytes = config.warningBytes ?? least(share(WARNING_SHARE), criticalBytes);
  const reached = (threshold: number | null, was: boolean) =>
    threshold !== null && retainedBytes >= (was ? threshold * FALLEN_SHARE : threshold);
  const was = before?.name ?? "ok";
  const name = reached(criticalBytes, was === "critical")
    ? "critical"
    : reached(warningBytes, was !== "ok")
      ? "warning"
      : "ok";
  const waits = name === "critical" || ((before?.throttled ?? false) && name !== "ok");
  return { name, warningBytes, criticalBytes, throttled: config.action === "throttle copy" && waits };
}

function least(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
