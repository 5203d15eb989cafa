// `pg-flo verify`: proves source and mirror equal at one point of the log while both run. Prints keys of rows that differ,
// to the one who asked; never into the log.
import type { Client } from "pg";
import { PgFloError } from "../base/errors.ts";
import { formatLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { readGroup } from "../metadata/groups.ts";
import { readTables } from "../metadata/tables.ts";
import { openStorage } from "../storage/open.ts";
import type { DifferingRow } from "../verify/table-checksums.ts";
import type { TableReport } from "../worker/table-verification.ts";
import { type Verification, verify } from "../worker/verification.ts";
import { storeReport } from "../worker/verify-service.ts";
import type { Invocation, Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { type Output, printJson, printTable } from "./output.ts";
import { fileSource } from "./query.ts";
import { withSession } from "./session.ts";
import { stopSignal } from "./stop-signal.ts";
import { fullName, tablesNamed } from "./table-names.ts";

interface VerifyOptions {
  readonly repair?: boolean;
  readonly files?: boolean;
  readonly cache?: string;
}

type VerifyInvocation = Invocation<VerifyOptions> & { readonly config: Config };

/** Rows whose keys are printed, for each table; with --json many more. */
const KEYS_SHOWN = 20;
const KEYS_IN_JSON = 10_000;

export const registerVerify: Register = (program, context) => {
  program
    .command("verify")
    .description("prove source and mirror equal at one point of the log, while both run")
    .argument("[table...]", "tables as status shows them, or with a wildcard: 'sales.*' (default: all)")
    .option("--repair", "read rows that differ again, and take damaged files out of the manifest")
    .option("--files", "read every file and check it against the manifest, also of tables that are equal")
    .option("--cache <folder>", "where files of a bucket are kept (default: ~/.cache/pg-flo)")
    .action(withConfig<VerifyOptions>(context, (invocation) => runVerify(invocation)));
};

async function runVerify(invocation: VerifyInvocation): Promise<void> {
  const { config, globals, stdout } = invocation;
  const verification = await withSession(config.metadata, { group: config.group, what: "verify" }, (db) =>
    verifyTables(invocation, db),
  );
  await (globals.json
    ? printJson(stdout, verifyDocument(config, verification))
    : printVerification(stdout, verification));
  const unequal = verification.tables.filter(({ result, repaired }) => result === "different" && repaired === null);
  if (unequal.length === 0) return;
  const names = unequal.map(({ table }) => fullName(table)).join(", ");
  throw new PgFloError("UNEQUAL", `verify, ${unequal.length} of ${verification.tables.length} tables differ: ${names}`);
}

async function verifyTables(invocation: VerifyInvocation, db: Client): Promise<Verification> {
  const { config, options, args, log } = invocation;
  await readGroup(db, config.group);
  const names = (args[0] ?? []) as readonly string[];
  const known = (await readTables(db, config.group)).filter(({ state }) => state !== "removed");
  const wanted = new Set((names.length === 0 ? known : tablesNamed(known, names)).map(({ tableId }) => tableId));
  const verification = {
    config,
    db,
    storage: openStorage(config.storage),
    log,
    wanted: ({ tableId }: { readonly tableId: number }) => wanted.has(tableId),
    filesOf: (manifest: Parameters<typeof fileSource>[1]) => fileSource(invocation, manifest),
    checkFiles: options.files === true,
    repair: options.repair === true,
    quiet: false,
    onTable: async (report: TableReport) => log.info("table verified", reportFigures(report)),
  };
  const found = await verify(verification, stopSignal(log));
  for (const report of found.tables) await storeReport(db, report, found.lsn);
  return found;
}

function reportFigures({ table, result, differences, sourceMs, mirrorMs }: TableReport) {
  return { table: fullName(table), result, rows: differences?.sourceRows ?? 0, sourceMs, mirrorMs };
}

async function printVerification(output: Output, { lsn, tables }: Verification): Promise<void> {
  const compared = tables.filter(({ result }) => result !== "not-compared");
  await output.write(
    `${compared.length} of ${tables.length} tables compared as they were right before ${formatLsn(lsn)}\n\n`,
  );
  await printTable(
    output,
    tables.map(({ table, result, differences, columnsCompared, columnsNotCompared, by }) => ({
      table: fullName(table),
      result: result === "not-compared" ? "not compared" : result,
      rows: differences?.sourceRows ?? "",
      mirror: differences?.mirrorRows ?? "",
      missing: differences?.missing ?? "",
      extra: differences?.extra ?? "",
      different: differences?.different ?? "",
      columns:
        columnsNotCompared.length === 0
          ? columnsCompared
          : `${columnsCompared} of ${columnsCompared + columnsNotCompared.length}`,
      by: by === null ? "" : by,
    })),
  );
  for (const report of tables) for (const note of reportNotes(report)) await output.write(`\n${note}`);
  await output.write("\n");
}

function reportNotes(report: TableReport): string[] {
  const { table, reason, columnsNotCompared, damagedFiles, differences, repaired, notRepaired } = report;
  const name = fullName(table);
  const rows = differences?.rows ?? [];
  const hidden = rows.length - KEYS_SHOWN;
  return [
    ...(reason === null ? [] : [`! ${name}: ${reason}`]),
    ...columnsNotCompared.map((column) => `! ${name}, column ${column.name}: ${column.why}`),
    ...damagedFiles.map(({ file, what }) => `! ${name}, file ${file.path}: ${what}`),
    ...rows.slice(0, KEYS_SHOWN).map((row) => `  ${name} ${keyText(table, row)}: ${row.kind}`),
    ...(hidden > 0 ? [`  ${name}: and ${hidden} more (--json tells ${KEYS_IN_JSON.toLocaleString("en-US")})`] : []),
    ...(repaired === null ? [] : [`  ${name}: ${repairedText(repaired)}`]),
    ...(notRepaired === null ? [] : [`! ${name}, not repaired: ${notRepaired}`]),
  ];
}

function repairedText({ rowsRead, rowsDeleted, removedFiles }: NonNullable<TableReport["repaired"]>): string {
  return `repaired: ${rowsRead} rows read again, ${rowsDeleted} deleted, ${removedFiles.length} files taken out of the manifest`;
}

function keyText({ identity }: TableReport["table"], { key }: DifferingRow): string {
  const names = identity.kind === "none" ? [] : identity.columns;
  return names.map((name, at) => `${name}=${JSON.stringify(key[at])}`).join(" ");
}

/** A public contract (docs/verify.md). */
function verifyDocument({ group }: Config, { lsn, tables }: Verification) {
  return {
    group,
    lsn: formatLsn(lsn),
    equal: tables.every(({ result }) => result !== "different"),
    tables: tables.map((report) => {
      const { table, result, reason, columnsCompared, columnsNotCompared, by, differences, damagedFiles } = report;
      const names = table.identity.kind === "none" ? [] : table.identity.columns;
      const { rows = [], ...counts } = differences ?? {};
      return {
        schema: table.schema,
        name: table.name,
        result,
        reason,
        comparedBy: by,
        columns: { compared: columnsCompared, notCompared: columnsNotCompared },
        ...counts,
        rows: rows.slice(0, KEYS_IN_JSON).map(({ kind, key }) => ({
          kind,
          key: Object.fromEntries(names.map((name, at) => [name, key[at] ?? null])),
        })),
        damagedFiles: damagedFiles.map(({ file, what }) => ({ path: file.path, what })),
        ...{ sourceMs: report.sourceMs, mirrorMs: report.mirrorMs, notRepaired: report.notRepaired },
        repaired: report.repaired && {
          rowsRead: report.repaired.rowsRead,
          rowsDeleted: report.repaired.rowsDeleted,
          removedFiles: report.repaired.removedFiles,
        },
      };
    }),
  };
}
