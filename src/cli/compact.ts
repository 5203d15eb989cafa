// `pg-flo compact`: merges small files of tables into large ones, folds what is older than the history, and removes what
// others took the place of long enough ago. Workers do the same with `compact.every`.
import { PgFloError } from "../base/errors.ts";
import { formatLsn } from "../base/lsn.ts";
import { type CompactOptions, compactTable, dueFold, type TableCompaction } from "../compact/compact-table.ts";
import { bytesOf, mergeLimits, mergeRuns } from "../compact/plan.ts";
import { removeRetired } from "../compact/retired.ts";
import type { Config } from "../config/config.ts";
import { compactableStates } from "../metadata/compactions.ts";
import { readGroup } from "../metadata/groups.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { readManifest } from "../metadata/status.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import { openStorage } from "../storage/open.ts";
import { removeLeftSpillFiles } from "../stream/spill-file.ts";
import { compactOptions } from "../worker/compact-options.ts";
import type { Invocation, Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { printJson, printTable } from "./output.ts";
import { formatSize } from "./quantity-text.ts";
import { withSession } from "./session.ts";
import { stopSignal } from "./stop-signal.ts";

interface CompactCommandOptions {
  readonly dryRun?: boolean;
}

type CompactInvocation = Invocation<CompactCommandOptions> & { readonly config: Config };

export const registerCompact: Register = (program, context) => {
  program
    .command("compact")
    .description("merge small files into large ones, and fold changes that are older than `history` into the copy")
    .argument("[tables...]", "schema.table; default: every table")
    .option("--dry-run", "only tell what there is to do")
    .action(withConfig<CompactCommandOptions>(context, (invocation) => runCompact(invocation)));
};

async function runCompact(invocation: CompactInvocation): Promise<void> {
  const { config, options, args, log, globals, stdout } = invocation;
  const storage = openStorage(config.storage);
  await withSession(config.metadata, { group: config.group, what: "compact" }, async (db) => {
    const group = await readGroup(db, config.group);
    if (group.storageUrl !== storage.url) {
      throw new PgFloError(
        "CONFIG_INVALID",
        `group ${config.group}, storage, its files are in ${group.storageUrl}, the config says ${storage.url}`,
        { fix: "name the storage that the group was made with" },
      );
    }
    await removeLeftSpillFiles(config.stream.spillFolder);
    const tables = await selectTables(db, config, args[0] as readonly string[]);
    const optionsOf = (table: Table) => compactOptions({ config, db, storage, log, table, everything: true });
    const results: TableCompaction[] = [];
    const signal = stopSignal(log, "giving the table back; what is exchanged stays");
    for (const table of tables) {
      const result = options.dryRun
        ? await previewTable(optionsOf(table), table)
        : await compactTable(optionsOf(table), table.tableId, signal).catch((error: unknown) => {
            if (!signal.aborted || error !== signal.reason) throw error;
            throw new PgFloError("CANCELLED", `compact ${nameOf(table)}, stopped by a signal`, {
              fix: "run it again: what was exchanged stays, and nothing else counts",
            });
          });
      if (result) results.push(result);
      else
        log.warn("the table is left as it is: another process compacts it, or it began anew", { table: nameOf(table) });
    }
    const { graceMs } = config.compact;
    const removedFiles = options.dryRun ? 0 : await removeRetired({ db, storage, group: config.group, graceMs });
    if (globals.json) return printJson(stdout, document(config, results, removedFiles));
    await printTable(stdout, results.map(resultRow), ["table", "files", "size", "merged", "folded up to"]);
    if (removedFiles > 0) await stdout.write(`removed ${removedFiles} files that others took the place of\n`);
  });
}

const nameOf = ({ schema, name }: { readonly schema: string; readonly name: string }) => `${schema}.${name}`;

async function selectTables(db: Queryable, config: Config, names: readonly string[]): Promise<Table[]> {
  const all = await readTables(db, config.group);
  const unknown = names.filter((name) => !all.some((table) => nameOf(table) === name));
  if (unknown.length > 0) {
    throw new PgFloError("CONFIG_INVALID", `command line, ${unknown.join(", ")}, not among the group's tables`, {
      fix: "name them as schema.table; pg-flo status lists them",
    });
  }
  const wanted = names.length === 0 ? all : all.filter((table) => names.includes(nameOf(table)));
  const unready = wanted.filter(({ state }) => !compactableStates.includes(state));
  if (names.length > 0 && unready.length > 0) {
    const states = unready.map((table) => `${nameOf(table)} is ${table.state}`).join(", ");
    throw new PgFloError("CONFIG_INVALID", `command line, ${states}`, {
      fix: "only tables whose copy is whole are compacted (streaming or copied)",
    });
  }
  return wanted.filter((table) => !unready.includes(table));
}

/** What would be merged as the files are now. Folding comes first and changes that: then it is told alone. */
async function previewTable(options: CompactOptions, table: Table): Promise<TableCompaction | undefined> {
  const [entry] = (await readManifest(options.db, options.group, table.tableId)).tables;
  if (!entry) return undefined;
  const plan = await dueFold(options, entry);
  const folded = new Set(plan?.files.filter((file) => file.kind === "stream" && !plan.spanning.includes(file)));
  const left = entry.files.filter((file) => !folded.has(file));
  const runs = mergeRuns(left, mergeLimits(options.fileBytes, options.filesMin));
  const mergedFiles = runs.reduce((sum, run) => sum + run.length, 0);
  return {
    schema: table.schema,
    name: table.name,
    before: { count: entry.files.length, sizeBytes: bytesOf(entry.files) },
    after: { count: left.length - mergedFiles + runs.length, sizeBytes: bytesOf(left) },
    mergedFiles,
    base: plan?.base ?? null,
  };
}

function resultRow({ schema, name, before, after, mergedFiles, base }: TableCompaction) {
  return {
    table: `${schema}.${name}`,
    files: `${before.count} to ${after.count}`,
    size: `${formatSize(before.sizeBytes)} to ${formatSize(after.sizeBytes)}`,
    merged: mergedFiles,
    "folded up to": base === null ? "" : formatLsn(base),
  };
}

function document(config: Config, results: readonly TableCompaction[], removedFiles: number) {
  return {
    group: config.group,
    tables: results.map(({ base, ...table }) => ({ ...table, base: base === null ? null : formatLsn(base) })),
    removedFiles,
  };
}
