// Files that left the manifest because others hold their rows: they stay for whoever read the manifest before, and go by
// age. Refuses to forget a file before it is removed: what nobody knows of would only be found as an orphan.
import { type Queryable, rows } from "./queryable.ts";

export interface RetiredFile {
  readonly path: string;
  readonly sizeBytes: number;
}

/** By the metadata server's clock, which also said when they left. */
export async function readExpiredFiles(
  db: Queryable,
  group: string,
  graceMs: number,
  limit: number,
): Promise<RetiredFile[]> {
  const found = await rows<{ path: string; size: string }>(
    db,
    `select path, size_bytes as size from _pg_flo.retired_files
     where group_name = $1 and retired_at <= now() - $2 * interval '1 millisecond' order by retired_at limit $3`,
    [group, graceMs, limit],
  );
  return found.map(({ path, size }) => ({ path, sizeBytes: Number(size) }));
}

/** They are removed from the storage. */
export async function forgetRetiredFiles(db: Queryable, group: string, paths: readonly string[]): Promise<void> {
  await rows(db, "delete from _pg_flo.retired_files where group_name = $1 and path = any($2)", [group, paths]);
}
