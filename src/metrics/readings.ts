// From figures to readings: a value for each metric and each set of labels. Pure; what is not known has no reading.
import { type ErrorCode, errorPolicies } from "../base/errors.ts";
import type { SizeHistogram } from "../base/size-histogram.ts";
import { version } from "../base/version.ts";
import type { GroupFigures, TableFigures } from "../metadata/group-figures.ts";
import { tableStates } from "../metadata/table-state.ts";
import type { WalBudget } from "../postgres/wal-budget.ts";
import type { StreamProgress } from "../stream/stream-state.ts";
import { streamLagMs, tableLags } from "../worker/worker-figures.ts";
import type { MetricName } from "./metric-list.ts";
import type { CopyTotals, StreamTotals } from "./worker-totals.ts";

export interface Reading {
  readonly name: MetricName;
  readonly labels: Readonly<Record<string, string>>;
  /** A histogram's bounds and sizes are multiplied by `unit`. */
  readonly value: number | { readonly sizes: SizeHistogram; readonly unit: number };
}

export interface Figures {
  readonly running: boolean;
  readonly sessionCount: number;
  readonly heartbeatAgeMs: number | null;
  readonly errors: ReadonlyMap<ErrorCode, number>;
  /** Of this process since its start, by stream. */
  readonly totals: ReadonlyMap<number, StreamTotals>;
  readonly copy: CopyTotals;
  readonly rangesRunning: number;
  /** The streams that it reads now. */
  readonly streams: ReadonlyMap<number, StreamProgress>;
  /** By slot. */
  readonly budgets: ReadonlyMap<string, WalBudget>;
  /** Null: the metadata database does not answer. */
  readonly group: GroupFigures | null;
}

/** `streamName(1)` is the label of stream 1. */
export function readingsOf(figures: Figures, streamName: (stream: number) => string): Reading[] {
  const readings: Reading[] = [];
  const put = (name: MetricName, value: Reading["value"] | null, labels: Reading["labels"] = {}): void => {
    if (value !== null) readings.push({ name, labels, value });
  };
  putWorker(put, figures);
  for (const [stream, totals] of figures.totals) putTotals(put, totals, streamName(stream));
  for (const [stream, progress] of figures.streams) putProgress(put, progress, streamName(stream), walEnd(figures));
  putSource(put, figures);
  for (const [slot, budget] of figures.budgets) putBudget(put, budget, slot);
  put("pg_flo_group_reachable", figures.group ? 1 : 0);
  if (figures.group) putGroup(put, figures.group, streamName);
  const end = walEnd(figures);
  const lags = new Map([...figures.streams].map(([stream, progress]) => [stream, tableLags(progress)]));
  for (const table of figures.group?.tables ?? []) {
    const progress = table.stream === null ? undefined : figures.streams.get(table.stream);
    if (progress && table.state === "streaming") {
      putTableLag(put, table, { progress, lagMs: lags.get(table.stream!)!.get(table.tableId), end });
    }
    putTable(put, table);
  }
  return readings;
}

type Put = (name: MetricName, value: Reading["value"] | null, labels?: Reading["labels"]) => void;

function putWorker(put: Put, figures: Figures): void {
  const { running, sessionCount, heartbeatAgeMs, errors, copy, rangesRunning } = figures;
  put("pg_flo_worker_info", 1, { version });
  put("pg_flo_worker_running", running ? 1 : 0);
  put("pg_flo_worker_sessions_total", sessionCount);
  put("pg_flo_worker_heartbeat_age_seconds", heartbeatAgeMs === null ? null : heartbeatAgeMs / 1000);
  // All of them from the start: a rate needs the 0 before the first.
  for (const code of Object.keys(errorPolicies) as ErrorCode[]) {
    put("pg_flo_errors_total", errors.get(code) ?? 0, { code });
  }
  put("pg_flo_copy_rows_total", copy.rowCount);
  put("pg_flo_copy_bytes_total", copy.sizeBytes);
  put("pg_flo_copy_ranges_total", copy.rangesDone);
  put("pg_flo_copy_ranges_running", rangesRunning);
}

function putTotals(put: Put, totals: StreamTotals, stream: string): void {
  const labels = { stream };
  put("pg_flo_stream_received_bytes_total", totals.receivedBytes, labels);
  put("pg_flo_stream_transactions_total", totals.transactionCount, labels);
  put("pg_flo_stream_changes_total", totals.changeCount, labels);
  put("pg_flo_stream_rows_total", totals.rowCount, labels);
  put("pg_flo_stream_batches_total", totals.batchCount, labels);
  put("pg_flo_stream_files_total", totals.fileCount, labels);
  put("pg_flo_stream_file_bytes_total", totals.fileBytes, labels);
  put("pg_flo_stream_spilled_transactions_total", totals.spilledTransactionCount, labels);
  put("pg_flo_stream_spilled_bytes_total", totals.spilledBytes, labels);
  put("pg_flo_stream_transaction_changes", { sizes: totals.transactionChanges, unit: 1 }, labels);
  put("pg_flo_stream_batch_rows", { sizes: totals.batchRows, unit: 1 }, labels);
  put("pg_flo_stream_batch_bytes", { sizes: totals.batchBytes, unit: 1 }, labels);
  put("pg_flo_stream_batch_seconds", { sizes: totals.batchMs, unit: 0.001 }, labels);
}

