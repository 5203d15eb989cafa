// Planning a copy: the ranges of tables that have a cut are stored, many tables in few statements. It refuses a heap
// whose last range is not open-ended.
import { PgFloError } from "../base/errors.ts";
import type { TableMode } from "../config/config.ts";
import { type Queryable, rows, transaction } from "./queryable.ts";
import type { NewRange } from "./ranges.ts";
import { legalFrom, next, type TableState } from "./table-state.ts";

/** Tables of one transaction, and about so many ranges. */
const TABLES_PER_TRANSACTION = 500;
const RANGES_PER_TRANSACTION = 10_000;

export interface TablePlan {
  readonly tableId: number;
  readonly generation: number;
  /** Of all its heaps: the largest table is copied first. */
  readonly tableBlocks: number;
  readonly ranges: readonly NewRange[];
  /** They must all be read under one snapshot. */
  readonly oneSnapshot?: boolean;
}

export type RangePlan =
  | "planned"
  /** Another worker was quicker: its ranges hold. */
  | "already-planned"
  /** It has no cut, failed, was removed, or began anew. */
  | "not-copying";

/**
 * Stores the ranges of tables that have a cut and no ranges yet. A table without any (a partitioned one without leaves)
 * is copied at once. Gives what became of each.
 */
export async function planTables(db: Queryable, plans: readonly TablePlan[]): Promise<RangePlan[]> {
  for (const plan of plans) refuseBoundedHeaps(plan.ranges);
  const outcomes: RangePlan[] = [];
  for (const part of parts(plans)) {
    outcomes.push(...(await transaction(db, (transaction) => storePlans(transaction, part))));
  }
  return outcomes;
}

/** `planTables` of one. */
export async function planRanges(db: Queryable, plan: TablePlan): Promise<RangePlan> {
  return (await planTables(db, [plan]))[0]!;
}

function* parts(plans: readonly TablePlan[]): Generator<TablePlan[]> {
  let part: TablePlan[] = [];
  let rangeCount = 0;
  for (const plan of plans) {
    part.push(plan);
    rangeCount += plan.ranges.length;
    if (part.length < TABLES_PER_TRANSACTION && rangeCount < RANGES_PER_TRANSACTION) continue;
    yield part;
    part = [];
    rangeCount = 0;
  }
  if (part.length > 0) yield part;
}

async function storePlans(transaction: Queryable, plans: readonly TablePlan[]): Promise<RangePlan[]> {
  const locked = await lockTables(
    transaction,
    plans.map(({ tableId }) => tableId),
  );
  const outcomes = plans.map(({ tableId, generation }): RangePlan => {
    const table = locked.get(tableId);
    if (table?.state !== "copying" || table.generation !== generation) return "not-copying";
    return table.ranges_total === null ? "planned" : "already-planned";
  });
  const planned = plans.filter((_, index) => outcomes[index] === "planned");
  if (planned.length === 0) return outcomes;
  const ranges = planned.flatMap(({ tableId, tableBlocks, ranges: own, oneSnapshot = false }) =>
    own.map((range, index) => ({ ...range, tableId, tableBlocks, oneSnapshot, number: index + 1 })),
  );
  await rows(
    transaction,
    `insert into _pg_flo.copy_ranges (group_name, table_id, range_number, heap_oid, heap_schema, heap_name,
       relfilenode, block_from, block_to, table_blocks, one_snapshot)
     select t.group_name, t.table_id, number, "heapOid", "heapSchema", "heapName", relfilenode, "blockFrom", "blockTo",
       "tableBlocks", "oneSnapshot"
     from jsonb_to_recordset($1::jsonb) as given("tableId" bigint, number int, "heapOid" bigint, "heapSchema" text,
       "heapName" text, relfilenode bigint, "blockFrom" bigint, "blockTo" bigint, "tableBlocks" bigint,
       "oneSnapshot" boolean)
     join _pg_flo.tables t on t.table_id = "tableId"`,
    [JSON.stringify(ranges)],
  );
  await rows(
    transaction,
    `update _pg_flo.tables t set ranges_total = total, updated_at = now()
     from unnest($1::bigint[], $2::int[]) given(table_id, total) where t.table_id = given.table_id`,
    [planned.map(({ tableId }) => tableId), planned.map((plan) => plan.ranges.length)],
  );
  for (const { tableId, ranges: own } of planned) {
    if (own.length === 0) await finishTable(transaction, tableId, locked.get(tableId)!);
  }
  return outcomes;
}

// A heap grows between the planning and the reading: a plan whose last range ends at a block loses rows.
function refuseBoundedHeaps(ranges: readonly NewRange[]): void {
  const bounded = new Map<number, string>();
  for (const range of ranges) bounded.set(range.heapOid, `${range.heapSchema}.${range.heapName}`);
  for (const range of ranges) if (range.blockTo === null) bounded.delete(range.heapOid);
  const [name] = bounded.values();
  if (name !== undefined)
    throw new PgFloError("INTERNAL", `plan ranges of heap ${name}, none is open-ended, 0 of them`);
}

export interface LockedTable {
  readonly group_name: string;
  readonly schema_name: string;
  readonly table_name: string;
  readonly mode: TableMode;
  readonly stream: number | null;
  readonly state: TableState;
  readonly generation: number;
  readonly ranges_total: number | null;
  readonly ranges_done: number;
}

/** The table's row, locked until the end of the transaction. */
export async function lockTable(db: Queryable, tableId: number): Promise<LockedTable | undefined> {
  return (await lockTables(db, [tableId])).get(tableId);
}

async function lockTables(db: Queryable, tableIds: readonly number[]): Promise<Map<number, LockedTable>> {
  const found = await rows<LockedTable & { readonly table_id: string }>(
    db,
    `select table_id, group_name, schema_name, table_name, mode, stream, state, generation, ranges_total, ranges_done
     from _pg_flo.tables where table_id = any($1::bigint[]) order by table_id for no key update`,
    [tableIds],
  );
  return new Map(found.map((table) => [Number(table.table_id), table]));
}

/** Moves a locked table on after its last range, and deletes the ranges: nobody needs them, the counters stay. */
export async function finishTable(db: Queryable, tableId: number, table: LockedTable): Promise<TableState> {
  const state = next(table.state, { kind: "rangesDone", mode: table.mode });
  if (state === null) throw new PgFloError("INTERNAL", `finish table ${tableId}, not allowed in state ${table.state}`);
  await rows(db, "update _pg_flo.tables set state = $2, updated_at = now() where table_id = $1 and state = any($3)", [
    tableId,
    state,
    legalFrom("rangesDone"),
  ]);
  await rows(db, "delete from _pg_flo.copy_ranges where table_id = $1", [tableId]);
  return state;
}
