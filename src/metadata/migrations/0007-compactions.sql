-- Files of a table are merged and folded by one process at a time: the row is its right to do so, under a number that its
-- files carry and that is never used again. Lock order: after copy_ranges, before files.
create table _pg_flo.compactions (
  compaction_id bigint generated always as identity primary key,
  group_name text not null,
  table_id bigint not null unique references _pg_flo.tables on delete cascade,
  generation int not null,
  host text not null,
  pid int not null,
  started_at timestamptz not null default clock_timestamp(),
  lease_until timestamptz not null
);
create index compactions_group on _pg_flo.compactions (group_name);

-- Files that left the manifest because others hold their rows now. They stay for a while: somebody may have read the
-- manifest before.
create table _pg_flo.retired_files (
  group_name text not null,
  path text not null,
  size_bytes bigint not null,
  retired_at timestamptz not null default now(),
  primary key (group_name, path)
);

-- Up to here the changes are folded into the copy files, null: none. And when its files were last looked at for merging.
alter table _pg_flo.tables add column base_lsn bigint, add column compacted_at timestamptz;
