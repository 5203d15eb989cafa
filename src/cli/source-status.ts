// What only the source knows of a running group: how far its log is, what it keeps for our slots, and what happened to
// tables whose updates and deletes cannot be seen. A source that does not answer is no failure: the rest is still true.
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { PgFloError } from "../base/errors.ts";
import { type Lsn, parseLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import type { GroupStatus } from "../metadata/status.ts";
import type { Table } from "../metadata/tables.ts";
import { readSlot, type SlotState } from "../postgres/slot.ts";
import { sampleSlots, type WalBudget, walBudget } from "../postgres/wal-budget.ts";
import { withSession } from "./session.ts";

/** Statements on the source are few and small: one that takes longer meets a server in trouble. */
const STATEMENT_TIMEOUT_MS = 5000;
/** Between the two looks at a slot that no worker watches. */
const RATE_SPAN_MS = 1000;

export interface SourceStatus {
  /** Where the source's log ends. */
  readonly walPosition: Lsn;
  /** By slot name. */
  readonly slots: ReadonlyMap<string, SlotState>;
  /** By slot name, with rates as far as they were asked for. */
  readonly budgets: ReadonlyMap<string, WalBudget>;
  /** By `Table.tableId`, for streamed tables without an identity. */
  readonly unseen: ReadonlyMap<number, UnseenChanges>;
  /** Since when the server counts; null: since its statistics began. */
  readonly countedSince: Date | null;
}

/** Of pg_stat: all updates and deletes of the table and its partitions, whether pg-flo ran or not. */
export interface UnseenChanges {
  readonly updates: number;
  readonly deletes: number;
}

/**
 * The error tells why there is no answer. `rates`: of the slots' budgets, which takes a second; a living worker knows them
 * better, from five minutes.
 */
export async function readSourceStatus(
  config: Config,
  status: GroupStatus,
  rates: boolean,
): Promise<SourceStatus | PgFloError> {
  const name = { group: config.group, what: "status" };
  try {
    return await withSession(config.source, name, (client) => read(client, status, rates), {
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
      lockTimeoutMs: STATEMENT_TIMEOUT_MS,
    });
  } catch (error) {
    if (error instanceof PgFloError && error.code !== "INTERNAL") return error;
    throw error;
  }
}

/** True for a table that is published without its updates and deletes. */
export function isBlind(table: Table): boolean {
  return table.identity.kind === "none" && table.mode !== "copy-only" && table.state !== "removed";
}

async function read(client: Client, status: GroupStatus, rates: boolean): Promise<SourceStatus> {
  const names = status.streams.map(({ slotName }) => slotName);
  const first = await sampleSlots(client, names, performance.now());
  if (rates && first.size > 0) await sleep(RATE_SPAN_MS);
  const second = rates ? await sampleSlots(client, names, performance.now()) : first;
  const budgets = [...second].map(([name, sample]): [string, WalBudget] => {
    const earlier = rates ? first.get(name) : undefined;
    return [name, walBudget(earlier ? [earlier, sample] : [sample])!];
  });
  const { rows } = await client.query<{ position: string; since: Date | null }>(
    `select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text as position,
       (select stats_reset from pg_stat_database where datname = current_database()) as since`,
  );
  const slots = new Map<string, SlotState>();
  for (const { slotName } of status.streams) slots.set(slotName, await readSlot(client, slotName));
  return {
    walPosition: parseLsn(rows[0]!.position),
    slots,
    budgets: new Map(budgets),
    unseen: await readUnseen(client, status.tables.filter(isBlind)),
    countedSince: rows[0]!.since,
  };
}

async function readUnseen(client: Client, tables: readonly Table[]): Promise<Map<number, UnseenChanges>> {
  if (tables.length === 0) return new Map();
  // pg_partition_tree has no rows for a table that is not partitioned.
  const { rows } = await client.query<UnseenChanges & { oid: string }>(
    `select t.oid::text, coalesce(sum(pg_stat_get_tuples_updated(r.oid)), 0)::float8 as updates,
       coalesce(sum(pg_stat_get_tuples_deleted(r.oid)), 0)::float8 as deletes
     from unnest($1::oid[]) as t(oid)
       cross join lateral (select t.oid union select relid from pg_partition_tree(t.oid)) as r(oid)
     group by 1`,
    [tables.map((table) => table.relationOid)],
  );
  const byOid = new Map(rows.map(({ oid, updates, deletes }) => [Number(oid), { updates, deletes }]));
  return new Map(tables.map((table) => [table.tableId, byOid.get(table.relationOid) ?? { updates: 0, deletes: 0 }]));
}
