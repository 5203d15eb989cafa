-- What operators ask of running workers, and tables that are paused or tried again.
alter table _pg_flo.tables drop constraint tables_state_check;
alter table _pg_flo.tables add constraint tables_state_check
  check (state in ('pending', 'copying', 'streaming', 'copied', 'error', 'paused', 'removed'));
-- How often the table failed in a row, and when it is tried again by itself.
alter table _pg_flo.tables add column retries int not null default 0;
alter table _pg_flo.tables add column retry_at timestamptz;
-- Both only grow: workers compare them with what they know. `requests`: a table was paused, resumed or is to be copied
-- again. `reloads`: the config is to be read again.
alter table _pg_flo.groups add column requests bigint not null default 0;
alter table _pg_flo.groups add column reloads bigint not null default 0;
-- The newest reload that the worker has dealt with, and what it says of it.
alter table _pg_flo.workers add column reload bigint not null default 0;
alter table _pg_flo.workers add column reload_answer jsonb;
