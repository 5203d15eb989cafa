// The status of a group as `--json` shows it, a public contract (docs/cli.md): made of the metadata and of what the
// source says. Pure. Positions are LSNs in Postgres's notation, times ISO 8601, sizes bytes.
import { hostname } from "node:os";
import type { PgFloError } from "../base/errors.ts";
import { formatLsn, type Lsn } from "../base/lsn.ts";
import type { WalBudgetConfig } from "../config/config.ts";
import type { Group } from "../metadata/groups.ts";
import type { GroupStatus } from "../metadata/status.ts";
import type { Stream } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import type { TableVerification } from "../metadata/verifications.ts";
import type { WorkerInfo } from "../metadata/workers.ts";
import { quotedName } from "../postgres/selection.ts";
import type { SlotState } from "../postgres/slot.ts";
import type { WalBudget } from "../postgres/wal-budget.ts";
import { capacityNote } from "../worker/capacity.ts";
import { levelText } from "../worker/wal-guard.ts";
import { nextLevel } from "../worker/wal-level.ts";
import { isBlind, type SourceStatus, type UnseenChanges } from "./source-status.ts";
import { property, streamFigure, tableLag } from "./told-figures.ts";

export interface StatusDocument {
  readonly group: string;
  readonly position: string | null;
  readonly tables: readonly TableStatus[];
  readonly streams: readonly StreamStatus[];
  readonly workers: readonly WorkerStatus[];
  /** Streams without a living worker, and ranges that no worker copies yet. */
  readonly waiting: { readonly streams: number; readonly ranges: number };
  readonly files: { readonly count: number; readonly bytes: number };
  readonly storage: string;
  /** Where the source's log ends; null when the source does not answer. */
  readonly sourcePosition: string | null;
  /** What a person should know, the most urgent first. */
  readonly notes: readonly string[];
  /** The newest, newest first. */
  readonly events: GroupStatus["events"];
}

export interface TableStatus {
  readonly schema: string;
  readonly name: string;
  readonly mode: Table["mode"];
  readonly state: Table["state"];
  /** The name of its stream; null for copy-only tables. */
  readonly stream: string | null;
  readonly copy: {
    readonly rangesDone: number;
    readonly rangesTotal: number | null;
    readonly rows: number;
    readonly bytes: number;
  };
  /** `operations`: changes as the log had them, `rows`: what they were brought together to. */
  readonly changes: { readonly operations: number; readonly rows: number; readonly files: number };
  readonly files: { readonly count: number; readonly bytes: number };
  /** Changes up to it are folded into the copy files; null: none are. */
  readonly historyFrom: string | null;
  /** How far its files may be behind: log that may hold changes of it, and the age of its oldest change that is read and not durable. Null unless it streams and a worker lives. */
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  readonly inexactValues: number;
  readonly inexactColumns: Table["inexactColumns"];
  readonly error: Table["error"];
  /** Its newest comparison with the source; null when there was none. */
  readonly verified: {
    readonly at: Date;
    readonly lsn: string;
    readonly result: TableVerification["result"];
    readonly differingRows: number | null;
    readonly reason: string | null;
  } | null;
  /** Updates and deletes that the mirror lacks; null when all are seen, or when the source does not answer. */
  readonly unseen: UnseenChanges | null;
  readonly notes: readonly string[];
}

export interface StreamStatus {
  readonly name: string;
  readonly slot: string;
  readonly state: Stream["state"];
  /** The id of the worker that reads it; null when no living one does. */
  readonly worker: string | null;
  readonly position: string | null;
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  readonly retainedWalBytes: number | null;
  /** WAL that may still be written before the slot is lost; null when unlimited or unknown. */
  readonly safeWalBytes: number | null;
  /** Written by the source, and the growth of what it keeps for the slot (below 0 when that shrinks); per second. */
  readonly walBytesPerSecond: number | null;
  readonly burnBytesPerSecond: number | null;
  /** Until the slot is lost if it goes on like this; null when it does not grow, has no limit, or is not known. */
  readonly walTimeLeftMs: number | null;
  /** Of its worker, as it said last; null when no living one reads it. Transactions that the server sends while they run, and those that were too large for memory since the worker began. */
  readonly openTransactionCount: number | null;
  readonly spilledTransactionCount: number | null;
  readonly spilledBytes: number | null;
}

export interface WorkerStatus {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly startedAt: Date;
  readonly heartbeatAt: Date;
  readonly heartbeatAgeMs: number;
  readonly alive: boolean;
  readonly figures: unknown;
}

