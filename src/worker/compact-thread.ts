// The compacting thread: the tables that it is given, one after the other, over a connection of its own. It yields the
// processor to whatever else wants it.
import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log, type LogFacts, type LogLevel } from "../base/log.ts";
import { compactTable } from "../compact/compact-table.ts";
import { removeRetired } from "../compact/retired.ts";
import { readTables } from "../metadata/tables.ts";
import { applicationName, connect, endClient } from "../postgres/connect.ts";
import { openStorage } from "../storage/open.ts";
import type { CompactThreadOptions, FromCompactThread } from "./compact-messages.ts";
import { compactOptions } from "./compact-options.ts";

/** Linux has it by thread; elsewhere it would slow the stream down. */
const LOW_PRIORITY = 10;

const port = parentPort!;
const { config, tableIds } = workerData as CompactThreadOptions;

function tell(message: FromCompactThread): void {
  port.postMessage(message);
}

const logAt = (level: LogLevel) => (message: string, facts?: LogFacts) => {
  tell({ kind: "log", level, message, ...(facts && { facts }) });
};
const log: Log = {
  debug: logAt("debug"),
  info: logAt("info"),
  warn: logAt("warn"),
  error: logAt("error"),
  child: () => log,
};

async function compactAll(signal: AbortSignal): Promise<void> {
  const storage = openStorage(config.storage);
  const db = await connect(config.metadata, { applicationName: applicationName(config.group, "compact") });
  try {
    const tables = new Map((await readTables(db, config.group)).map((table) => [table.tableId, table]));
    for (const tableId of tableIds) {
      const table = tables.get(tableId);
      if (!table || signal.aborted) continue;
      const options = compactOptions({ config, db, storage, log, table, everything: false });
      try {
        const result = await compactTable(options, tableId, signal);
        if (!result || result.mergedFiles === 0) continue;
        const { before, after, mergedFiles } = result;
        const facts = { mergedFiles, filesBefore: before.count, filesAfter: after.count };
        log.info("files are merged", { table: `${table.schema}.${table.name}`, ...facts });
      } catch (error) {
        if (signal.aborted && error === signal.reason) return;
        // The connection is gone: nothing works any more. What is wrong with one table does not concern the others.
        if (!(error instanceof PgFloError) || error.code === "CONNECTION_LOST") throw error;
        log.warn("a table could not be compacted", { table: `${table.schema}.${table.name}`, ...errorFacts(error) });
      }
    }
    await removeRetired({ db, storage, group: config.group, graceMs: config.compact.graceMs });
  } finally {
    await endClient(db);
  }
}

if (process.platform === "linux") setPriority(0, LOW_PRIORITY);
const stop = new AbortController();
port.on("message", () => stop.abort());
try {
  await compactAll(stop.signal);
} catch (error) {
  const known = error instanceof PgFloError ? error : new PgFloError("INTERNAL", `compact, ${error}`, { cause: error });
  tell({ kind: "failed", code: known.code, description: known.description, fix: known.fix });
}
port.close(); // an open port keeps the thread alive
