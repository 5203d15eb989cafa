// The end of a table's repair: rows that were read again, as one more transaction of its stream, enter the manifest, and
// files that are damaged leave it, at once. It refuses what was made for an older generation or version of the table,
// under an older epoch of its stream, whose files may be taken for orphans, and a second repair at the same point, which
// would have its rows twice.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import { addCounters, addFiles } from "./copy-completion.ts";
import { addEvent, type GroupEvent } from "./events.ts";
import type { NewFile } from "./files.ts";
import type { InexactColumns } from "./inexact-columns.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { lockTable } from "./range-plans.ts";
import type { StreamKey } from "./streams.ts";

export interface TableRepair {
  readonly stream: StreamKey & { readonly epoch: bigint };
  readonly tableId: number;
  readonly generation: number;
  readonly schemaVersion: number;
  /** Its transaction's commit LSN, at which no other one can be. */
  readonly lsn: Lsn;
  readonly files: readonly NewFile[];
  readonly rows: number;
  readonly inexactColumns: InexactColumns;
  /** Paths of files that no longer count. */
  readonly damaged: readonly string[];
  readonly event: Omit<GroupEvent, "at">;
}

export type RepairResult =
  | "repaired"
  /** Nothing was stored: the table, its stream's owner or its files changed meanwhile. */
  | "fenced";

/** Safe to call again after a lost reply. The stream's position must have reached the repair's LSN. */
export async function commitRepair(db: Queryable, repair: TableRepair): Promise<RepairResult> {
  return transaction(db, async (transaction) => {
    const { stream } = repair;
    const owned = await row<{ batch: string; epoch: string; position: string }>(
      transaction,
      `select batch, epoch, position from _pg_flo.streams
       where group_name = $1 and stream = $2 and state = 'active' for no key update`,
      [stream.group, stream.stream],
    );
    if (!owned) return "fenced";
    const table = await lockTable(transaction, repair.tableId);
    if (table?.generation !== repair.generation || table.state !== "streaming") return "fenced";
    if (await isListed(transaction, repair)) return "repaired"; // an earlier try whose reply was lost
    if (BigInt(owned.epoch) !== stream.epoch || !(await isFree(transaction, repair))) return "fenced";
    if (BigInt(owned.position) < repair.lsn) {
      throw new PgFloError(
        "INTERNAL",
        `repair table ${repair.tableId}, position ${owned.position} before ${repair.lsn}`,
      );
    }
    await storeRepair(transaction, repair, table, owned.batch);
    failpoint("repair.in-commit");
    return "repaired";
  });
}

/** Of a locked table. */
async function storeRepair(
  transaction: Queryable,
  repair: TableRepair,
  table: Parameters<typeof addFiles>[2],
  batch: string,
): Promise<void> {
  await addFiles(transaction, repair, table, batch);
  await addCounters(transaction, repair);
  await rows(
    transaction,
    `with gone as (delete from _pg_flo.files where group_name = $1 and path = any($2) returning size_bytes)
     update _pg_flo.tables set updated_at = now(), file_count = file_count - (select count(*) from gone),
       file_bytes = file_bytes - (select coalesce(sum(size_bytes), 0) from gone)
     where table_id = $3`,
    [repair.stream.group, repair.damaged, repair.tableId],
  );
  await addEvent(transaction, repair.stream.group, repair.event);
}

async function isListed(transaction: Queryable, { stream, files }: TableRepair): Promise<boolean> {
  if (files.length === 0) return false;
  const found = await row<{ count: number }>(
    transaction,
    "select count(*)::int as count from _pg_flo.files where group_name = $1 and path = any($2)",
    [stream.group, files.map(({ path }) => path)],
  );
  return found?.count === files.length;
}

/** The table is as it was compared, what is damaged was not merged into another file, and nothing else is at the LSN. */
async function isFree(transaction: Queryable, repair: TableRepair): Promise<boolean> {
  const found = await row<{ free: boolean }>(
    transaction,
    `select t.schema_version = $2 and t.cut_lsn <= $3
       and (select count(*) from _pg_flo.files f where f.group_name = t.group_name and f.path = any($4)) = cardinality($4)
       and not exists (
       select from _pg_flo.files f where f.group_name = t.group_name and f.schema_name = t.schema_name
         and f.table_name = t.table_name and f.kind = 'stream' and f.lsn_start <= $3 and f.lsn_end = $3) as free
     from _pg_flo.tables t where t.table_id = $1`,
    [repair.tableId, repair.schemaVersion, repair.lsn.toString(), repair.damaged],
  );
  return found?.free === true;
}
