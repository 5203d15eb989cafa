// `pg-flo status`: what is mirrored, how far, how far behind, by whom. Creates nothing, and needs no source: what only
// the source knows is left out when it does not answer.
import { escapeControls } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { readGroup } from "../metadata/groups.ts";
import { readStatus } from "../metadata/status.ts";
import type { Register } from "./context.ts";
import { withConfig } from "./context.ts";
import { type Output, printJson, printTable } from "./output.ts";
import { formatDuration, formatSize } from "./quantity-text.ts";
import { withSession } from "./session.ts";
import { readSourceStatus } from "./source-status.ts";
import { type StatusDocument, type StreamStatus, statusDocument, type TableStatus } from "./status-document.ts";

export const registerStatus: Register = (program, context) => {
  program
    .command("status")
    .description("show tables, streams, lag, workers and files")
    .action(
      withConfig(context, async ({ config, globals, stdout }) => {
        const document = await readDocument(config);
        await (globals.json ? printJson(stdout, document) : printStatus(stdout, document));
      }),
    );
};

async function readDocument(config: Config): Promise<StatusDocument> {
  const name = { group: config.group, what: "status" };
  const { group, status } = await withSession(config.metadata, name, async (client) => ({
    group: await readGroup(client, config.group),
    status: await readStatus(client, config.group),
  }));
  return statusDocument({ group, status, source: await readSourceStatus(config, status), leaseMs: config.leaseMs });
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
    lag: [
      ...(stream.lagBytes === null ? [] : [formatSize(stream.lagBytes)]),
      ...(stream.lagMs === null ? [] : [formatDuration(stream.lagMs)]),
    ].join(", "),
    open: stream.openTransactionCount ?? "unknown",
    spilled: spilledText(stream),
    "kept WAL": stream.retainedWalBytes === null ? "unknown" : formatSize(stream.retainedWalBytes),
  };
}
