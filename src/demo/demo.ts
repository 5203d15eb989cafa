// The demo: a PostgreSQL server of its own, a shop in it, an application at work, and the mirror of it all as files.
// Ends with the proof that both sides are equal. Tells what happens as events; how they look is the caller's.
import type { Client } from "pg";
import type { ConnectionConfig } from "../base/connection-config.ts";
import { PgFloError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Lsn, parseLsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { loadConfig } from "../config/load.ts";
import { readManifest } from "../metadata/status.ts";
import { readTables } from "../metadata/tables.ts";
import { readTypes } from "../postgres/catalog.ts";
import { connect } from "../postgres/connect.ts";
import { rowBatches } from "../query/duckdb.ts";
import { localFiles } from "../query/file-source.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import { openMirror } from "../query/mirror.ts";
import type { MirrorTable } from "../query/mirror-table.ts";
import { openStorage } from "../storage/open.ts";
import { compareTables, type TableComparison } from "../verify/compare.ts";
import type { WorkerFigures } from "../worker/worker-figures.ts";
import { type DemoFolder, prepareFolder, writeDemoConfig, writeViews } from "./demo-folder.ts";
import { startEmbedded } from "./embedded-postgres.ts";
import { resolveBinaries } from "./postgres-binaries.ts";
import { Replication } from "./replication.ts";
import { createShop, sampleQuery, shopTables } from "./shop.ts";
import type { WorkloadCounts } from "./workload.ts";

/** How long the application works on after the copy, with `once`. */
const WORK_AFTER_COPY_MS = 5000;

export interface DemoOptions {
  /** Ends by itself. */
  readonly once: boolean;
  readonly folder: string;
  readonly log: Log;
  readonly onEvent: (event: DemoEvent) => void;
}

export type DemoEvent =
  | { readonly kind: "server"; readonly version: string }
  | { readonly kind: "shop"; readonly tables: number; readonly rows: number }
  /** The worker runs; `figures` are its live ones. */
  | { readonly kind: "replicating"; readonly folder: DemoFolder; readonly figures: () => WorkerFigures | null }
  | { readonly kind: "copied"; readonly rows: number; readonly sizeBytes: number }
  /** Each second. */
  | { readonly kind: "tick"; readonly figures: DemoFigures }
  | { readonly kind: "stopping" }
  | { readonly kind: "caught up"; readonly counts: WorkloadCounts; readonly changes: number; readonly position: Lsn }
  | { readonly kind: "comparing"; readonly schema: string; readonly name: string };

export interface DemoFigures {
  readonly transactions: number;
  readonly changes: number;
  readonly lagMs: number;
  readonly files: { readonly count: number; readonly sizeBytes: number };
}

export interface DemoResult {
  /** Every table, and the answer to the query. */
  readonly equal: boolean;
  readonly tables: readonly TableComparison[];
  readonly folder: DemoFolder;
  readonly files: { readonly count: number; readonly sizeBytes: number };
  /** Null when files could not be read. */
  readonly query: DemoQuery | null;
}

export interface DemoQuery {
  readonly sql: string;
  /** From the mirror, all values as text. */
  readonly rows: readonly Readonly<Record<string, string | null>>[];
  /** The source gave the same answer. */
  readonly equal: boolean;
}

/** Runs until the proof; without `once` the application works until the signal. Leaves the folder, and nothing else. */
export async function runDemo(options: DemoOptions, signal: AbortSignal): Promise<DemoResult> {
  const { onEvent } = options;
  const folder = await prepareFolder(options.folder);
  // Nothing waits for the disk: the cluster never outlives the demo.
  const settings = { fsync: "off", full_page_writes: "off" };
  await using server = await startEmbedded({ binaries: await resolveBinaries(), settings });
  await using source = await openSource(server.config());
  onEvent({ kind: "server", version: await oneValue(source.client, "show server_version") });
  await createShop(server.config());
  const counted = shopTables.map(({ schema, name }) => `select from "${schema}"."${name.replaceAll('"', '""')}"`);
  const rows = await oneValue(source.client, `select count(*) from (${counted.join(" union all ")}) shop`);
  onEvent({ kind: "shop", tables: shopTables.length, rows: Number(rows) });
  await writeDemoConfig(folder, server.config());
  const config = loadConfig(folder.config, {});
  await replicate({ ...options, folder, config, client: source.client }, signal);
  return await prove(options, folder, config, source.client);
}

interface OpenSource extends AsyncDisposable {
  readonly client: Client;
}

async function openSource(config: ConnectionConfig): Promise<OpenSource> {
  const client = await connect(config, { applicationName: "pg-flo demo" });
  return { client, [Symbol.asyncDispose]: () => client.end() };
}

type Replicating = Omit<DemoOptions, "folder"> & {
  readonly folder: DemoFolder;
  readonly config: Config;
  readonly client: Client;
};

/** From an empty folder to the moment when everything that the application committed is durable. */
async function replicate(options: Replicating, signal: AbortSignal): Promise<void> {
  const { once, client, config, folder, onEvent, log } = options;
  await using replication = new Replication(config, log);
  await using watcher = await openSource(config.source);
  onEvent({ kind: "replicating", folder, figures: () => replication.figures });
  const ticks = new Ticks(async () => {
    const files = replication.figures ? await countFiles(watcher.client, config.group) : { count: 0, sizeBytes: 0 };
    onEvent({ kind: "tick", figures: { ...replication.counted(), files } });
  });
  try {
    await replication.until(async () => replication.figures !== null && (await isCopied(client, config.group)));
    const { rowCount, sizeBytes } = replication.figures!.copy;
    onEvent({ kind: "copied", rows: rowCount, sizeBytes });
    await replication.goOn(once ? WORK_AFTER_COPY_MS : Number.POSITIVE_INFINITY, signal);
  } finally {
    await ticks.stop();
  }
  onEvent({ kind: "stopping" });
  const counts = await replication.stopWorkload();
  // A mark in the log after the last commit: when that is reached, everything is durable.
  const mark = parseLsn(await oneValue(client, "select pg_logical_emit_message(true, 'pg_flo', '')"));
  const { position, changes } = await replication.finish(mark);
  onEvent({ kind: "caught up", counts, changes, position });
}

async function isCopied(client: Client, group: string): Promise<boolean> {
  const tables = await readTables(client, group);
  // One that changed during its copy (the application truncates) begins it anew by itself.
  const failed = tables.find(({ error }) => error !== null && error.code !== "TABLE_CHANGED");
  if (failed)
    throw new PgFloError("TABLE_FAILED", `${failed.schema}.${failed.name}, stopped: ${failed.error?.message}`);
  return tables.length > 0 && tables.every(({ state }) => !["pending", "copying", "error"].includes(state));
}

/** Does something each second, one at a time. */
class Ticks {
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> = Promise.resolve();
  #busy = false;

  constructor(tick: () => Promise<void>) {
    this.#timer = setInterval(() => {
      if (this.#busy) return;
      this.#busy = true;
      this.#running = tick().finally(() => {
        this.#busy = false;
      });
      this.#running.catch(() => clearInterval(this.#timer)); // `stop` throws it
    }, 1000);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }
}

