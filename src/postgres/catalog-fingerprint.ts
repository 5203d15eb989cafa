// One number for everything in the catalog that decides which tables are mirrored and how: asked every few seconds, so it
// is one small query. Another number means: read the catalog again. What the log tells by itself (columns that are
// renamed or change their type) is left out.
import type { ClientBase } from "pg";

/** A server that takes longer for it has other troubles: it is asked again later. */
const STATEMENT_TIMEOUT_MS = 5000;

/** Of the ordinary and partitioned tables of these schemas: names, kinds, owners, rights, keys, partitions. */
export async function catalogFingerprint(client: ClientBase, schemas: readonly string[]): Promise<string> {
  await client.query(`set statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
  try {
    const { rows } = await client.query<{ fingerprint: string }>(
      // The sum does not depend on an order; md5 is not to be had on servers that obey FIPS.
      `select coalesce(sum(hashtextextended(concat_ws(' ', c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,
           c.relispartition, c.relreplident, c.relnatts, c.relowner, n.nspowner, c.relrowsecurity, c.relforcerowsecurity,
           c.relacl::text, n.nspacl::text, keys.list, leaves.list, rights.list), 0)::numeric), 0)::text as fingerprint
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
         left join lateral (
           select string_agg(concat_ws(' ', i.indexrelid, i.indisprimary, i.indisreplident, i.indimmediate, i.indkey), ','
             order by i.indexrelid) as list
           from pg_index i where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)) keys on true
         left join lateral (
           select string_agg(h.inhrelid::text, ',' order by h.inhrelid) as list
           from pg_inherits h where h.inhparent = c.oid and c.relkind = 'p') leaves on true
         left join lateral (
           select string_agg(concat_ws(' ', a.attnum, a.attacl::text), ',' order by a.attnum) as list
           from pg_attribute a where a.attrelid = c.oid and a.attacl is not null) rights on true
       where n.nspname = any($1) and c.relkind in ('r', 'p')`,
      [schemas],
    );
    return rows[0]!.fingerprint;
  } finally {
    await client.query("reset statement_timeout");
  }
}
