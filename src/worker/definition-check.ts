// A definition can change between the reading of the catalog and the cut, which comes when every transaction has ended
// that runs while its slot is made. What rows got by such a change before the cut is told by nobody: the copy reads the
// columns that were known, and the log begins at the cut. So the definitions are read once more when the cut is known,
// and a table with another one gets no cut: it begins anew with what it has now.
import { PgFloError } from "../base/errors.ts";
import type { Table } from "../metadata/tables.ts";
import { type CopyOutcomeOptions, failCopy } from "./copy-outcomes.ts";
import { discover, toWanted } from "./discovery.ts";
import { changeOf } from "./planned-changes.ts";
import { onSource } from "./source-connection.ts";

/** Whether a new partition is empty counts for nothing here: no row was copied yet. */
const NO_LEAVES: ReadonlySet<number> = new Set();

/** Before the cut is stored: stops those of the tables that wait for it and are no longer what they were registered as. */
export async function stopChanged(options: CopyOutcomeOptions, tables: readonly Table[]): Promise<void> {
  const waiting = tables.filter(({ state, mode }) => state === "pending" && mode !== "stream-only");
  if (waiting.length === 0) return;
  const { config } = options;
  const discovery = await onSource(config, "look at the definitions", (source) => discover(source, config));
  const wanted = new Map(toWanted(discovery).map((table) => [table.oid, table]));
  for (const table of waiting) {
    const now = wanted.get(table.relationOid);
    if (now === undefined) continue; // gone: its copy will tell
    const change = changeOf(table, now, NO_LEAVES);
    if (change.kind !== "version" && change.kind !== "copy") continue;
    const subject = `${table.schema}.${table.name}`;
    const what = change.kind === "copy" ? change.reason : change.summary;
    const error = new PgFloError("TABLE_CHANGED", `table ${subject}, definition, ${what}, before its copy began`);
    await failCopy(options, table, subject, error);
  }
}
