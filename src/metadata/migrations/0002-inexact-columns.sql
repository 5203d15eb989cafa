-- Which columns the inexact values of a table are in: column name to their number. inexact_values stays their sum.
alter table _pg_flo.tables add column inexact_columns jsonb not null default '{}';
