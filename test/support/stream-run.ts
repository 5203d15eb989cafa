// A Stream on a real slot whose commits are kept in memory: what became durable, in order, and read back from its files.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ConnectionConfig } from "../../src/base/connection-config.ts";
import { PgFloError } from "../../src/base/errors.ts";
import { silentLog } from "../../src/base/log.ts";
import { LSN_ZERO, type Lsn } from "../../src/base/lsn.ts";
import { readTables, readTypes } from "../../src/postgres/catalog.ts";
import { openReplication, type ReplicationConnection } from "../../src/postgres/replication.ts";
import { endSlotSession } from "../../src/postgres/sessions.ts";
import { openLocalStorage } from "../../src/storage/local.ts";
import type { Storage } from "../../src/storage/storage.ts";
import type { FinishedFile } from "../../src/stream/batch.ts";
import { Stream } from "../../src/stream/stream.ts";
import type { StreamCommits, TakenCut } from "../../src/stream/stream-options.ts";
import { type StreamProgress, startProgress } from "../../src/stream/stream-state.ts";
import type { StreamTable, TableCut } from "../../src/stream/stream-table.ts";
import { planColumns } from "../../src/types/registry.ts";
import { makeTestFolder } from "./folder.ts";
import { type Columns, parquetScan, queryDuckdb } from "./parquet-readers.ts";
import { connectTo, type TestDatabase } from "./postgres.ts";
import { applyNetRows, type NetRow, type TableState, type Tuple, UNCHANGED } from "./stream-log.ts";

export interface CommittedBatch {
  readonly number: bigint;
  readonly position: Lsn;
  readonly files: readonly FinishedFile[];
  readonly cut: TakenCut | null;
}

export interface RunOptions {
  readonly binary?: boolean;
  readonly flushIntervalMs?: number;
  readonly fileSizeBytes?: number;
  readonly memoryBytes?: number;
  readonly spillFolder?: string;
  readonly storage?: Storage;
  /** Before a batch is recorded; throws in its place. */
  readonly beforeCommit?: (batch: CommittedBatch) => Promise<void>;
  /** After it was recorded: a reply that is lost. */
  readonly afterCommit?: (batch: CommittedBatch) => Promise<void>;
}

export interface StreamRun {
  readonly stream: Stream;
  readonly connection: ReplicationConnection;
  readonly progress: StreamProgress;
  /** Settles as `Stream.run`. */
  readonly ended: Promise<void>;
  stop(): void;
}

const SLOT = "test_stream";
const APPLICATION = "test stream";
export const PUBLICATION = "test_all";
export const INSERT_PUBLICATION = "test_insert";

export class StreamLog implements AsyncDisposable {
  readonly folder: string;
  readonly storage: Storage;
  readonly batches: CommittedBatch[] = [];
  readonly failedTables: [table: string, reason: string][] = [];
  tables: Map<number, StreamTable> = new Map();
  position: Lsn = LSN_ZERO;
  readonly #config: ConnectionConfig;
  readonly #dispose: () => Promise<void>;
  #epoch = 0n;

  private constructor(config: ConnectionConfig, folder: string, dispose: () => Promise<void>) {
    this.#config = config;
    this.folder = folder;
    this.storage = openLocalStorage(folder);
    this.#dispose = dispose;
  }

  /** Makes the slot. The publications are the test's, and the tables' cut is the slot's start unless given. */
  static async create(database: TestDatabase, cuts: Readonly<Record<string, TableCut>> = {}): Promise<StreamLog> {
    const folder = await makeTestFolder();
    const log = new StreamLog(database.config, folder.path, async () => folder[Symbol.asyncDispose]());
    const replication = await openReplication(database.config, { applicationName: "test slot" });
    log.position = (await replication.createSlot(SLOT, { temporary: false, snapshot: "nothing" })).consistentPoint;
    await replication.close();
    const types = await readTypes(database.client);
    for (const [index, { oid, schema, name, identity, columns }] of (await readTables(database.client)).entries()) {
      const base = { tableId: index + 1, generation: 1, schemaVersion: 1, oid, schema, name, identity };
      const known = { columns: planColumns(columns, types), cut: cuts[name] ?? log.position };
      log.tables.set(oid, { ...base, ...known, ...{ wants: () => true } });
    }
    return log;
  }

