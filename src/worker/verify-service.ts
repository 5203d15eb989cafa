// Verification by workers: table after table, whichever waits the longest, at a load that is bounded: one connection, one
// thread, and after each table a pause as long as it took. Repairs nothing. What fails is told and tried again at its time.
import { rm } from "node:fs/promises";
import { systemClock } from "../base/clock.ts";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log } from "../base/log.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { Manifest } from "../metadata/status.ts";
import { claimVerification, recordVerification, type TableVerification } from "../metadata/verifications.ts";
import { cachedFiles, localFiles } from "../query/file-source.ts";
import type { Storage } from "../storage/storage.ts";
import { makeSpillFolder } from "../stream/spill-file.ts";
import type { TableReport } from "./table-verification.ts";
import { verify } from "./verification.ts";

export interface VerifyService {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly log: Log;
}

/** How often it is asked which table is due, at most. */
const POLL_MS = 60_000;

/** Until the signal; nothing where the config does not ask for it. */
export async function verifyRegularly(service: VerifyService, signal: AbortSignal): Promise<void> {
  const { config, db, log } = service;
  const { everyMs } = config.verify;
  if (everyMs === null) return;
  while (!signal.aborted) {
    // So that workers that were started together do not ask together.
    let waitMs = Math.min(POLL_MS, everyMs) * (0.5 + systemClock.random());
    try {
      const tableId = await claimVerification(db, config.group, everyMs);
      const started = performance.now();
      if (tableId !== undefined) {
        await verifyOne(service, tableId, signal);
        waitMs = performance.now() - started;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof PgFloError)) throw error;
      log.warn("a table could not be verified", errorFacts(error));
    }
    await systemClock.sleep(waitMs, signal).catch(() => {}); // an abort ends the loop
  }
}

async function verifyOne({ config, db, storage, log }: VerifyService, tableId: number, signal: AbortSignal) {
  const folder = config.storage.kind === "local" ? null : await makeSpillFolder(config.stream.spillFolder);
  const filesOf = (manifest: Manifest) =>
    config.storage.kind === "local"
      ? localFiles(config.storage.root)
      : cachedFiles({ storage, manifest, folder: folder!, sizeBytesMax: Number.MAX_SAFE_INTEGER });
  try {
    const wanted = (table: { readonly tableId: number }) => table.tableId === tableId;
    const options = { config, db, storage, log, wanted, filesOf, checkFiles: false, repair: false, quiet: true };
    const { lsn, tables } = await verify(options, signal);
    for (const report of tables) {
      await storeReport(db, report, lsn);
      if (report.result === "different") await tell(db, log, report, lsn);
    }
  } finally {
    if (folder !== null) await rm(folder, { recursive: true, force: true });
  }
}

async function tell(db: Queryable, log: Log, report: TableReport, lsn: Lsn): Promise<void> {
  const { group, schema, name } = report.table;
  const subject = `${schema}.${name}`;
  const message = `it differs from the source at ${formatLsn(lsn)}: ${differenceText(report)}; pg-flo verify tells which rows, --repair mends them`;
  log.error(`table ${subject}: ${message}`);
  await addEvent(db, group, { severity: "error", code: "UNEQUAL", subject, message });
}

function differenceText({ differences, damagedFiles, reason }: TableReport): string {
  if (differences === null) return reason ?? "its files cannot be read";
  const { missing, extra, different } = differences;
  return `${missing} rows missing, ${extra} too many, ${different} different, ${damagedFiles.length} files damaged`;
}

/** For status and metrics. After a repair nothing differs any more. */
export async function storeReport(db: Queryable, report: TableReport, lsn: Lsn): Promise<void> {
  await recordVerification(db, report.table, { lsn, ...outcome(report) });
}

function outcome(report: TableReport): Omit<TableVerification, "tableId" | "verifiedAt" | "lsn"> {
  const { result, differences, repaired, reason } = report;
  const { missing = 0, extra = 0, different = 0 } = differences ?? {};
  const mended = repaired !== null;
  return {
    result: mended ? "equal" : result,
    sourceRows: differences?.sourceRows ?? null,
    differingRows: differences === null ? null : mended ? 0 : missing + extra + different,
    repairedRows: repaired && repaired.rowsRead + repaired.rowsDeleted,
    reason,
  };
}
