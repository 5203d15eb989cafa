// Counters of inexact values by column: column name to number, as jsonb in _pg_flo.tables.inexact_columns.

/** Values whose exact text is in `_pg_flo_exact`, by the column's name at the source. */
export type InexactColumns = Readonly<Record<string, number>>;

/** SQL of both counters together. Each is SQL of a jsonb object, or NULL. */
export function addedSql(left: string, right: string): string {
  return `(select coalesce(jsonb_object_agg(key, total), '{}') from (
    select key, sum(value::bigint) as total
    from (select * from jsonb_each_text(${left}) union all select * from jsonb_each_text(${right})) counter
    group by key) summed)`;
}

export function inexactCount(columns: InexactColumns): number {
  return Object.values(columns).reduce((sum, count) => sum + count, 0);
}
