// What an inspection found, for people and for machines.
import { PgFloError } from "../base/errors.ts";
import { escapeControls } from "../base/log.ts";
import type { Finding } from "../postgres/finding.ts";
import type { SelectedTable } from "../postgres/selection.ts";
import type { Inspection } from "./inspection.ts";
import { type Output, printTable } from "./output.ts";

const titles = {
  error: "Errors: nothing can start before they are mended",
  warning: "Warnings",
  info: "Notes",
} as const;

/** Tables, then findings by severity, each with its fix. */
export async function printInspection(output: Output, inspection: Inspection): Promise<void> {
  if (inspection.tables.length > 0) {
    await output.write(`Tables (${inspection.tables.length})\n`);
    await printTable(output, inspection.tables.map(tableRow));
  }
  for (const severity of ["error", "warning", "info"] as const) {
    const findings = inspection.findings.filter((finding) => finding.severity === severity);
    if (findings.length > 0) await output.write(`\n${titles[severity]} (${findings.length})\n`);
    for (const finding of findings) await output.write(findingLines(finding));
  }
}

/** What `--json` shows of it. */
export function inspectionDocument(inspection: Inspection) {
  return {
    findings: inspection.findings,
    tables: inspection.tables.map(({ table, mode }) => ({
      schema: table.schema,
      name: table.name,
      mode,
      identity: table.identity,
      columns: table.columns.map(({ name, typeName }) => ({ name, type: typeName })),
    })),
  };
}

/** PREFLIGHT_FAILED when there is an error among the findings, which were shown already. */
export function refuseErrors(inspection: Inspection, command: string): void {
  const errors = inspection.findings.filter(({ severity }) => severity === "error");
  if (errors.length === 0) return;
  const [first] = errors;
  const what = `${errors.length} ${errors.length === 1 ? "thing" : "things"} would go wrong`;
  throw new PgFloError("PREFLIGHT_FAILED", `${command}, ${what}, the first: ${first!.subject} ${first!.message}`, {
    fix: "mend what is listed, then run pg-flo check again; nothing was created",
    facts: { errors: errors.length },
  });
}

function findingLines({ subject, message, fix }: Finding): string {
  const text = `  ${escapeControls(subject)}: ${escapeControls(message)}\n`;
  return fix === "" ? text : `${text}    fix: ${escapeControls(fix)}\n`;
}

function tableRow({ table, mode }: SelectedTable) {
  return {
    table: `${table.schema}.${table.name}`,
    mode,
    identity: identityText(table.identity),
    columns: `${table.columns.length}${table.filtered ? " (some left out)" : ""}`,
  };
}

/** How updates and deletes find their row, in words. */
export function identityText(identity: SelectedTable["table"]["identity"]): string {
  switch (identity.kind) {
    case "key":
      return `key (${identity.columns.join(", ")})`;
    case "full":
      return "full rows";
    case "none":
      return "none: updates and deletes cannot be seen";
  }
}
