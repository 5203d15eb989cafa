// Whether a file that no manifest row names can still get one. What this says "no" about is an orphan for ever: epochs and
// attempts only go up, and a file is written under the one that was current. No clock decides.
import { type Queryable, row, rows, transaction } from "./queryable.ts";

export interface Listable {
  /** Of the given paths, those in the manifest and those that were until a while ago: readers may still be at them. */
  readonly listed: ReadonlySet<string>;
  /** The newest epoch of each stream: only files written under it (or one still to come) can be listed. */
  readonly epochs: ReadonlyMap<number, bigint>;
  /** Ranges that somebody holds: only their files can be listed. */
  readonly runningRanges: readonly {
    readonly schema: string;
    readonly table: string;
    readonly rangeNumber: number;
  }[];
  /** Those that go on, whose files can be listed; others' never. */
  readonly compactions: ReadonlySet<bigint>;
  /** Files from before it are not this group's doing: `drop` leaves files, and a group of that name may begin anew. */
  readonly groupCreatedAt: Date;
}

/**
 * One moment, which must be after the paths were listed at the storage. Undefined: there is no such group (any more), and
 * nothing is known about its files.
 */
export async function readListable(
  db: Queryable,
  group: string,
  paths: readonly string[],
): Promise<Listable | undefined> {
  return transaction(
    db,
    async (snapshot) => {
      const known = await row<{ createdAt: Date }>(
        snapshot,
        `select created_at as "createdAt" from _pg_flo.groups where name = $1`,
        [group],
      );
      if (!known) return undefined;
      const listed = await rows<{ path: string }>(
        snapshot,
        `select path from _pg_flo.files where group_name = $1 and path = any($2)
         union all select path from _pg_flo.retired_files where group_name = $1 and path = any($2)`,
        [group, paths],
      );
      const streams = await rows<{ stream: number; epoch: string }>(
        snapshot,
        "select stream, epoch from _pg_flo.streams where group_name = $1",
        [group],
      );
      const runningRanges = await rows<{ schema: string; table: string; rangeNumber: number }>(
        snapshot,
        `select t.schema_name as schema, t.table_name as table, r.range_number as "rangeNumber"
         from _pg_flo.copy_ranges r join _pg_flo.tables t using (table_id)
         where r.group_name = $1 and r.state = 'running'`,
        [group],
      );
      const compactions = await rows<{ id: string }>(
        snapshot,
        "select compaction_id as id from _pg_flo.compactions where group_name = $1",
        [group],
      );
      return {
        compactions: new Set(compactions.map(({ id }) => BigInt(id))),
        listed: new Set(listed.map(({ path }) => path)),
        epochs: new Map(streams.map(({ stream, epoch }) => [stream, BigInt(epoch)])),
        runningRanges,
        groupCreatedAt: known.createdAt,
      };
    },
    { isolation: "snapshot" },
  );
}
