// Every metric, once: its type, its labels, what it is, and the question that it answers. docs/METRICS.md is made of it,
// the registry too, and a reading of another name does not compile.
import { tableStates } from "../metadata/table-state.ts";

export interface MetricFacts {
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
  readonly help: string;
  /** What somebody asks who looks at it. */
  readonly question: string;
}

/** In the order of the page. All have the label `group` besides. */
export const metricList = {
  pg_flo_worker_info: gauge("1, with the version of this worker.", "Which version runs where?", "version"),
  pg_flo_worker_running: gauge(
    "1 while this worker streams and copies, 0 while it starts or waits after an error.",
    "Does this worker work?",
  ),
  pg_flo_worker_sessions_total: counter(
    "Times that this worker began to stream and copy: at its start, and after each error that ended all.",
    "Does it begin again and again?",
  ),
  pg_flo_worker_heartbeat_age_seconds: gauge(
    "Seconds since the metadata database took this worker's last heartbeat. Above `lease` others take its work.",
    "Is it about to lose its leases?",
  ),
  pg_flo_errors_total: counter(
    "Warnings and errors in the log of this worker, by error code (docs/ERRORS.md).",
    "What goes wrong, and how often?",
    "code",
  ),

  pg_flo_stream_lag_bytes: gauge(
    "WAL between what is durable in the files and the end of the source's log. Looked at every 10 s.",
    "How far are the files behind?",
    "stream",
  ),
  pg_flo_stream_lag_seconds: gauge(
    "Age of the oldest commit that this worker has read and that is not durable; 0 when there is none.",
    "How old is what a reader sees?",
    "stream",
  ),
  pg_flo_stream_durable_lsn: gauge(
    "Position: every commit up to it is durable. The LSN as a number of bytes.",
    "Does the stream move? Its rate is the WAL per second that becomes durable.",
    "stream",
  ),
  pg_flo_stream_read_lsn: gauge(
    "Every commit up to it has been read. The LSN as a number of bytes.",
    "Is it the reading that is slow, or the writing?",
    "stream",
  ),
  pg_flo_stream_received_bytes_total: counter(
    "Bytes of changes that the server sent.",
    "How much does the source send?",
    "stream",
  ),
  pg_flo_stream_transactions_total: counter(
    "Transactions with changes of mirrored tables.",
    "How many transactions?",
    "stream",
  ),
  pg_flo_stream_changes_total: counter(
    "Changes as the log has them: inserts, updates, deletes, truncates.",
    "How many changes come in?",
    "stream",
  ),
  pg_flo_stream_rows_total: counter(
    "Rows that the changes were brought together to. Changes divided by rows is the consolidation ratio.",
    "How much does consolidation save?",
    "stream",
  ),
  pg_flo_stream_batches_total: counter("Batches that became durable.", "How often is something durable?", "stream"),
  pg_flo_stream_files_total: counter("Files of these batches.", "Are files too many, too small?", "stream"),
  pg_flo_stream_file_bytes_total: counter("Bytes of these files.", "How much is written?", "stream"),
  pg_flo_stream_transaction_changes: histogram(
    "Changes of each transaction.",
    "Are transactions small or huge?",
    "stream",
  ),
  pg_flo_stream_batch_rows: histogram("Rows of each batch.", "Is `stream.flush_interval` too short?", "stream"),
  pg_flo_stream_batch_bytes: histogram("Bytes of the files of each batch.", "How large do files become?", "stream"),
  pg_flo_stream_batch_seconds: histogram(
    "Seconds from the closing of a batch until it is durable: finishing files, storage, metadata.",
    "Is the storage slow?",
    "stream",
  ),
  pg_flo_stream_open_transactions: gauge(
    "Transactions that the server sends while they run.",
    "Are there large transactions under way?",
    "stream",
  ),
  pg_flo_stream_spilled_transactions_total: counter(
    "Transactions that were too large for `stream.memory`.",
    "Would more memory help?",
    "stream",
  ),
  pg_flo_stream_spilled_bytes_total: counter(
    "Bytes that were written to the spill folder for them.",
    "How much disk do they need?",
    "stream",
  ),

  pg_flo_source_wal_lsn: gauge("Where the source's log ends, as a number of bytes.", "How much does the source write?"),
  pg_flo_source_wal_bytes_per_second: gauge(
    "WAL that the source writes, over five minutes.",
    "How fast would a slot that stands still run out of its budget?",
  ),
  pg_flo_slot_retained_wal_bytes: gauge(
    "WAL that the source keeps for the slot.",
    "What do we cost the source?",
    "slot",
  ),
  pg_flo_slot_safe_wal_bytes: gauge(
    "WAL that may still be written before the slot is lost (max_slot_wal_keep_size). Absent when there is no limit.",
    "How much is left?",
    "slot",
  ),
  pg_flo_slot_burn_bytes_per_second: gauge(
    "Growth of the WAL that is kept for the slot, over five minutes: about 0 while the stream keeps up.",
    "Does the stream keep up?",
    "slot",
  ),
  pg_flo_slot_time_left_seconds: gauge(
    "Seconds until the slot is lost if that goes on; +Inf when it does not grow, absent when there is no limit.",
    "How long do I have?",
    "slot",
  ),

  pg_flo_copy_rows_total: counter("Rows that this worker copied.", "How fast does this worker copy?"),
  pg_flo_copy_bytes_total: counter("Bytes of COPY data that this worker read.", "How fast, in bytes?"),
  pg_flo_copy_ranges_total: counter("Ranges that this worker completed.", "Does each worker get its share?"),

  pg_flo_copy_ranges_running: gauge("Ranges that this worker copies now.", "Is it full?"),

  pg_flo_group_reachable: gauge(
    "1 if the metadata database answered just now. When it is 0 the figures of the group are absent.",
    "Are the metadata there?",
  ),
  pg_flo_group_workers: gauge(
    "Workers, by state: alive, or expired (no heartbeat for longer than `lease`).",
    "How many workers are there, and did one die?",
    "state",
  ),
  pg_flo_group_workers_full: gauge(
    "Living workers that copy as many ranges as `copy.parallel` allows.",
    "Has any of them room for what waits?",
  ),
  pg_flo_group_streams: gauge("Streams, by state: creating, active, lost.", "Is a slot lost?", "state"),
  pg_flo_group_streams_waiting: gauge("Streams that no living worker reads.", "Is a worker missing?"),
  pg_flo_group_stream_takes_total: counter(
    "Times that a worker took the stream: starts, reconnections, fail-overs.",
    "Do leases change hands too often?",
    "stream",
  ),
  pg_flo_group_tables: gauge(
    `Tables, by state: ${tableStates.join(", ")}.`,
    "Is all copied? Did a table fail?",
    "state",
  ),
  pg_flo_group_ranges_planned: gauge("Copy ranges of the group's tables, done ones included.", "How much is to copy?"),
  pg_flo_group_ranges_done: gauge("Of these, done.", "How far is the copy?"),
  pg_flo_group_ranges_running: gauge("Ranges that workers copy now.", "How many are at it?"),
  pg_flo_group_ranges_waiting: gauge(
    "Ranges that no worker copies yet: for an autoscaler.",
    "Would another worker help?",
  ),
  pg_flo_group_copied_rows_total: counter("Rows copied by all workers.", "How much is copied?"),
  pg_flo_group_copied_bytes_total: counter("Bytes of COPY data read by all workers.", "How much, in bytes?"),
  pg_flo_group_changes_total: counter("Changes of durable batches of all workers.", "How many changes are durable?"),
  pg_flo_group_rows_total: counter("Rows that these were brought together to.", "How many rows are in stream files?"),
  pg_flo_group_files: gauge("Files in the manifest.", "How many files does a reader open?"),
  pg_flo_group_file_bytes: gauge("Their bytes.", "How large is the mirror?"),
  pg_flo_group_inexact_values: gauge(
    "Values that their column cannot hold; their exact text is in `_pg_flo_exact`.",
    "Are there values that a reader does not see exactly?",
  ),

  pg_flo_table_lag_bytes: gauge(
    "WAL that may hold changes of the table that are not in its files. Only of streams that this worker reads.",
    "Is one table behind?",
    ...["schema", "table"],
  ),
  pg_flo_table_lag_seconds: gauge(
    "Age of the table's oldest change that was read and is not durable; 0 when there is none.",
    "How old is what a reader of this table sees?",
    ...["schema", "table"],
  ),
  pg_flo_table_failed: gauge("1 when the table stopped with an error.", "Which table failed?", ...["schema", "table"]),
  pg_flo_table_copy_ranges: gauge("Copy ranges of the table.", "How large is its copy?", ...["schema", "table"]),
  pg_flo_table_copy_ranges_done: gauge("Of these, done.", "How far is its copy?", ...["schema", "table"]),
  pg_flo_table_copied_rows_total: counter("Rows copied.", "How many rows had it?", ...["schema", "table"]),
  pg_flo_table_changes_total: counter("Durable changes.", "Which tables change most?", ...["schema", "table"]),
  pg_flo_table_rows_total: counter(
    "Rows that these were brought together to.",
    "Which tables gain by consolidation?",
    ...["schema", "table"],
  ),
  pg_flo_table_files: gauge("Files in the manifest.", "Which tables have too many files?", ...["schema", "table"]),
  pg_flo_table_file_bytes: gauge("Their bytes.", "Which tables are large?", ...["schema", "table"]),
  pg_flo_table_inexact_values: gauge(
    "Values that their column cannot hold.",
    "Which tables have inexact values?",
    ...["schema", "table"],
  ),
  pg_flo_table_verified_age_seconds: gauge(
    "Since its newest comparison with the source; absent where there was none.",
    "Is the mirror's equality still being shown?",
    ...["schema", "table"],
  ),
  pg_flo_table_differing_rows: gauge(
    "Rows that its newest comparison found missing, too many or different.",
    "Which tables differ from the source?",
    ...["schema", "table"],
  ),
  pg_flo_tables_left_out: gauge(
    "Tables of the group without figures of their own here, because they are more than `?tables=` allows.",
    "Do I see all tables?",
  ),
} as const satisfies Readonly<Record<string, MetricFacts>>;

export type MetricName = keyof typeof metricList;

/** Of this page of the documentation: metrics of the process come with prom-client. */
export const metricNames = Object.keys(metricList) as readonly MetricName[];

function counter(help: string, question: string, ...labels: readonly string[]): MetricFacts {
  return { type: "counter", labels, help, question };
}

function gauge(help: string, question: string, ...labels: readonly string[]): MetricFacts {
  return { type: "gauge", labels, help, question };
}

function histogram(help: string, question: string, ...labels: readonly string[]): MetricFacts {
  return { type: "histogram", labels, help, question };
}
