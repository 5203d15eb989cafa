// The end of a lost slot's recovery: the stream goes on at a new slot's point C, and what the mirror lacked at C enters
// the manifest as one transaction at C - 1, at once. Bound to the stream's owner and epoch.
import { failpoint } from "../base/failpoints.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { addCounters, addFiles } from "./copy-completion.ts";
import { addEvent, type GroupEvent } from "./events.ts";
import type { NewFile } from "./files.ts";
import type { InexactColumns } from "./inexact-columns.ts";
import { type Queryable, row, transaction } from "./queryable.ts";
import { lockTable } from "./range-plans.ts";
import { fenceValues, type StreamFence } from "./streams.ts";
import { beginAnew } from "./tables.ts";

export interface RecoveredTable {
  readonly tableId: number;
  readonly generation: number;
  readonly files: readonly NewFile[];
  readonly rows: number;
  readonly inexactColumns: InexactColumns;
}

export interface StreamRecovery {
  /** The new slot's consistent point. */
  readonly point: Lsn;
  readonly tables: readonly RecoveredTable[];
  /** Tables that cannot be mended row by row: they are copied again. */
  readonly again: readonly number[];
  readonly event: Omit<GroupEvent, "at">;
}

export type RecoveryResult =
  /** `removedPaths`: of tables that are copied again; for the caller to delete. */
  { readonly result: "recovered"; readonly removedPaths: readonly string[] } | { readonly result: "fenced" };

/**
 * Makes the recovery durable. After a lost reply the stream tells: it is active again, or still lost. A table that
 * began anew or stopped meanwhile is left as it is: it is copied anyway.
 */
export async function commitRecovery(
  db: Queryable,
  fence: StreamFence,
  { point, tables, again, event }: StreamRecovery,
): Promise<RecoveryResult> {
  return transaction(db, async (transaction) => {
    // The timeline is read anew: the source may be another server.
    const moved = await row<{ batch: string }>(
      transaction,
      `update _pg_flo.streams set state = 'active', position = $5, batch = batch + 1, timeline = null, updated_at = now()
       where group_name = $1 and stream = $2 and owner = $3 and epoch = $4 and state = 'lost' and position <= $5
       returning batch`,
      [...fenceValues(fence), lsn(point - 1n).toString()],
    );
    if (!moved) return { result: "fenced" };
    const anew = await beginAnew(transaction, fence.group, again, "copyAgain");
    for (const table of [...tables].sort((a, b) => a.tableId - b.tableId)) {
      const locked = await lockTable(transaction, table.tableId);
      if (locked?.generation !== table.generation || locked.state !== "streaming") continue;
      await addFiles(transaction, { files: table.files, stream: fence }, locked, moved.batch);
      await addCounters(transaction, table);
    }
    await addEvent(transaction, fence.group, event);
    failpoint("recovery.in-commit");
    return { result: "recovered", removedPaths: anew.paths };
  });
}
