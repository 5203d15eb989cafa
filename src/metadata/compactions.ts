// Who merges and folds the files of a table, and the exchange of files for others that hold the same rows. A claim's
// number is in the names of its files and is never used again; what it exchanges is bound to the claim, to the table's
// generation and to the very files that were read, so a replaced process, a table that began anew and a second exchange
// of one file change nothing. It refuses to move a table's base backward.
import { hostname } from "node:os";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import { processLives } from "../base/process-lives.ts";
import type { ManifestFile } from "./files.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import type { TableState } from "./table-state.ts";

/** Its copy is whole. What failed or was removed is left as it is. */
export const compactableStates: readonly TableState[] = ["streaming", "copied"];

export interface Compaction {
  readonly id: bigint;
  readonly group: string;
  readonly tableId: number;
  readonly generation: number;
}

/** Takes a table that nobody compacts (any more). Undefined: somebody does, or its copy is not whole. */
export async function claimCompaction(
  db: Queryable,
  claim: { readonly group: string; readonly tableId: number; readonly leaseMs: number },
): Promise<Compaction | undefined> {
  return transaction(db, async (transaction) => {
    const table = await row<{ generation: number }>(
      transaction,
      `select generation from _pg_flo.tables where table_id = $1 and group_name = $2 and state = any($3)
       for no key update`,
      [claim.tableId, claim.group, compactableStates],
    );
    if (!table) return undefined;
    await dropDeadClaim(transaction, claim.tableId);
    const taken = await row<{ id: string }>(
      transaction,
      `insert into _pg_flo.compactions (group_name, table_id, generation, host, pid, lease_until)
       values ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 millisecond')
       on conflict (table_id) do nothing returning compaction_id as id`,
      [claim.group, claim.tableId, table.generation, hostname(), process.pid, claim.leaseMs],
    );
    const { group, tableId } = claim;
    return taken && { id: BigInt(taken.id), group, tableId, generation: table.generation };
  });
}

/** One that ran out, or whose process died on this host. */
async function dropDeadClaim(transaction: Queryable, tableId: number): Promise<void> {
  const held = await row<{ host: string; pid: number; expired: boolean }>(
    transaction,
    "select host, pid, lease_until < clock_timestamp() as expired from _pg_flo.compactions where table_id = $1",
    [tableId],
  );
  if (!held || !(held.expired || (held.host === hostname() && !processLives(held.pid)))) return;
  await rows(transaction, "delete from _pg_flo.compactions where table_id = $1", [tableId]);
}

/** False: another process took the table; nothing of this claim can count any more. */
export async function renewCompaction(db: Queryable, { id }: Compaction, leaseMs: number): Promise<boolean> {
  const renewed = await row(
    db,
    `update _pg_flo.compactions set lease_until = clock_timestamp() + $2 * interval '1 millisecond'
     where compaction_id = $1 returning 1`,
    [id.toString(), leaseMs],
  );
  return renewed !== undefined;
}

/** Gives the table back. `done`: it need not be looked at again for a while. */
export async function releaseCompaction(db: Queryable, { id, tableId }: Compaction, done: boolean): Promise<void> {
  await transaction(db, async (transaction) => {
    if (done) {
      await rows(
        transaction,
        `update _pg_flo.tables set compacted_at = now()
         where table_id = $1 and exists (select from _pg_flo.compactions where compaction_id = $2)`,
        [tableId, id.toString()],
      );
    }
    await rows(transaction, "delete from _pg_flo.compactions where compaction_id = $1", [id.toString()]);
  });
}

/** Tables that nobody looked at for so long, those that wait the longest first. */
export async function dueForCompaction(db: Queryable, group: string, everyMs: number): Promise<number[]> {
  const due = await rows<{ tableId: string }>(
    db,
    `select table_id as "tableId" from _pg_flo.tables t
     where group_name = $1 and state = any($2)
       and coalesce(compacted_at, created_at) <= now() - $3 * interval '1 millisecond'
       and not exists (select from _pg_flo.compactions c where c.table_id = t.table_id and lease_until > clock_timestamp())
     order by coalesce(compacted_at, created_at), table_id`,
    [group, compactableStates, everyMs],
  );
  return due.map(({ tableId }) => Number(tableId));
}

/** The clock by which files' ages are told. */
export async function metadataNow(db: Queryable): Promise<Date> {
  return (await row<{ now: Date }>(db, "select clock_timestamp() as now"))!.now;
}

/** A file with the rows of others. `createdAt`: when the newest of its changes were listed. */
export type CompactedFile = Omit<ManifestFile, "fileId">;

export interface Exchange {
  readonly compaction: Compaction;
  readonly removed: readonly ManifestFile[];
  readonly added: readonly CompactedFile[];
  /** The added and the kept copy files are the table's state at this position. */
  readonly fold?: { readonly base: Lsn; readonly kept: readonly ManifestFile[] };
}

/** `changed`: others hold the table, it began anew, or its files are not those that were read. Nothing was stored. */
export type ExchangeResult = "exchanged" | "changed";

/**
 * Takes files out of the manifest and puts those in that hold their rows, at once. What left is kept in `retired_files`.
 * Safe to call again after a lost reply.
 */
