// What the source keeps for a slot: how fast it grows, how long it lasts, and what is to be done about it. Pure: readings
// in, a budget out. Levels rise at their thresholds and fall only well below them, so that nobody is told twice.
import type { WalBudgetConfig } from "../config/config.ts";

export interface WalReading {
  /** Of any clock that only goes forward. */
  readonly atMs: number;
  /** WAL that the server keeps for the slot. */
  readonly retainedBytes: number;
  /** WAL that may still be written before the slot is lost; null without max_slot_wal_keep_size. */
  readonly safeBytes: number | null;
  /** max_slot_wal_keep_size; null without. */
  readonly limitBytes: number | null;
}

export type BudgetLevel = "ok" | "warning" | "critical";

export interface WalBudget {
  readonly level: BudgetLevel;
  readonly retainedBytes: number;
  /** Where the levels begin; null: nowhere, there is no limit and none is configured. */
  readonly warningBytes: number | null;
  readonly criticalBytes: number | null;
  /** How fast the retained WAL grows, over the last minute; 0 when it does not, null after the first reading. */
  readonly bytesPerSecond: number | null;
  /** Until the slot is lost, or without a limit until it is critical, if it goes on like this; null: not in sight. */
  readonly secondsLeft: number | null;
  /** The copy waits: from critical on until it is ok again. */
  readonly throttled: boolean;
  readonly readings: readonly WalReading[];
}

/** Shares of max_slot_wal_keep_size at which the levels begin unless the config names sizes. */
const WARNING_SHARE = 0.5;
const CRITICAL_SHARE = 0.8;
/** A level ends below this share of its threshold. */
const FALLEN_SHARE = 0.9;
/** The rate is that of the readings of so long. */
const RATE_WINDOW_MS = 60_000;

/** The budget after one more reading. `before`: null at first. */
export function nextBudget(before: WalBudget | null, reading: WalReading, config: WalBudgetConfig): WalBudget {
  const { retainedBytes, limitBytes } = reading;
  const share = (part: number) => (limitBytes === null ? null : Math.floor(limitBytes * part));
  const criticalBytes = config.criticalBytes ?? share(CRITICAL_SHARE);
  const warningBytes = config.warningBytes ?? least(share(WARNING_SHARE), criticalBytes);
  const level = nextLevel(before?.level ?? "ok", retainedBytes, warningBytes, criticalBytes);
  const readings = [...(before?.readings ?? []), reading].filter(({ atMs }) => atMs >= reading.atMs - RATE_WINDOW_MS);
  const bytesPerSecond = growth(readings);
  const throttled =
    config.action === "throttle copy" && (level === "critical" || ((before?.throttled ?? false) && level !== "ok"));
  return {
    level,
    retainedBytes,
    warningBytes,
    criticalBytes,
    bytesPerSecond,
    secondsLeft: secondsLeft(reading, criticalBytes, bytesPerSecond),
    throttled,
    readings,
  };
}

function nextLevel(
  before: BudgetLevel,
  retained: number,
  warning: number | null,
  critical: number | null,
): BudgetLevel {
  const reached = (threshold: number | null, was: boolean) =>
    threshold !== null && retained >= (was ? threshold * FALLEN_SHARE : threshold);
  if (reached(critical, before === "critical")) return "critical";
  return reached(warning, before !== "ok") ? "warning" : "ok";
}

function growth(readings: readonly WalReading[]): number | null {
  const [first, last] = [readings[0]!, readings.at(-1)!];
  if (last.atMs <= first.atMs) return null;
  return Math.max(0, ((last.retainedBytes - first.retainedBytes) * 1000) / (last.atMs - first.atMs));
}

function secondsLeft(reading: WalReading, critical: number | null, bytesPerSecond: number | null): number | null {
  const left = reading.safeBytes ?? (critical === null ? null : critical - reading.retainedBytes);
  if (left === null || bytesPerSecond === null || bytesPerSecond === 0) return null;
  return Math.max(0, left / bytesPerSecond);
}

function least(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
