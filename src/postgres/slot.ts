// What the server says about a replication slot, the same on PostgreSQL 14 to 18, and how a slot is dropped.
// Creating one and reading from it belong to the replication connection.
// Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import { type Lsn, parseLsn } from "../base/lsn.ts";
import { sqlState, toPgFloError } from "./pg-error.ts";

export type SlotState = { readonly exists: false } | ExistingSlot;

export interface ExistingSlot {
  readonly exists: true;
  readonly name: string;
  /** Null for a physical slot. */
  readonly plugin: string | null;
  readonly database: string | null;
  readonly temporary: boolean;
  readonly active: boolean;
  readonly activePid: number | null;
  /** `lost`: the WAL is gone, the slot is of no use. `unreserved`: it will be at the next checkpoint. */
  readonly walStatus: "reserved" | "extended" | "unreserved" | "lost" | null;
  readonly restartLsn: Lsn | null;
  readonly confirmedFlushLsn: Lsn | null;
  /** Whether it is synchronized to standbys; null before PostgreSQL 17. */
  readonly failover: boolean | null;
  /** WAL that the server keeps for this slot. 0 when it keeps none. */
  readonly retainedBytes: number;
  /** WAL that may still be written before the slot is lost; null without max_slot_wal_keep_size. */
  readonly safeBytes: number | null;
  /** Why the slot is of no use (wal_removed, rows_removed, wal_level_insufficient, idle_timeout), else null. */
  readonly invalidationReason: string | null;
}

const DROP_WAIT_MS = 10_000;
const DROP_POLL_MS = 200;

/** The slot of a stream. Two groups never meet: the number is what follows the last underscore. */
export function slotName(group: string, stream = 1): string {
  const name = `pg_flo_${group}_${stream}`;
  if (!/^[a-z0-9_]{1,63}$/.test(name)) {
    throw new PgFloError("CONFIG_INVALID", `group ${JSON.stringify(group)}, cannot be part of a slot's name`, {
      fix: "use lower case letters, digits and _ only, 48 at most",
    });
  }
  return name;
}

/** One query. Any role may read it. */
export async function readSlot(client: ClientBase, name: string): Promise<SlotState> {
  // As JSON: older servers lack some of the columns.
  const { rows } = await client.query<{ slot: SlotRow; retained: string | null }>(
    `select to_jsonb(s) as slot, case when pg_is_in_recovery() then null
       else greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0) end::text as retained
     from pg_replication_slots s where s.slot_name = $1`,
    [name],
  );
  const row = rows[0];
  if (!row) return { exists: false };
  const { slot } = row;
  return {
    exists: true,
    name: slot.slot_name,
    plugin: slot.plugin,
    database: slot.database,
    temporary: slot.temporary,
    active: slot.active,
    activePid: slot.active_pid,
    walStatus: slot.wal_status,
    restartLsn: slot.restart_lsn === null ? null : parseLsn(slot.restart_lsn),
    confirmedFlushLsn: slot.confirmed_flush_lsn === null ? null : parseLsn(slot.confirmed_flush_lsn),
    failover: slot.failover ?? null,
    retainedBytes: Number(row.retained ?? 0),
    safeBytes: slot.safe_wal_size,
    invalidationReason: invalidationReason(slot),
  };
}

/**
 * Drops the slot; false when there was none. Waits up to `waitMs` for a walsender that is just going away, then throws
 * SLOT_IN_USE with its pid: a slot that somebody reads is never taken away.
 */
export async function dropSlot(
  client: ClientBase,
  name: string,
  options: { readonly waitMs?: number } = {},
): Promise<boolean> {
  const deadline = performance.now() + (options.waitMs ?? DROP_WAIT_MS);
  for (;;) {
    try {
      await client.query("select pg_drop_replication_slot($1)", [name]);
      return true;
    } catch (error) {
      if (sqlState(error) === "42704") return false;
      if (sqlState(error) !== "55006" || performance.now() >= deadline) throw await dropError(client, name, error);
    }
    await sleep(DROP_POLL_MS);
  }
}

/**
 * Why a stream cannot go on from its position: the slot is gone ("dropped"), its WAL is, or the slot stands beyond the
 * position ("moved on"): somebody else read it, it was made anew, or the metadata are older than the slot. Null: it can.
 */
export function slotLostReason(slot: SlotState, position: Lsn): string | null {
  if (!slot.exists) return "dropped";
  if (slot.invalidationReason !== null || slot.walStatus === "lost") return slot.invalidationReason ?? "wal_removed";
  // A stream confirms position + 1 and never more, so the server would begin to send after what is missing.
  return slot.confirmedFlushLsn !== null && slot.confirmedFlushLsn > position + 1n ? "moved on" : null;
}

const lostWords: Readonly<Record<string, string>> = {
  wal_budget: "was dropped by wal_budget.action: what it kept became too much for the source's disk",
  dropped: "does not exist any more",
  "moved on": "stands beyond what is durable: the changes between were given to somebody else",
};

/** Tells that the stream cannot go on (`slotLostReason`): there is a gap that only a copy closes. */
export function slotLostError(name: string, reason: string): PgFloError {
  const what = lostWords[reason] ?? `was invalidated (${reason})`;
  return new PgFloError("SLOT_LOST", `replication slot "${name}" ${what}`, {
    facts: { slot: name, reason },
    ...(fixes[reason] === undefined ? {} : { fix: `${fixes[reason]}, ${startAgain}` }),
  });
}

const startAgain = "then run pg-flo replicate --resync";

// The policy's fix is the one for wal_removed.
const fixes: Readonly<Record<string, string>> = {
  dropped: "find out who dropped it (after a failover: see docs/operations.md for what keeps slots)",
  "moved on":
    "find out who read or made the slot, or why the metadata are older (after a failover: see docs/operations.md)",
  wal_budget: "find out why pg-flo fell behind",
  idle_timeout: "raise idle_replication_slot_timeout",
  wal_level_insufficient: "set wal_level = logical",
};

interface SlotRow {
  readonly slot_name: string;
  readonly plugin: string | null;
  readonly database: string | null;
  readonly temporary: boolean;
  readonly active: boolean;
  readonly active_pid: number | null;
  readonly wal_status: ExistingSlot["walStatus"];
  readonly restart_lsn: string | null;
  readonly confirmed_flush_lsn: string | null;
  readonly safe_wal_size: number | null;
  readonly failover?: boolean; // from 17
  readonly invalidation_reason?: string | null; // from 17
}

function invalidationReason(slot: SlotRow): string | null {
  if (slot.invalidation_reason) return slot.invalidation_reason;
  // The other reasons before 17 arise on standbys only.
  return slot.wal_status === "lost" ? "wal_removed" : null;
}

async function dropError(client: ClientBase, name: string, error: unknown): Promise<PgFloError> {
  const subject = `drop replication slot "${name}"`;
  if (sqlState(error) !== "55006") return toPgFloError(error, subject);
  const slot = await readSlot(client, name);
  const pid = slot.exists ? slot.activePid : null;
  return new PgFloError("SLOT_IN_USE", `${subject}, it is read by process ${pid ?? "unknown"} of the server`, {
    facts: { slot: name, pid },
    cause: error,
    fix: `stop the pg-flo that reads it, or run SELECT pg_terminate_backend(${pid ?? "pid"}); at the source`,
  });
}