function putProgress(put: Put, progress: StreamProgress, stream: string, end: number | null): void {
  const labels = { stream };
  put("pg_flo_stream_lag_bytes", end === null ? null : Math.max(0, end - Number(progress.position)), labels);
  put("pg_flo_stream_lag_seconds", streamLagMs(progress) / 1000, labels);
  put("pg_flo_stream_durable_lsn", Number(progress.position), labels);
  put("pg_flo_stream_read_lsn", Number(progress.reached), labels);
  put("pg_flo_stream_open_transactions", progress.openTransactionCount, labels);
}

function putSource(put: Put, figures: Figures): void {
  const rates = [...figures.budgets.values()].flatMap(({ writtenBytesPerSecond: rate }) =>
    rate === null ? [] : [rate],
  );
  put("pg_flo_source_wal_lsn", walEnd(figures));
  put("pg_flo_source_wal_bytes_per_second", rates.length === 0 ? null : Math.max(...rates));
}

function putBudget(put: Put, budget: WalBudget, slot: string): void {
  const { safeBytes, growthBytesPerSecond, timeLeftMs } = budget;
  put("pg_flo_slot_retained_wal_bytes", budget.retainedBytes, { slot });
  put("pg_flo_slot_safe_wal_bytes", safeBytes, { slot });
  put("pg_flo_slot_burn_bytes_per_second", growthBytesPerSecond, { slot });
  const grows = growthBytesPerSecond !== null && growthBytesPerSecond > 0;
  const unlimited = safeBytes === null || growthBytesPerSecond === null;
  put("pg_flo_slot_time_left_seconds", unlimited ? null : grows ? timeLeftMs! / 1000 : Number.POSITIVE_INFINITY, {
    slot,
  });
}

function putGroup(put: Put, group: GroupFigures, streamName: (stream: number) => string): void {
  const { totals, workers, streams, rangesRunning } = group;
  put("pg_flo_group_workers", workers.alive, { state: "alive" });
  put("pg_flo_group_workers", workers.expired, { state: "expired" });
  put("pg_flo_group_workers_full", workers.full);
  for (const state of ["creating", "active", "lost"]) {
    put("pg_flo_group_streams", streams.filter((stream) => stream.state === state).length, { state });
  }
  put("pg_flo_group_streams_waiting", streams.filter(({ waiting }) => waiting).length);
  for (const { stream, epoch } of streams) {
    put("pg_flo_group_stream_takes_total", epoch, { stream: streamName(stream) });
  }
  for (const state of tableStates) {
    put("pg_flo_group_tables", group.tablesByState[state] ?? 0, { state });
  }
  put("pg_flo_group_ranges_planned", totals.rangesTotal);
  put("pg_flo_group_ranges_done", totals.rangesDone);
  put("pg_flo_group_ranges_running", rangesRunning);
  put("pg_flo_group_ranges_waiting", Math.max(0, group.rangesOpen - rangesRunning));
  put("pg_flo_group_copied_rows_total", totals.copyRows);
  put("pg_flo_group_copied_bytes_total", totals.copyBytes);
  put("pg_flo_group_changes_total", totals.changeOperations);
  put("pg_flo_group_rows_total", totals.changeRows);
  put("pg_flo_group_files", totals.fileCount);
  put("pg_flo_group_file_bytes", totals.fileBytes);
  put("pg_flo_group_inexact_values", totals.inexactValues);
  put("pg_flo_tables_left_out", group.tableCount - group.tables.length);
}

interface TableLag {
  readonly progress: StreamProgress;
  /** Undefined: all that was read of it is durable. */
  readonly lagMs: number | undefined;
  readonly end: number | null;
}

function putTableLag(put: Put, { schema, name }: TableFigures, { progress, lagMs, end }: TableLag): void {
  const labels = { schema, table: name };
  const upTo = Number(lagMs === undefined ? progress.reached : progress.position);
  put("pg_flo_table_lag_bytes", end === null ? null : Math.max(0, end - upTo), labels);
  put("pg_flo_table_lag_seconds", (lagMs ?? 0) / 1000, labels);
}

function putTable(put: Put, table: TableFigures): void {
  const labels = { schema: table.schema, table: table.name };
  put("pg_flo_table_failed", table.state === "error" ? 1 : 0, labels);
  put("pg_flo_table_copy_ranges", table.rangesTotal, labels);
  put("pg_flo_table_copy_ranges_done", table.rangesDone, labels);
  put("pg_flo_table_copied_rows_total", table.copyRows, labels);
  put("pg_flo_table_changes_total", table.changeOperations, labels);
  put("pg_flo_table_rows_total", table.changeRows, labels);
  put("pg_flo_table_files", table.fileCount, labels);
  put("pg_flo_table_file_bytes", table.fileBytes, labels);
  put("pg_flo_table_inexact_values", table.inexactValues, labels);
  put("pg_flo_table_verified_age_seconds", table.verifiedAgeMs === null ? null : table.verifiedAgeMs / 1000, labels);
  put("pg_flo_table_differing_rows", table.differingRows, labels);
}

/** What was looked at last, or read since then. Null: nothing was looked at yet. */
function walEnd({ budgets, streams }: Figures): number | null {
  if (budgets.size === 0) return null;
  const seen = [...budgets.values()].map(({ walPosition }) => Number(walPosition));
  return Math.max(...seen, ...[...streams.values()].map(({ reached }) => Number(reached)));
}
