-- What the catalog told beside a table's newest definition: whether rows were rewritten since, partitions came or went.
alter table _pg_flo.tables add column traces jsonb;
