// The newest comparison of each table with the source: what status and metrics show, and what says which table is due.
import { type Lsn, lsn } from "../base/lsn.ts";
import { type Queryable, rows } from "./queryable.ts";

export interface TableVerification {
  readonly tableId: number;
  readonly verifiedAt: Date;
  /** Both sides were compared as they were right before it. */
  readonly lsn: Lsn;
  readonly result: "equal" | "different" | "not-compared";
  /** Null where rows were not counted. */
  readonly sourceRows: number | null;
  readonly differingRows: number | null;
  /** Rows that were read again or deleted; null where nothing was repaired. */
  readonly repairedRows: number | null;
  /** Why it was not compared; never a value of a row. */
  readonly reason: string | null;
}

/** Takes the place of the one before. A table that began anew meanwhile keeps what was said of its new copy. */
export async function recordVerification(
  db: Queryable,
  table: { readonly group: string; readonly tableId: number; readonly generation: number },
  found: Omit<TableVerification, "tableId" | "verifiedAt">,
): Promise<void> {
  await rows(
    db,
    `insert into _pg_flo.verifications as v (table_id, group_name, generation, lsn, result, source_rows, differing_rows,
       repaired_rows, reason, verified_at)
     select table_id, group_name, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() from _pg_flo.tables where table_id = $1
     on conflict (table_id) do update set generation = excluded.generation, lsn = excluded.lsn, result = excluded.result,
       source_rows = excluded.source_rows, differing_rows = excluded.differing_rows,
       repaired_rows = excluded.repaired_rows, reason = excluded.reason, verified_at = excluded.verified_at
     where coalesce(v.generation, 0) <= excluded.generation`,
    [
      table.tableId,
      table.generation,
      found.lsn.toString(),
      found.result,
      found.sourceRows,
      found.differingRows,
      found.repairedRows,
      found.reason,
    ],
  );
}

export interface ReachedStream {
  readonly stream: number;
  readonly position: Lsn | null;
  readonly lost: boolean;
  /** A worker reads it, whose lease has not run out. */
  readonly owned: boolean;
}

/** How far the streams are that somebody waits for. */
export async function readReached(db: Queryable, group: string): Promise<ReachedStream[]> {
  const found = await rows<Omit<ReachedStream, "position"> & { readonly position: string | null }>(
    db,
    `select stream, position, state = 'lost' as lost,
       owner is not null and lease_until >= clock_timestamp() as owned
     from _pg_flo.streams where group_name = $1 order by stream`,
    [group],
  );
  return found.map((each) => ({ ...each, position: each.position === null ? null : lsn(BigInt(each.position)) }));
}

/**
 * Takes one table that was not compared for so long, whichever waits the longest; undefined when none is due. For the same
 * time nobody else takes it, also when whoever took it dies.
 */
export async function claimVerification(db: Queryable, group: string, everyMs: number): Promise<number | undefined> {
  const [claimed] = await rows<{ table_id: string }>(
    db,
    `with due as (
       select t.table_id from _pg_flo.tables t left join _pg_flo.verifications v using (table_id)
       where t.group_name = $1 and t.state = 'streaming' and t.mode = 'copy-and-stream'
         and coalesce(v.claimed_until, '-infinity') < clock_timestamp()
         and coalesce(v.verified_at, '-infinity') < clock_timestamp() - $2 * interval '1 millisecond'
       order by v.verified_at nulls first, t.table_id limit 1)
     insert into _pg_flo.verifications as v (table_id, group_name, claimed_until)
     select table_id, $1, clock_timestamp() + $2 * interval '1 millisecond' from due
     on conflict (table_id) do update set claimed_until = excluded.claimed_until
     where coalesce(v.claimed_until, '-infinity') < clock_timestamp()
     returning table_id`,
    [group, everyMs],
  );
  return claimed && Number(claimed.table_id);
}

/** By table. */
export async function readVerifications(db: Queryable, group: string): Promise<Map<number, TableVerification>> {
  const found = await rows<{
    table_id: string;
    verified_at: Date;
    lsn: string;
    result: TableVerification["result"];
    source_rows: string | null;
    differing_rows: string | null;
    repaired_rows: string | null;
    reason: string | null;
  }>(
    db,
    `select table_id, verified_at, lsn, result, source_rows, differing_rows, repaired_rows, reason
     from _pg_flo.verifications where group_name = $1 and verified_at is not null`,
    [group],
  );
  const count = (text: string | null) => (text === null ? null : Number(text));
  return new Map(
    found.map((one) => [
      Number(one.table_id),
      {
        tableId: Number(one.table_id),
        verifiedAt: one.verified_at,
        lsn: lsn(BigInt(one.lsn)),
        result: one.result,
        sourceRows: count(one.source_rows),
        differingRows: count(one.differing_rows),
        repairedRows: count(one.repaired_rows),
        reason: one.reason,
      },
    ]),
  );
}
