-- What came in: changes of the log that change_rows, the rows in stream files, are the net effect of.
alter table _pg_flo.tables add column change_operations bigint not null default 0;
