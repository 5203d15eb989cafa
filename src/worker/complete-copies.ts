// Tables of a stream whose ranges are all read, under several snapshots: what makes one moment of them is done here, by
// the stream's owner, when the stream has come that far.
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";
import { awaitsCompletion } from "../metadata/copy-completion.ts";
import type { Table } from "../metadata/tables.ts";
import { readTables as readSourceTables, type SourceTable } from "../postgres/catalog.ts";
import { type CompletionOptions, type CopiedTable, completeTable, streamHasReached } from "./complete-unchanged.ts";
import { beginCopyAnew, type CopyOutcomeOptions, failCopy, stopRewritten } from "./copy-outcomes.ts";
import { measureHeaps, planStored } from "./copy-plan.ts";
import type { HeldSnapshots } from "./held-snapshots.ts";
import { changedHeaps, oneSnapshotReason } from "./resume-plan.ts";
import { onSource } from "./source-connection.ts";

export interface CompletingOptions extends CompletionOptions, CopyOutcomeOptions {
  readonly snapshots: HeldSnapshots;
}

/** Completes those whose stream has reached their snapshot. Gives how many wait for it still. */
export async function completeCopies(
  options: CompletingOptions,
  tables: readonly Table[],
  signal: AbortSignal,
): Promise<number> {
  const { db, snapshots } = options;
  let waiting = 0;
  const reached: { readonly table: Table; readonly snapshot: { readonly name: string; readonly lsn: Lsn } }[] = [];
  for (const table of tables.filter(awaitsCompletion)) {
    const lsn = table.snapshotLsn!;
    const name = snapshots.name(lsn);
    if (name === undefined || !(await streamHasReached(db, table, lsn))) waiting++;
    else reached.push({ table, snapshot: { name, lsn } });
  }
  const heaps = await heapsOfCopied(
    options,
    reached.map(({ table }) => table),
  );
  for (const { table, snapshot } of reached) {
    const each = heaps.get(table.tableId)!;
    const name = `${table.schema}.${table.name}`;
    try {
      if (each.changed !== null) await stopRewritten(options, table, name, each.changed);
      else if (each.keyless !== null) await beginCopyAnew(options, table, name, each.keyless);
      else await completeTable(options, each, snapshot, signal);
    } catch (error) {
      if (!(error instanceof PgFloError) || error.action !== "stop-table") throw error;
      await failCopy(options, table, name, error);
    }
  }
  return waiting;
}

/** The heaps that the source has now, by table. */
export async function heapsOf(
  source: ClientBase,
  tables: readonly Table[],
): Promise<Map<number, SourceTable["heaps"]>> {
  const byOid = new Map((await readSourceTables(source)).map((table) => [table.oid, table.heaps]));
  return new Map(tables.map((table) => [table.tableId, byOid.get(table.relationOid) ?? []]));
}

async function heapsOfCopied(
  { config, db, types }: CompletingOptions,
  tables: readonly Table[],
): Promise<Map<number, CopiedTable & { readonly changed: string | null; readonly keyless: string | null }>> {
  if (tables.length === 0) return new Map();
  const planned = await planStored(db, config.group);
  return onSource(config, "complete the copy", async (source) => {
    const heaps = await heapsOf(source, tables);
    const measured = await measureHeaps(source, heaps);
    return new Map(
      tables.map((table) => {
        const { tableId } = table;
        const ofTable = { heaps: heaps.get(tableId) ?? [], planned: planned.get(tableId) ?? [] };
        const changed = changedHeaps(table, measured.get(tableId) ?? [], ofTable.planned);
        const keyless = oneSnapshotReason(table, ofTable.heaps, types);
        return [tableId, { table, ...ofTable, changed, keyless }];
      }),
    );
  });
}
