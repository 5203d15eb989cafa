-- What a table's newest comparison with the source found, and who is to make the next one.
create table _pg_flo.verifications (
  table_id bigint primary key references _pg_flo.tables on delete cascade,
  group_name text not null,
  -- Nobody else begins another one before.
  claimed_until timestamptz,
  verified_at timestamptz,
  generation int,
  lsn bigint,
  result text check (result in ('equal', 'different', 'not-compared')),
  source_rows bigint,
  differing_rows bigint,
  repaired_rows bigint,
  reason text,
  check ((verified_at is null) = (result is null))
);
create index verifications_group on _pg_flo.verifications (group_name);
