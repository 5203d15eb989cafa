-- The newest snapshot that a range of a table was read under. Later than the cut: the copy was gone on with under another
-- snapshot, and has to be completed from it before the table is whole.
alter table _pg_flo.tables add column copied_lsn bigint;
