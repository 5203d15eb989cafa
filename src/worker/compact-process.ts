// The compacting process: the tables that it is given, one after the other, over a connection of its own. It yields the
// processor to whatever else wants it.
import { setPriority } from "node:os";
import { PgFloError } from "../base/errors.ts";
import { errorFacts, type Log, type LogFacts, type LogLevel } from "../base/log.ts";
import { compactTable } from "../compact/compact-table.ts";
import { removeRetired } from "../compact/retired.ts";
import { limitIdleTransactions } from "../metadata/queryable.ts";
import { readTables } from "../metadata/tables.ts";
import { applicationName, connect, endClient } from "../postgres/connect.ts";
import { openStorage } from "../storage/open.ts";
import type { CompactProcessOptions, FromCompactProcess, ToCompactProcess } from "./compact-messages.ts";
import { compactOptions } from "./compact-options.ts";

const LOW_PRIORITY = 10;

function tell(message: FromCompactProcess): void {
  if (process.connected) process.send!(message);
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

async function compactAll({ config, tableIds }: CompactProcessOptions, signal: AbortSignal): Promise<void> {
  const storage = openStorage(config.storage);
  const db = await connect(config.metadata, { applicationName: applicationName(config.group, "compact") });
  limitIdleTransactions(db, config.leaseMs);
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

setPriority(LOW_PRIORITY);
const stop = new AbortController();
process.on("message", (message: ToCompactProcess) => {
  if (message.kind === "stop") stop.abort();
  else void run(message.options);
});
process.once("disconnect", () => stop.abort());
// A terminal's Ctrl-C goes to the worker too, which stops this process in order.
process.on("SIGINT", () => {});

async function run(options: CompactProcessOptions): Promise<void> {
  try {
    await compactAll(options, stop.signal);
  } catch (error) {
    const known =
      error instanceof PgFloError ? error : new PgFloError("INTERNAL", `compact, ${error}`, { cause: error });
    tell({ kind: "failed", code: known.code, description: known.description, fix: known.fix });
  }
  if (process.connected) process.disconnect(); // an open channel keeps the process alive
}