export interface StatusParts {
  readonly group: Group;
  readonly status: GroupStatus;
  /** The error tells why the source does not answer. */
  readonly source: SourceStatus | PgFloError;
  readonly leaseMs: number;
  readonly walBudget: WalBudgetConfig;
}

export function statusDocument({ group, status, source, leaseMs, walBudget }: StatusParts): StatusDocument {
  const answer = "walPosition" in source ? source : null;
  const workers = status.workers.map((worker) => workerStatus(worker, leaseMs));
  const streams = status.streams.map((stream) => streamStatus(stream, workers, answer));
  return {
    group: status.group,
    position: positionText(status.position),
    tables: status.tables.map((table) => {
      const lag = tableLag(table, status.streams, workers, answer);
      return tableStatus(
        table,
        answer,
        lag,
        status.reading.get(table.tableId),
        status.verifications.get(table.tableId),
      );
    }),
    streams,
    workers,
    files: { count: status.files.count, bytes: status.files.sizeBytes },
    waiting: status.waiting,
    storage: group.storageUrl,
    sourcePosition: answer && formatLsn(answer.walPosition),
    notes: [
      ...(answer ? status.streams.flatMap((stream) => slotNotes(stream, answer.slots.get(stream.slotName))) : []),
      ...(answer ? [...answer.budgets].flatMap((budget) => budgetNotes(budget, walBudget)) : []),
      ...("walPosition" in source ? [] : [`the source does not answer, lag is not known: ${source.description}`]),
      ...tablesNotes(status.tables),
      ...capacityNotes(status.waiting, workers),
      ...differenceNotes(status),
      ...(workers.some(({ alive }) => alive) ? [] : ["no worker runs: start one with pg-flo replicate"]),
    ],
    events: status.events,
  };
}

/** The name of a stream for people: `app_1`. */
export function streamName(group: string, stream: number): string {
  return `${group}_${stream}`;
}

function tableStatus(
  table: Table,
  source: SourceStatus | null,
  lag: Pick<TableStatus, "lagBytes" | "lagMs">,
  reading: { readonly rows: number; readonly bytes: number } | undefined,
  verification: TableVerification | undefined,
): TableStatus {
  const unseen = source?.unseen.get(table.tableId) ?? null;
  return {
    schema: table.schema,
    name: table.name,
    mode: table.mode,
    state: table.state,
    stream: table.stream === null ? null : streamName(table.group, table.stream),
    copy: {
      rangesDone: table.rangesDone,
      rangesTotal: table.rangesTotal,
      rows: table.copyRows + (reading?.rows ?? 0),
      bytes: table.copyBytes + (reading?.bytes ?? 0),
    },
    changes: { operations: table.changeOperations, rows: table.changeRows, files: table.changeFiles },
    files: { count: table.fileCount, bytes: table.fileBytes },
    historyFrom: table.baseLsn === null ? null : formatLsn(table.baseLsn),
    ...lag,
    inexactValues: table.inexactValues,
    inexactColumns: table.inexactColumns,
    error: table.error,
    verified: verifiedStatus(verification),
    unseen,
    notes: tableNotes(table, unseen, source?.countedSince ?? null),
  };
}

function verifiedStatus(found: TableVerification | undefined): TableStatus["verified"] {
  if (!found) return null;
  const { verifiedAt: at, lsn, result, differingRows, reason } = found;
  return { at, lsn: formatLsn(lsn), result, differingRows, reason };
}

function tableNotes(table: Table, unseen: UnseenChanges | null, since: Date | null): string[] {
  const notes: string[] = [];
  if (isBlind(table)) {
    const from = since === null ? "since its statistics began" : `since ${since.toISOString()}`;
    const counted =
      unseen === null
        ? "how many happened is not known, the source does not answer"
        : `the source counts ${unseen.updates} updates and ${unseen.deletes} deletes ${from}`;
    const name = quotedName(table);
    notes.push(
      `it has no replica identity, so its updates and deletes cannot be seen; ${counted}; ` +
        `fix: ALTER TABLE ${name} ADD PRIMARY KEY (…); or ALTER TABLE ${name} REPLICA IDENTITY FULL;`,
    );
  }
  if (table.state === "paused") {
    notes.push("paused: its files stay, its changes are dropped; pg-flo resume copies it again");
  }
  if (table.retryAt !== null)
    notes.push(`tried again by itself at ${table.retryAt.toISOString()}, or now by pg-flo resync`);
  if (table.state === "removed") notes.push("the config no longer names it: its files stay, nothing is added");
  if (table.inexactValues > 0) {
    const columns = Object.entries(table.inexactColumns).map(([name, count]) => `${name} (${count})`);
    const which = columns.length === 0 ? "" : `: ${columns.join(", ")}`;
    notes.push(`${table.inexactValues} values do not fit their column, their exact text is in _pg_flo_exact${which}`);
  }
  return notes;
}

