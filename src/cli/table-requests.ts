// `pg-flo resync`, `pause` and `resume`: what becomes of single tables, told to the running workers through the metadata.
// They change nothing at the source and remove no file: what left the manifest is an orphan, and goes by age.
import { escapeControls } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { addEvent } from "../metadata/events.ts";
import { readGroup } from "../metadata/groups.ts";
import { requestTables, type TableRequest } from "../metadata/requests.ts";
import { readTables, type Table } from "../metadata/tables.ts";
import { readWorkers } from "../metadata/workers.ts";
import type { Invocation, Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { printJson } from "./output.ts";
import { formatSize } from "./quantity-text.ts";
import { withSession } from "./session.ts";
import { isAlive } from "./status-document.ts";
import { fullName, tablesNamed } from "./table-names.ts";

const descriptions: Readonly<Record<TableRequest, string>> = {
  resync: "copy tables again, while all others go on; until they are copied readers see what is there of them",
  pause: "stop mirroring tables: their files stay as they are, their changes are dropped and keep no WAL",
  resume: "end a pause: the tables are copied again",
};

const eventCodes: Readonly<Record<TableRequest, string>> = {
  resync: "TABLE_RESYNC",
  pause: "TABLE_PAUSED",
  resume: "TABLE_RESUMED",
};

export const registerTableRequests: Register = (program, context) => {
  for (const request of ["resync", "pause", "resume"] as const) {
    program
      .command(request)
      .argument("<table...>", "tables of the group, such as public.orders or 'sales.*'")
      .description(descriptions[request])
      .action(withConfig(context, (invocation) => run(request, invocation)));
  }
};

interface Outcome {
  readonly table: Table;
  readonly done: boolean;
}

async function run(request: TableRequest, invocation: Invocation<object> & { readonly config: Config }): Promise<void> {
  const { config, globals, stdout, args } = invocation;
  const { outcomes, alive } = await withSession(config.metadata, { group: config.group, what: request }, async (db) => {
    await readGroup(db, config.group);
    const tables = tablesNamed(await readTables(db, config.group), args[0] as readonly string[]);
    const ids = tables.map(({ tableId }) => tableId);
    const done = new Set(await requestTables(db, config.group, ids, request));
    for (const table of tables.filter(({ tableId }) => done.has(tableId))) {
      const event = { severity: "info", code: eventCodes[request], subject: fullName(table) } as const;
      await addEvent(db, config.group, { ...event, message: doneText(request, table) });
    }
    const workers = (await readWorkers(db, config.group)).filter((worker) => isAlive(worker, config.leaseMs));
    return {
      outcomes: tables.map((table): Outcome => ({ table, done: done.has(table.tableId) })),
      alive: workers.length,
    };
  });
  if (globals.json) return printJson(stdout, document(config, request, outcomes, alive));
  const lines = outcomes.map(({ table, done }) => {
    const text = done ? doneText(request, table) : refusedText(request, table);
    return `${escapeControls(fullName(table))}: ${text}\n`;
  });
  if (alive === 0 && request !== "pause") lines.push("no worker runs: it happens when pg-flo replicate does\n");
  await stdout.write(lines.join(""));
}

function doneText(request: TableRequest, table: Table): string {
  const cost = copyCost(table);
  switch (request) {
    case "resync":
      return `is copied again${cost === null ? "" : `, ${cost} the last time`}; until then readers see what is there of it`;
    case "pause":
      return `paused: its files stay as they are, its changes are dropped; resuming copies it again${cost === null ? "" : `, ${cost} the last time`}`;
    case "resume":
      return "resumed: it is copied again; until then readers see what is there of it";
  }
}

/** What the last copy read, which another one will read about again. */
function copyCost({ mode, copyRows, copyBytes }: Table): string | null {
  if (mode === "stream-only" || copyRows === 0) return null;
  return `${copyRows} rows, ${formatSize(copyBytes)}`;
}

function refusedText(request: TableRequest, { state }: Table): string {
  if (request === "resume") return `is not paused (${state}), nothing was done`;
  if (state === "paused") return request === "pause" ? "is paused already" : "is paused: pg-flo resume copies it again";
  return `is ${state}, nothing was done`;
}

function document(config: Config, request: TableRequest, outcomes: readonly Outcome[], workersAlive: number) {
  return {
    group: config.group,
    request,
    workersAlive,
    tables: outcomes.map(({ table, done }) => ({
      schema: table.schema,
      name: table.name,
      done,
      stateBefore: table.state,
      copy: { rows: table.copyRows, bytes: table.copyBytes },
    })),
  };
}