async function prove(
  { onEvent }: DemoOptions,
  folder: DemoFolder,
  config: Config,
  client: Client,
): Promise<DemoResult> {
  const manifest = await readManifest(client, config.group);
  const storageRoot = openStorage(config.storage).url;
  const tables = await compareTables({
    source: client,
    manifest,
    storageRoot,
    onTable: ({ schema, name }) => onEvent({ kind: "comparing", schema, name }),
  });
  const mirrored = await manifestTables(manifest, {
    files: localFiles(storageRoot),
    readTypes: () => readTypes(client),
  });
  await writeViews(folder, mirrored);
  // A file that cannot be read would fail the query too, and hide what the comparison found.
  const readable = tables.every(({ problem }) => problem === null);
  const query = readable ? await askBoth(mirrored, client) : null;
  const equal = query?.equal === true && tables.length === shopTables.length && tables.every((table) => table.equal);
  return { equal, tables, folder, files: await countFiles(client, config.group), query };
}

/** The sample query's answer from the mirror, and whether the source gives the same. */
async function askBoth(mirrored: readonly MirrorTable[], client: Client): Promise<DemoQuery> {
  await using mirror = await openMirror(mirrored);
  const answer = await mirror.query(sampleQuery, (sql) => `SELECT COLUMNS(*)::VARCHAR FROM ${sql}`);
  const names = answer.columnNames();
  const rows: (string | null)[][] = [];
  for await (const batch of rowBatches(answer)) rows.push(...(batch as (string | null)[][]));
  const asked = await client.query<(string | null)[]>({ text: sampleQuery, rowMode: "array" });
  return {
    sql: sampleQuery,
    rows: rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at]!]))),
    equal: JSON.stringify(rows) === JSON.stringify(asked.rows),
  };
}

async function countFiles(client: Client, group: string): Promise<DemoResult["files"]> {
  const { rows } = await client.query<{ count: string; bytes: string }>(
    "select count(*), coalesce(sum(size_bytes), 0) as bytes from _pg_flo.files where group_name = $1",
    [group],
  );
  return { count: Number(rows[0]?.count), sizeBytes: Number(rows[0]?.bytes) };
}

async function oneValue(client: Client, sql: string): Promise<string> {
  const { rows } = await client.query<[string]>({ text: sql, rowMode: "array" });
  return rows[0]![0];
}
