-- Snapshots of the source that workers hold for the copy, each under a name of its own: any of them can be imported by
-- others, so a snapshot is lost only with the last worker that holds it. A snapshot is known by its LSN: it sees exactly
-- the transactions with a commit LSN below it.
create table _pg_flo.snapshots (
  group_name text not null,
  worker_id uuid not null references _pg_flo.workers on delete cascade,
  lsn bigint not null,
  snapshot_name text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (worker_id, lsn)
);
create index snapshots_group on _pg_flo.snapshots (group_name);

-- The snapshot that a table's remaining ranges are read under: that of its cut, or a later one when that was lost.
alter table _pg_flo.tables add column snapshot_lsn bigint;
update _pg_flo.tables set snapshot_lsn = cut_lsn where mode <> 'stream-only';
-- What every worker asks for again and again.
create index tables_waiting on _pg_flo.tables (group_name) where state in ('pending', 'copying');