export async function exchangeFiles(db: Queryable, exchange: Exchange): Promise<ExchangeResult> {
  return transaction(db, async (transaction) => {
    const { compaction, removed } = exchange;
    const table = await lockTable(transaction, compaction);
    const there = await presentFiles(transaction, exchange);
    if (there.removed === 0 && there.added === exchange.added.length) return "exchanged";
    const claimed = table && compactableStates.includes(table.state) && table.generation === compaction.generation;
    if (!claimed || there.removed !== removed.length) return "changed";
    if (exchange.fold && !(await onlyFoldedFiles(transaction, table, exchange, exchange.fold))) return "changed";
    await retireFiles(transaction, exchange);
    await addFiles(transaction, table, exchange);
    await updateTable(transaction, table, exchange);
    failpoint("compact.in-commit");
    return "exchanged";
  });
}

interface LockedTable {
  readonly schema_name: string;
  readonly table_name: string;
  readonly state: TableState;
  readonly generation: number;
  readonly cut_lsn: string | null;
}

async function lockTable(db: Queryable, { id, tableId }: Compaction): Promise<LockedTable | undefined> {
  const table = await row<LockedTable>(
    db,
    `select schema_name, table_name, state, generation, cut_lsn from _pg_flo.tables where table_id = $1
     for no key update`,
    [tableId],
  );
  const claim = await row<object>(
    db,
    "select 1 from _pg_flo.compactions where compaction_id = $1 and table_id = $2 for update",
    [id.toString(), tableId],
  );
  return claim === undefined ? undefined : table;
}

async function presentFiles(db: Queryable, { compaction, removed, added }: Exchange) {
  const found = await row<{ removed: number; added: number }>(
    db,
    `select (select count(*)::int from _pg_flo.files where file_id = any($1::bigint[])) as removed,
       (select count(*)::int from _pg_flo.files where group_name = $2 and path = any($3)) as added`,
    [removed.map(({ fileId }) => fileId), compaction.group, added.map(({ path }) => path)],
  );
  return found!;
}

/** Whatever counts up to the base was read: else a file that came meanwhile would be hidden by the new cut. */
async function onlyFoldedFiles(
  db: Queryable,
  table: LockedTable,
  { compaction, removed }: Exchange,
  { base, kept }: { readonly base: Lsn; readonly kept: readonly ManifestFile[] },
): Promise<boolean> {
  const others = await row(
    db,
    `select 1 from _pg_flo.files where group_name = $1 and schema_name = $2 and table_name = $3
       and (kind = 'copy' or lsn_start <= $4) and file_id <> all($5::bigint[]) limit 1`,
    [
      compaction.group,
      table.schema_name,
      table.table_name,
      base.toString(),
      [...removed, ...kept].map(({ fileId }) => fileId),
    ],
  );
  return others === undefined;
}

async function retireFiles(db: Queryable, { compaction, removed }: Exchange): Promise<void> {
  await rows(
    db,
    `with gone as (delete from _pg_flo.files where file_id = any($1::bigint[]) returning group_name, path, size_bytes)
     insert into _pg_flo.retired_files (group_name, path, size_bytes) select group_name, path, size_bytes from gone
     where group_name = $2`,
    [removed.map(({ fileId }) => fileId), compaction.group],
  );
}

async function addFiles(db: Queryable, table: LockedTable, { compaction, added }: Exchange): Promise<void> {
  const records = added.map((file) => ({
    ...file,
    batchId: file.batchId?.toString() ?? null,
    lsnStart: file.lsnStart.toString(),
    lsnEnd: file.lsnEnd.toString(),
  }));
  await rows(
    db,
    `insert into _pg_flo.files (group_name, schema_name, table_name, kind, stream, batch_id, path, schema_version,
       row_count, size_bytes, lsn_start, lsn_end, checksum, created_at)
     select $1, $2, $3, kind, stream, "batchId", path, "schemaVersion", "rowCount", "sizeBytes", "lsnStart", "lsnEnd",
       checksum, "createdAt"
     from jsonb_to_recordset($4::jsonb) as file(kind text, stream int, "batchId" bigint, path text,
       "schemaVersion" int, "rowCount" bigint, "sizeBytes" bigint, "lsnStart" bigint, "lsnEnd" bigint, checksum text,
       "createdAt" timestamptz)`,
    [compaction.group, table.schema_name, table.table_name, JSON.stringify(records)],
  );
}

async function updateTable(db: Queryable, table: LockedTable, exchange: Exchange): Promise<void> {
  const { compaction, removed, added, fold } = exchange;
  const cut = fold ? fold.base + 1n : null;
  if (cut !== null && table.cut_lsn !== null && cut < BigInt(table.cut_lsn)) {
    throw new PgFloError(
      "INTERNAL",
      `fold ${table.schema_name}.${table.table_name}, its cut ${table.cut_lsn} would move back to ${cut}`,
    );
  }
  const count = (files: readonly { readonly kind: string }[]) => files.filter(({ kind }) => kind === "stream").length;
  const bytes = (files: readonly { readonly sizeBytes: number }[]) =>
    files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  await rows(
    db,
    `update _pg_flo.tables set file_count = file_count + $2, file_bytes = file_bytes + $3,
       change_files = change_files + $4, cut_lsn = coalesce($5, cut_lsn), base_lsn = coalesce($6, base_lsn),
       updated_at = now()
     where table_id = $1`,
    [
      compaction.tableId,
      added.length - removed.length,
      bytes(added) - bytes(removed),
      count(added) - count(removed),
      cut?.toString() ?? null,
      fold?.base.toString() ?? null,
    ],
  );
}
