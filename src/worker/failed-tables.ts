// Tables that stopped alone: those that cannot be mirrored as things are, told with their fix, and those whose time has
// come to be tried again. What failed can only be copied again, so nothing is tried while its cause is known to stand.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { clearTableError } from "../metadata/copy-again.ts";
import { addEvent } from "../metadata/events.ts";
import type { WantedTable } from "../metadata/register-tables.ts";
import { postponeRetry, readTables, setTableError, type Table, tablesToRetry } from "../metadata/tables.ts";
import type { Finding } from "../postgres/finding.ts";
import type { WorkerContext } from "./preparation.ts";

const UNFIT = "PREFLIGHT_FAILED";

/** Stops tables that would fail, before they do. True: the state of one is another now. */
export async function stopUnfit(
  { config, db, log }: Pick<WorkerContext, "config" | "db" | "log">,
  tables: readonly Table[],
  unfit: ReadonlyMap<number, Finding>,
): Promise<boolean> {
  let stopped = false;
  for (const table of tables) {
    const finding = unfit.get(table.relationOid);
    if (!finding) continue;
    const subject = `${table.schema}.${table.name}`;
    const { description, message } = new PgFloError(UNFIT, `table ${subject}, ${finding.subject} ${finding.message}`, {
      fix: finding.fix,
    });
    // What failed for a lack of rights is told what it lacks, by and by; what failed otherwise keeps its own error.
    const { state, error } = table;
    const lacked = error?.code === "PERMISSION_DENIED" || (error?.code === UNFIT && error.message !== message);
    if (state !== "pending" && !lacked) continue;
    if (!(await setTableError(db, table, { code: UNFIT, message }))) continue;
    stopped = true;
    log.error(description, { fix: finding.fix });
    await addEvent(db, config.group, { severity: "error", code: UNFIT, subject, message });
  }
  return stopped;
}

/**
 * Begins failed tables anew: those that lacked something and lack it no more, those whose time has come, and those that
 * `mended` tells, all as `wanted` has them now. True: there was one.
 */
export async function retryFailed(
  { config, db, storage, log }: Pick<WorkerContext, "config" | "db" | "storage" | "log">,
  wanted: readonly WantedTable[],
  unfit: ReadonlyMap<number, Finding>,
  mended: (table: Table) => boolean,
): Promise<boolean> {
  const due = new Set((await tablesToRetry(db, config.group)).map(({ tableId }) => tableId));
  const byOid = new Map(wanted.map((table) => [table.oid, table]));
  let tried = false;
  for (const table of (await readTables(db, config.group)).filter(({ state }) => state === "error")) {
    const { tableId, relationOid, error } = table;
    if (unfit.has(relationOid)) {
      if (due.has(tableId)) await postponeRetry(db, tableId);
      continue;
    }
    if (!due.has(tableId) && error?.code !== UNFIT && !mended(table)) continue;
    const paths = await clearTableError(db, config.group, table, byOid.get(relationOid));
    if (paths === null) continue; // somebody was quicker
    failpoint("table.retried");
    tried = true;
    const subject = `${table.schema}.${table.name}`;
    log.info("a failed table is tried again", { table: subject });
    const message = `is copied again after ${error?.code ?? "an error"}`;
    await addEvent(db, config.group, { severity: "info", code: "TABLE_RETRIED", subject, message });
    for (const path of paths) await storage.remove(path);
  }
  return tried;
}