  /** Starts where the last batch ended. */
  async start(options: RunOptions = {}): Promise<StreamRun> {
    await this.#endRunBefore();
    const connection = await openReplication(this.#config, { applicationName: APPLICATION });
    const progress = startProgress(this.position);
    const stream = new Stream(connection, {
      group: "app",
      stream: 1,
      epoch: ++this.#epoch,
      slot: SLOT,
      publications: [PUBLICATION, INSERT_PUBLICATION],
      position: this.position,
      batch: this.batches.at(-1)?.number ?? 0n,
      tables: this.tables,
      binary: options.binary ?? true,
      storage: options.storage ?? this.storage,
      flushIntervalMs: options.flushIntervalMs ?? 20,
      fileSizeBytes: options.fileSizeBytes ?? 1_000_000,
      compression: "zstd",
      memoryBytes: options.memoryBytes ?? 128_000_000,
      spillFolder: options.spillFolder ?? tmpdir(),
      commits: this.#commits(options),
      progress,
      log: silentLog,
    });
    const abort = new AbortController();
    const ended = stream.run(abort.signal);
    ended.catch(() => {}); // the test awaits it later
    return { stream, connection, progress, ended, stop: () => abort.abort() };
  }

  /** Runs until the position is there, over errors that ask for another try. */
  async reach(target: Lsn, options: RunOptions = {}): Promise<void> {
    while (this.position < target) {
      const run = await this.start(options);
      const poll = setInterval(() => {
        if (this.position >= target) run.stop();
        else run.stream.flush();
      }, 10);
      try {
        await run.ended;
      } catch (error) {
        if (!(error instanceof PgFloError) || error.action !== "retry") throw error;
      } finally {
        clearInterval(poll);
      }
    }
  }

  /** Every row of a batch, by table. */
  async rows(batch: CommittedBatch): Promise<Map<StreamTable, LoggedRow[]>> {
    const rows = new Map<StreamTable, LoggedRow[]>();
    for (const { table, path } of batch.files) {
      const read = loggedRows(table, await queryDuckdb(`select * from ${parquetScan(join(this.folder, path))}`));
      rows.set(table, [...(rows.get(table) ?? []), ...read]);
    }
    return rows;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#dispose();
  }

  /** As a worker does: the server may not have noticed yet that a connection was destroyed. */
  async #endRunBefore(): Promise<void> {
    const client = await connectTo(this.#config);
    try {
      await endSlotSession(client, SLOT, [APPLICATION]);
    } finally {
      await client.end();
    }
  }

  #commits({ beforeCommit, afterCommit }: RunOptions): StreamCommits {
    return {
      batch: async (number, position, files, cut) => {
        const batch = { number, position, files, cut };
        await beforeCommit?.(batch);
        assert.equal(number, (this.batches.at(-1)?.number ?? 0n) + 1n, "batches come in order");
        assert.ok(position >= this.position, "the position never goes back");
        this.batches.push(batch);
        this.position = position;
        await afterCommit?.(batch);
      },
      position: async (number, position) => {
        assert.equal(number, this.batches.at(-1)?.number ?? 0n);
        assert.ok(position >= this.position, "the position never goes back");
        this.position = position;
      },
      tableFailed: async (table, error) => {
        this.failedTables.push([table.name, error.description.replace(/^table [^,]*, definition, /, "")]);
      },
    };
  }
}

export interface LoggedRow extends NetRow {
  readonly lsn: bigint;
  readonly xid: string;
}

function loggedRows(table: StreamTable, file: Columns): LoggedRow[] {
  const column = new Map(file.map(({ name, values }) => [name, values]));
  return file[0]!.values.map((_, at) => {
    const own = (name: string): string => column.get(`_pg_flo_${name}`)![at] as string;
    const unchanged = column.get("_pg_flo_unchanged")![at] as readonly string[] | null;
    const operation = own("operation") as NetRow["operation"];
    const row: Tuple = table.columns.map(({ source, fileName }) =>
      unchanged?.includes(source.name) ? UNCHANGED : (column.get(fileName)![at] as string | null),
    );
    const old: Tuple = table.columns.map(({ fileName }) => (column.get(`_old_${fileName}`)?.[at] as string) ?? null);
    return {
      table,
      operation,
      row: operation === "INSERT" || operation === "UPDATE" ? row : null,
      old: old.every((cell) => cell === null) ? null : old,
      sequence: Number(own("sequence")),
      lsn: BigInt(own("lsn")),
      xid: own("xid"),
    };
  });
}

/** Applies a batch's rows for one table, transaction by transaction. */
export function applyBatch(table: StreamTable, state: TableState, rows: readonly LoggedRow[]): TableState {
  const transactions = Map.groupBy(rows, ({ lsn }) => lsn);
  const order = [...transactions.keys()].sort((a, b) => (a < b ? -1 : 1));
  return order.reduce((current, lsn) => applyNetRows(table, current, transactions.get(lsn)!), state);
}
