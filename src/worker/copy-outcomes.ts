// What becomes of a table whose copy cannot go on: it begins anew, or stops with an error that people are told.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { errorFacts, type Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { copyAgain } from "../metadata/copy-again.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { setTableError, type TableKey } from "../metadata/tables.ts";
import type { Storage } from "../storage/storage.ts";

export interface CopyOutcomeOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly log: Log;
  readonly onTableChanged: () => void;
}

/** With the definition that it has: its files leave the manifest and the storage. */
export async function beginCopyAnew(
  { config, db, storage, log }: CopyOutcomeOptions,
  table: TableKey,
  subject: string,
  reason: string,
): Promise<void> {
  log.warn("the copy of this table begins anew", { table: subject, reason });
  for (const path of (await copyAgain(db, config.group, table)) ?? []) await storage.remove(path);
}

/**
 * Its heaps are not those that it was registered with: it begins anew when its definition was read again. Begun anew with
 * the old one it would have to be copied once more as soon as somebody looks at the catalog.
 */
export function stopRewritten(
  options: CopyOutcomeOptions,
  table: TableKey,
  subject: string,
  what: string,
): Promise<void> {
  return failCopy(options, table, subject, new PgFloError("TABLE_CHANGED", `table ${subject}, heap, ${what}`));
}

/**
 * `subject`: the table's name. A definition that is another one now is read again, and the table copied with it; so is
 * what is lacking when a right is missing.
 */
export async function failCopy(
  { config, db, log, onTableChanged }: CopyOutcomeOptions,
  table: TableKey,
  subject: string,
  error: PgFloError,
): Promise<void> {
  const looksAgain = error.code === "TABLE_CHANGED" || error.code === "PERMISSION_DENIED";
  const known = looksAgain || error.code === "TABLE_FAILED";
  const failure = known ? error : new PgFloError("TABLE_FAILED", `table ${subject}, copy, ${error.message}`);
  const severity = error.code === "TABLE_CHANGED" ? "warning" : "error";
  // Of an older generation: somebody has begun it anew already.
  if (!(await setTableError(db, table, { code: failure.code, message: failure.message }))) return;
  log[severity === "error" ? "error" : "warn"](failure.message, errorFacts(error));
  failpoint("copy.table-failing");
  await addEvent(db, config.group, { severity, code: error.code, subject, message: failure.message });
  if (looksAgain) onTableChanged();
}
