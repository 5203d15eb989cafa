-- The source's timeline that the position is on: after a failover it tells whether the new primary has all that we have.
alter table _pg_flo.streams add column timeline int;
