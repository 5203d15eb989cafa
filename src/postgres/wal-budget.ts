// The WAL budget of a slot: how fast the server's log grows, how fast what it keeps for the slot grows, and how long that
// can go on until max_slot_wal_keep_size takes the slot away. Pure: made of samples that somebody takes from time to time.
import type { ClientBase } from "pg";
import { type Lsn, parseLsn } from "../base/lsn.ts";

/** Samples older than this say nothing of how it goes now. */
export const BUDGET_WINDOW_MS = 300_000;
/** Samples that lie closer together tell of moments, not of a trend. */
const SHORTEST_SPAN_MS = 500;

export interface WalSample {
  /** By a clock that never goes back. */
  readonly atMs: number;
  /** Where the server's log ends. */
  readonly walPosition: Lsn;
  readonly retainedBytes: number;
  /** WAL that may still be written before the slot is lost; null without max_slot_wal_keep_size. */
  readonly safeBytes: number | null;
}

export interface WalBudget {
  readonly walPosition: Lsn;
  readonly retainedBytes: number;
  readonly safeBytes: number | null;
  /** WAL that the server writes. Null: there is one sample only. */
  readonly writtenBytesPerSecond: number | null;
  /** Growth of what is kept for the slot: the burn rate. Near or below 0 while the slot keeps up. */
  readonly growthBytesPerSecond: number | null;
  /** Until the slot is lost if it goes on like this; null when it does not grow, or has no limit, or is not known. */
  readonly timeLeftMs: number | null;
}

/** The samples of the window, the oldest first; the newest given ends it. */
export function withSample(samples: readonly WalSample[], newest: WalSample): WalSample[] {
  return [...samples.filter(({ atMs }) => newest.atMs - atMs <= BUDGET_WINDOW_MS), newest];
}

/** What the samples, the oldest first, tell. Null without any. */
export function walBudget(samples: readonly WalSample[]): WalBudget | null {
  const newest = samples.at(-1);
  if (newest === undefined) return null;
  const { walPosition, retainedBytes, safeBytes } = newest;
  const growth = slopePerSecond(samples, (sample) => sample.retainedBytes);
  const written = slopePerSecond(samples, (sample) => Number(sample.walPosition));
  return {
    walPosition,
    retainedBytes,
    safeBytes,
    writtenBytesPerSecond: written === null ? null : Math.max(0, written),
    growthBytesPerSecond: growth,
    timeLeftMs: safeBytes === null || growth === null || growth <= 0 ? null : Math.max(0, (safeBytes / growth) * 1000),
  };
}

/** Of the line of least squares: what is kept for a slot falls in steps, which two samples alone would take for a trend. */
function slopePerSecond(samples: readonly WalSample[], value: (sample: WalSample) => number): number | null {
  const first = samples[0]!;
  if (samples.at(-1)!.atMs - first.atMs < SHORTEST_SPAN_MS) return null;
  const times = samples.map(({ atMs }) => (atMs - first.atMs) / 1000);
  const values = samples.map((sample) => value(sample) - value(first));
  const [meanTime, meanValue] = [mean(times), mean(values)];
  const covariance = mean(times.map((time, index) => (time - meanTime) * (values[index]! - meanValue)));
  const variance = mean(times.map((time) => (time - meanTime) ** 2));
  return covariance / variance;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** One sample of each of the slots that are there, by name, in one statement that any role may run. */
export async function sampleSlots(
  client: ClientBase,
  slots: readonly string[],
  atMs: number,
): Promise<Map<string, WalSample>> {
  // A standby that is about to be promoted has no current position: it gives no rows.
  const { rows } = await client.query<{ name: string; position: string; retained: number; safe: number | null }>(
    `select slot_name as name, pg_current_wal_lsn()::text as position, safe_wal_size::float8 as safe,
       coalesce(greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0), 0)::float8 as retained
     from pg_replication_slots where slot_name = any($1) and not pg_is_in_recovery()`,
    [slots],
  );
  return new Map(
    rows.map(({ name, position, retained, safe }) => [
      name,
      { atMs, walPosition: parseLsn(position), retainedBytes: retained, safeBytes: safe },
    ]),
  );
}
