// The figures of a whole group for metrics and the dashboard: one statement, whose answer has a bounded number of rows
// however many tables there are, and which reads no range and no file.
import { type Lsn, lsn } from "../base/lsn.ts";
import { type Queryable, row } from "./queryable.ts";
import type { TableState } from "./table-state.ts";

export interface GroupFigures {
  readonly tablesByState: Readonly<Partial<Record<TableState, number>>>;
  readonly tableCount: number;
  readonly totals: TableTotals;
  /** Of tables that are being copied: what is not done, and of these what workers read now. */
  readonly rangesOpen: number;
  readonly rangesRunning: number;
  readonly streams: readonly StreamFigures[];
  /** `full`: living ones that copy as many ranges as they may. */
  readonly workers: { readonly alive: number; readonly expired: number; readonly full: number };
  /** The first of them, by id. */
  readonly tables: readonly TableFigures[];
}

export interface TableTotals {
  readonly rangesTotal: number;
  readonly rangesDone: number;
  readonly copyRows: number;
  readonly copyBytes: number;
  readonly changeOperations: number;
  readonly changeRows: number;
  readonly fileCount: number;
  readonly fileBytes: number;
  readonly inexactValues: number;
}

export interface TableFigures extends TableTotals {
  readonly tableId: number;
  readonly schema: string;
  readonly name: string;
  readonly state: TableState;
  readonly stream: number | null;
  /** Of its newest comparison with the source; null where there was none, or rows were not counted. */
  readonly verifiedAgeMs: number | null;
  readonly differingRows: number | null;
}

export interface StreamFigures {
  readonly stream: number;
  readonly slotName: string;
  readonly state: "creating" | "active" | "lost";
  readonly epoch: number;
  readonly position: Lsn | null;
  /** It is not lost, and no worker reads it, or one whose lease ran out. */
  readonly waiting: boolean;
}

interface Answer {
  readonly states: GroupFigures["tablesByState"] | null;
  readonly totals: TableTotals;
  readonly tables: readonly TableFigures[] | null;
  readonly streams: readonly (Omit<StreamFigures, "position"> & { readonly position: string | null })[] | null;
  readonly workers: GroupFigures["workers"];
  readonly open: number;
  readonly running: number;
}

const totalsSql = (value: (column: string) => string) => `
  'rangesTotal', ${value("coalesce(ranges_total, 0)")}, 'rangesDone', ${value("ranges_done")},
  'copyRows', ${value("copy_rows")}, 'copyBytes', ${value("copy_bytes")},
  'changeOperations', ${value("change_operations")}, 'changeRows', ${value("change_rows")},
  'fileCount', ${value("file_count")}, 'fileBytes', ${value("file_bytes")}, 'inexactValues', ${value("inexact_values")}`;

// Ranges that run have an owner, and an index; those that wait are what is left of the tables' counters.
const figuresSql = `
  with own as materialized (select * from _pg_flo.tables where group_name = $1)
  select
    (select jsonb_object_agg(state, count) from (select state, count(*) from own group by state) counted) as states,
    (select jsonb_build_object(${totalsSql((column) => `coalesce(sum(${column}), 0)`)}) from own
     where state <> 'removed') as totals,
    (select jsonb_agg(jsonb_build_object('tableId', table_id, 'schema', schema_name, 'name', table_name, 'state', state,
       'stream', stream, 'verifiedAgeMs', extract(epoch from clock_timestamp() - verified_at) * 1000,
       'differingRows', differing_rows, ${totalsSql((column) => column)}) order by table_id)
     from (select own.*, v.verified_at, v.differing_rows from own left join _pg_flo.verifications v using (table_id)
           where state <> 'removed' order by table_id limit $2) first) as tables,
    (select jsonb_agg(jsonb_build_object('stream', stream, 'slotName', slot_name, 'state', state, 'epoch', epoch,
       'position', position::text, 'waiting', state <> 'lost' and (owner is null or lease_until < clock_timestamp())) order by stream)
     from _pg_flo.streams where group_name = $1) as streams,
    (select jsonb_build_object('alive', count(*) filter (where alive), 'expired', count(*) filter (where not alive),
       'full', count(*) filter (where alive and running >= parallel))
     from (select heartbeat_at > clock_timestamp() - $3 * interval '1 millisecond' as alive,
             figures #> '{copy,running}' as running, figures #> '{copy,parallel}' as parallel
           from _pg_flo.workers where group_name = $1) heartbeats) as workers,
    (select coalesce(sum(ranges_total - ranges_done), 0)::int from own where state = 'copying') as open,
    (select count(*)::int from _pg_flo.copy_ranges r join own using (table_id) where own.state = 'copying'
       and r.owner in (select worker_id from _pg_flo.workers where group_name = $1)
       and r.lease_until >= clock_timestamp()) as running`;

/** At most `tableLimit` tables are named. A group that is not there has no figures: all are 0. */
export async function readGroupFigures(
  db: Queryable,
  options: { readonly group: string; readonly tableLimit: number; readonly leaseMs: number },
): Promise<GroupFigures> {
  const answer = await row<Answer>(db, figuresSql, [options.group, options.tableLimit, options.leaseMs]);
  const { states, totals, tables, streams, workers, open, running } = answer!;
  const tablesByState = states ?? {};
  return {
    tablesByState,
    tableCount: Object.entries(tablesByState).reduce((sum, [state, n]) => sum + (state === "removed" ? 0 : n), 0),
    totals,
    rangesOpen: open,
    rangesRunning: running,
    streams: (streams ?? []).map((stream) => ({
      ...stream,
      position: stream.position === null ? null : lsn(BigInt(stream.position)),
    })),
    workers,
    tables: tables ?? [],
  };
}
