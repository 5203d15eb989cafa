// `pg-flo status`: what is mirrored, how far, how far behind, by whom. Creates nothing, and needs no source: what only
// the source knows is left out when it does not answer.
import { setTimeout as sleep } from "node:timers/promises";
import { PgFloError } from "../base/errors.ts";
import { escapeControls } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { readGroup } from "../metadata/groups.ts";
import { readStatus } from "../metadata/status.ts";
import type { Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { type Output, printJson, printTable } from "./output.ts";
import { formatDuration, formatRate, formatSize } from "./quantity-text.ts";
import { withSession } from "./session.ts";
import { readSourceStatus } from "./source-status.ts";
import {
  isAlive,
  type StatusDocument,
  type StreamStatus,
  statusDocument,
  type TableStatus,
} from "./status-document.ts";

/** Seconds between two looks of --watch. */
const WATCH = { least: 1, most: 3600, usual: 5 };

interface StatusOptions {
  /** True without a number. */
  readonly watch?: string | true;
}

export const registerStatus: Register = (program, context) => {
  program
    .command("status")
    .description("show tables, streams, lag, workers and files")
    .option("--watch [seconds]", `show it again and again, every ${WATCH.usual} s unless told otherwise`)
    .action(
      withConfig<StatusOptions>(context, async ({ config, globals, options, stdout }) => {
        const show = async (output: Output) => {
          const document = await readDocument(config);
          await (globals.json ? printJson(output, document) : printStatus(output, document));
        };
        if (options.watch === undefined) return show(stdout);
        await watch(show, watchSeconds(options.watch), stdout, globals.json === true);
      }),
    );
};

function watchSeconds(given: string | true): number {
  const seconds = given === true ? WATCH.usual : Number(given);
  if (seconds >= WATCH.least && seconds <= WATCH.most) return seconds;
  throw new PgFloError("CONFIG_INVALID", `command line, --watch ${given}, is no number of seconds`, {
    fix: `give a number from ${WATCH.least} to ${WATCH.most}`,
  });
}

const CLEAR_TERMINAL = "\u001b[H\u001b[2J\u001b[3J";

/** Until the reader goes away or a signal ends the process. What fails while it runs is shown, and looked at again. */
async function watch(
  show: (output: Output) => Promise<void>,
  seconds: number,
  output: Output,
  json: boolean,
): Promise<void> {
  for (let first = true; !output.closed; first = false) {
    const page: string[] = []; // written at once: a terminal that is drawn anew must not flicker
    try {
      await show({
        ...output,
        isTty: output.isTty && !json,
        columns: output.columns,
        write: async (text) => void page.push(text),
      });
    } catch (error) {
      if (first || json || !(error instanceof PgFloError) || error.action !== "retry") throw error;
      page.push(`${escapeControls(error.message)}\n`);
    }
    const before = json ? "" : output.isTty ? CLEAR_TERMINAL : first ? "" : "\n";
    await output.write(before + page.join(""));
    await sleep(seconds * 1000);
  }
}

async function readDocument(config: Config): Promise<StatusDocument> {
  const name = { group: config.group, what: "status" };
  const { group, status } = await withSession(config.metadata, name, async (client) => ({
    group: await readGroup(client, config.group),
    status: await readStatus(client, config.group),
  }));
  const watched = status.workers.some((worker) => isAlive(worker, config.leaseMs));
  const source = await readSourceStatus(config, status, !watched);
  return statusDocument({ group, status, source, leaseMs: config.leaseMs, walBudget: config.walBudget });
}

async function printStatus(output: Output, document: StatusDocument): Promise<void> {
  const { count, bytes } = document.files;
  const heading = [
    `group ${document.group}`,
    `position ${document.position ?? "none yet"}`,
    `${count} files, ${formatSize(bytes)}`,
    document.storage,
  ];
  await output.write(`${heading.map(escapeControls).join("  |  ")}\n`);
  if (document.tables.length > 0) await output.write("\n");
  await printTable(output, document.tables.map(tableRow));
  if (document.streams.length > 0) await output.write("\n");
  await printTable(
    output,
    document.streams.map((stream) => streamRow(stream, document)),
  );
  if (document.workers.length > 0) await output.write("\n");
  await printTable(
    output,
    document.workers.map(({ host, pid, startedAt, heartbeatAgeMs, alive }) => ({
      worker: `${host}:${pid}`,
      started: startedAt.toISOString().slice(0, 19).replace("T", " "),
      heartbeat: `${formatDuration(heartbeatAgeMs)} ago`,
      alive: alive ? "yes" : "no",
    })),
  );
  const notes = [
    ...document.notes,
    ...document.tables.flatMap(({ schema, name, error, notes }) => [
      ...(error ? [`${schema}.${name}: ${error.message}`] : []),
      ...notes.map((note) => `${schema}.${name}: ${note}`),
    ]),
  ];
  if (notes.length > 0) await output.write(`\n${notes.map((note) => `! ${escapeControls(note)}\n`).join("")}`);
}

function tableRow(table: TableStatus) {
  const { rangesDone, rangesTotal, rows, bytes } = table.copy;
  return {
    table: `${table.schema}.${table.name}`,
    mode: table.mode,
    state: table.state,
    copied: copyText(table.mode, rangesDone, rangesTotal),
    rows,
    read: formatSize(bytes),
    changes: table.changes.operations,
    written: table.changes.rows,
    files: table.files.count,
    lag: lagText(table),
    inexact: table.inexactValues,
    error: table.error?.code ?? "",
  };
}

function copyText(mode: TableStatus["mode"], done: number, total: number | null): string {
  if (mode === "stream-only") return "-";
  if (total === null) return "waiting";
  const percent = total === 0 ? 100 : Math.floor((100 * done) / total);
  return `${percent}% (${done}/${total})`;
}

function spilledText({ spilledTransactionCount: count, spilledBytes: bytes }: StreamStatus): string {
  return count === null || bytes === null ? "unknown" : `${count} (${formatSize(bytes)})`;
}

function streamRow(stream: StreamStatus, document: StatusDocument) {
  const worker = document.workers.find(({ id }) => id === stream.worker);
  return {
    stream: stream.name,
    slot: stream.slot,
    state: stream.state,
    worker: worker ? `${worker.host}:${worker.pid}` : "none",
    position: stream.position ?? "none yet",
    lag: lagText(stream),
    open: stream.openTransactionCount ?? "unknown",
    spilled: spilledText(stream),
    "kept WAL": stream.retainedWalBytes === null ? "unknown" : formatSize(stream.retainedWalBytes),
    growth: stream.burnBytesPerSecond === null ? "" : formatRate(stream.burnBytesPerSecond),
    "time left": timeLeftText(stream),
  };
}

function lagText({ lagBytes, lagMs }: Pick<StreamStatus, "lagBytes" | "lagMs">): string {
  return [
    ...(lagBytes === null ? [] : [formatSize(lagBytes)]),
    ...(lagMs === null ? [] : [formatDuration(lagMs)]),
  ].join(", ");
}

/** `no limit`, or how long the kept WAL can go on growing as it does. */
function timeLeftText({ retainedWalBytes, safeWalBytes, walTimeLeftMs, burnBytesPerSecond }: StreamStatus): string {
  if (retainedWalBytes === null) return "";
  if (safeWalBytes === null) return "no limit";
  if (walTimeLeftMs !== null) return formatDuration(walTimeLeftMs);
  return burnBytesPerSecond === null ? "" : "does not grow";
}