function streamStatus(stream: Stream, workers: readonly WorkerStatus[], source: SourceStatus | null): StreamStatus {
  const slot = source?.slots.get(stream.slotName);
  const existing = slot?.exists ? slot : null;
  const owner = workers.find(({ id, alive }) => alive && id === stream.owner);
  const behind = source && stream.position !== null ? source.walPosition - stream.position : null;
  const figure = (name: string) => (owner ? streamFigure(owner.figures, stream.stream, name) : null);
  const budget = source?.budgets.get(stream.slotName);
  return {
    name: streamName(stream.group, stream.stream),
    slot: stream.slotName,
    state: stream.state,
    worker: owner?.id ?? null,
    position: positionText(stream.position),
    lagBytes: behind === null ? null : Math.max(0, Number(behind)),
    lagMs: figure("lagMs"),
    retainedWalBytes: existing?.retainedBytes ?? null,
    safeWalBytes: existing?.safeBytes ?? null,
    walBytesPerSecond: figure("walBytesPerSecond") ?? budget?.writtenBytesPerSecond ?? null,
    burnBytesPerSecond: figure("burnBytesPerSecond") ?? budget?.growthBytesPerSecond ?? null,
    walTimeLeftMs: figure("walTimeLeftMs") ?? budget?.timeLeftMs ?? null,
    openTransactionCount: figure("openTransactions"),
    spilledTransactionCount: figure("spilledTransactions"),
    spilledBytes: figure("spilledBytes"),
  };
}

function slotNotes(stream: Stream, slot: SlotState | undefined): string[] {
  const subject = `replication slot ${stream.slotName}`;
  const again = "run pg-flo replicate --resync";
  if (slot === undefined) return [];
  if (!slot.exists) return stream.state === "creating" ? [] : [`${subject} does not exist any more: ${again}`];
  if (slot.invalidationReason !== null) {
    return [`${subject} was invalidated (${slot.invalidationReason}): raise max_slot_wal_keep_size, then ${again}`];
  }
  if (slot.walStatus === "unreserved") return [`${subject} is about to be lost: start pg-flo replicate now`];
  return [];
}

function budgetNotes([slot, budget]: readonly [string, WalBudget], config: WalBudgetConfig): string[] {
  const level = nextLevel(null, budget, config);
  return level.name === "ok" ? [] : [`replication slot ${slot} ${levelText(level, budget)}`];
}

function differenceNotes({ tables, verifications }: GroupStatus): string[] {
  return tables.flatMap((table) => {
    const found = verifications.get(table.tableId);
    if (found?.result !== "different") return [];
    const at = found.verifiedAt.toISOString();
    return [`${table.schema}.${table.name} differed from the source at ${at}: run pg-flo verify --repair`];
  });
}

function tablesNotes(tables: readonly Table[]): string[] {
  const failed = tables.filter(({ state }) => state === "error");
  if (failed.length === 0) return [];
  const names = failed.map(({ schema, name }) => `${schema}.${name}`).join(", ");
  return [`${failed.length} ${failed.length === 1 ? "table" : "tables"} stopped with an error: ${names}`];
}

function capacityNotes(waiting: GroupStatus["waiting"], workers: readonly WorkerStatus[]): string[] {
  const alive = workers.filter((worker) => worker.alive);
  const full = alive.every(({ figures }) => {
    const copy = property(figures, "copy");
    const [running, parallel] = [property(copy, "running"), property(copy, "parallel")];
    return typeof running === "number" && typeof parallel === "number" && running >= parallel;
  });
  const note = capacityNote(waiting, alive.length, full);
  return note === null ? [] : [note];
}

function workerStatus(worker: WorkerInfo, leaseMs: number): WorkerStatus {
  return {
    id: worker.workerId,
    host: worker.host,
    pid: worker.pid,
    startedAt: worker.startedAt,
    heartbeatAt: worker.heartbeatAt,
    heartbeatAgeMs: Math.round(worker.heartbeatAgeMs),
    alive: isAlive(worker, leaseMs),
    figures: worker.figures,
  };
}

/** Its lease has not run out, and it is not a process of this host that is gone. */
export function isAlive(worker: WorkerInfo, leaseMs: number): boolean {
  if (worker.heartbeatAgeMs > leaseMs) return false;
  if (worker.host !== hostname()) return true;
  try {
    process.kill(worker.pid, 0); // sends nothing
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"; // it lives, and belongs to another user
  }
}

function positionText(position: Lsn | null): string | null {
  return position === null ? null : formatLsn(position);
}
