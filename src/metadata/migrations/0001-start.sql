-- The first shape of schema _pg_flo. docs/metadata.md explains every table and column.
-- The schema's name begins with an underscore because Postgres keeps names that begin with pg_ for itself: CREATE SCHEMA
-- refuses them (SQLSTATE 42939), and pg_dump leaves them out.
-- A migration that running workers of the version before cannot live with starts with the line `-- breaking`.
-- Lock order, the same everywhere: groups, workers, streams, tables (by table_id), copy_ranges, files.

create table _pg_flo.groups (
  name text primary key check (name <> ''),
  system_identifier text not null,
  source_database text not null,
  storage_url text not null,
  created_at timestamptz not null default now()
);

create table _pg_flo.workers (
  worker_id uuid primary key default gen_random_uuid(),
  group_name text not null references _pg_flo.groups on delete cascade,
  host text not null,
  pid int not null,
  started_at timestamptz not null default clock_timestamp(),
  heartbeat_at timestamptz not null default clock_timestamp(),
  figures jsonb not null default '{}'
) with (fillfactor = 50);
create index workers_group on _pg_flo.workers (group_name);

create table _pg_flo.streams (
  group_name text not null references _pg_flo.groups on delete cascade,
  stream int not null check (stream > 0),
  slot_name text not null,
  publications text[] not null,
  state text not null default 'creating' check (state in ('creating', 'active', 'lost')),
  owner uuid, -- no reference: a worker's row goes when it expires, its fenced-out name may stay
  epoch bigint not null default 0,
  lease_until timestamptz,
  position bigint check (position >= 0),
  batch bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (group_name, stream),
  check (state <> 'active' or position is not null)
) with (fillfactor = 50);

create table _pg_flo.tables (
  table_id bigint generated always as identity primary key,
  group_name text not null references _pg_flo.groups on delete cascade,
  schema_name text not null,
  table_name text not null,
  relation_oid bigint not null,
  mode text not null check (mode in ('copy-and-stream', 'stream-only', 'copy-only')),
  stream int check ((stream is null) = (mode = 'copy-only')),
  state text not null default 'pending'
    check (state in ('pending', 'copying', 'streaming', 'copied', 'error', 'removed')),
  generation int not null default 1,
  cut_lsn bigint check (cut_lsn >= 0),
  schema_version int not null default 1,
  identity jsonb not null,
  error jsonb,
  ranges_total int,
  ranges_done int not null default 0,
  copy_rows bigint not null default 0,
  copy_bytes bigint not null default 0,
  change_rows bigint not null default 0,
  change_files bigint not null default 0,
  inexact_values bigint not null default 0,
  file_count bigint not null default 0,
  file_bytes bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (group_name, schema_name, table_name),
  check (state not in ('copying', 'streaming', 'copied') or cut_lsn is not null),
  check (state <> 'pending' or cut_lsn is null),
  check ((state = 'error') = (error is not null))
) with (fillfactor = 70);
create index tables_stream on _pg_flo.tables (group_name, stream);

create table _pg_flo.table_versions (
  group_name text not null,
  table_id bigint not null references _pg_flo.tables on delete cascade,
  schema_version int not null check (schema_version > 0),
  columns jsonb not null,
  created_at timestamptz not null default now(),
  primary key (table_id, schema_version)
);
create index table_versions_group on _pg_flo.table_versions (group_name);

create table _pg_flo.copy_ranges (
  range_id bigint generated always as identity primary key,
  group_name text not null,
  table_id bigint not null references _pg_flo.tables on delete cascade,
  range_number int not null,
  heap_oid bigint not null,
  heap_schema text not null,
  heap_name text not null,
  relfilenode bigint not null,
  block_from bigint not null check (block_from >= 0),
  block_to bigint check (block_to > block_from),
  table_blocks bigint not null,
  state text not null default 'pending' check (state in ('pending', 'running', 'done')),
  owner uuid,
  lease_until timestamptz,
  attempts int not null default 0,
  row_count bigint,
  size_bytes bigint,
  unique (table_id, range_number),
  check ((state = 'running') = (owner is not null)),
  check ((state = 'running') = (lease_until is not null))
) with (fillfactor = 70);
-- What is claimed next: the largest table first, its ranges in order.
create index copy_ranges_open on _pg_flo.copy_ranges (group_name, table_blocks desc, table_id, range_number)
  where state <> 'done';
create index copy_ranges_owner on _pg_flo.copy_ranges (owner) where owner is not null;

create table _pg_flo.files (
  file_id bigint generated always as identity primary key,
  group_name text not null,
  stream int,
  batch_id bigint,
  schema_name text not null,
  table_name text not null,
  kind text not null check (kind in ('copy', 'stream')),
  path text not null,
  schema_version int not null,
  row_count bigint not null,
  size_bytes bigint not null,
  lsn_start bigint not null,
  lsn_end bigint not null check (lsn_end >= lsn_start),
  checksum text not null,
  created_at timestamptz not null default now(),
  unique (group_name, path), -- also the last wall against a file counted twice
  check ((kind = 'stream') = (batch_id is not null)),
  check (kind = 'copy' or stream is not null)
);
create index files_table on _pg_flo.files (group_name, schema_name, table_name);

create table _pg_flo.events (
  event_id bigint generated always as identity primary key,
  group_name text not null,
  at timestamptz not null default clock_timestamp(),
  severity text not null check (severity in ('info', 'warning', 'error')),
  code text not null,
  subject text not null,
  message text not null
);
create index events_group on _pg_flo.events (group_name, event_id);
