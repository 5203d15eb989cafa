-- Ranges of tables that must all be read under one snapshot are copied first: a snapshot that gets old is kept for them
-- alone, the other tables go on under a new one.
alter table _pg_flo.copy_ranges add column one_snapshot boolean not null default false;
drop index _pg_flo.copy_ranges_open;
create index copy_ranges_open on _pg_flo.copy_ranges
  (group_name, one_snapshot desc, table_blocks desc, table_id, range_number) where state <> 'done';
