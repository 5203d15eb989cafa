// Random transactions on a model of five tables, written to files by our own batches, then merged and folded at random: at
// every position that is kept the views' rows are the model's.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import fc from "fast-check";
import { makeTestFolder } from "../../test/support/folder.ts";
import { feed, lsnOf, message } from "../../test/support/stream-log.ts";
import { type Row, Server, type Statement, statement, tables } from "../../test/support/stream-model.ts";
import { compressions } from "../base/compression.ts";
import type { Lsn } from "../base/lsn.ts";
import type { CompactedFile } from "../metadata/compactions.ts";
import type { ManifestFile } from "../metadata/files.ts";
import type { Manifest, ManifestTable } from "../metadata/status.ts";
import { openDuckDB } from "../query/duckdb.ts";
import { localFiles } from "../query/file-source.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import { stateSql } from "../query/state-sql.ts";
import { openLocalStorage } from "../storage/local.ts";
import { baseFilePath, mergedFilePath } from "../storage/paths.ts";
import type { Storage } from "../storage/storage.ts";
import { Batch } from "../stream/batch.ts";
import { ChangeReader } from "../stream/change-reader.ts";
import { Consolidator } from "../stream/consolidate.ts";
import type { StreamTable } from "../stream/stream-table.ts";
import { foldTable } from "./fold-table.ts";
import { mergeRun } from "./merge-run.ts";
import { foldPlan, mergeRuns } from "./plan.ts";

interface Written {
  readonly files: Map<StreamTable, ManifestFile[]>;
  /** Sorted rows after each transaction, by its LSN. */
  readonly states: Map<Lsn, ReadonlyMap<StreamTable, readonly string[]>>;
  /** The end of each batch. */
  readonly batchEnds: Lsn[];
}

/** Each inner array is a transaction; `sizes`: transactions of each batch, over and over. */
async function writeHistory(
  storage: Storage,
  transactions: readonly (readonly Statement[])[],
  sizes: readonly number[],
): Promise<Written> {
  const server = new Server();
  const consolidator = new Consolidator();
  let batch: Batch | null = null;
  const reader = new ChangeReader(new Map(tables.map((table) => [table.oid, table])), lsnOf(0), {
    committed: ({ store, commitLsn, xid, commitTimeUs }) => {
      batch!.beginTransaction(commitLsn, xid, commitTimeUs);
      consolidator.consolidate(store, batch!);
    },
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  const written: Written = { files: new Map(tables.map((table) => [table, []])), states: new Map(), batchEnds: [] };
  for (let next = 0, number = 1; next < transactions.length; number++) {
    const name = `1-1-${String(number).padStart(8, "0")}`;
    const compression = compressions[number % compressions.length]!;
    batch = new Batch({ group: "app", name, storage, fileSizeBytes: 1 << 30, compression });
    const end = Math.min(transactions.length, next + sizes[number % sizes.length]!);
    let at = lsnOf(0);
    for (; next < end; next++) {
      at = lsnOf(1000 + next * 16);
      server.log.push(message.begin(at));
      for (const each of transactions[next]!) server.run(each);
      server.log.push(message.commit(at));
      feed(reader, server.log.splice(0));
      written.states.set(at, new Map([...server.rows].map(([table, rows]) => [table, rows.map(rowText).sort()])));
    }
    written.batchEnds.push(at);
    await batch.encodePending(reader.arena);
    for (const { table, inexact: _, ...file } of await batch.finish()) {
      const facts = { kind: "stream", stream: 1, batchId: BigInt(number), schemaVersion: 1 } as const;
      const own = written.files.get(table)!;
      own.push({ ...facts, ...file, fileId: number * 10 + own.length, createdAt: new Date(number * 1000) });
    }
    reader.releaseCommitted();
  }
  return written;
}

const rowText = ({ v, id, big, part }: Row) => JSON.stringify([v, id, big, part]);

function manifestOf(table: StreamTable, files: readonly ManifestFile[], cutLsn: Lsn, position: Lsn): Manifest {
  const columns = table.columns.map(({ source, fileName }) => ({ ...source, fileName }));
  const { schema, name, identity } = table;
  const stored = { schema, name, identity, columns, cutLsn, baseLsn: null, stream: 1, state: "streaming" };
  const entry = { table: stored, versions: new Map([[1, columns]]), position, files } as unknown as ManifestTable;
  return { group: "app", storageUrl: "", tables: [entry] };
}

class Table {
  files: ManifestFile[];
  cut = lsnOf(0);
  readonly #table: StreamTable;
  readonly #written: Written;
  readonly #folder: string;
  readonly #storage: Storage;
  readonly #position: Lsn;
  #number = 1;
  #fileId = 1000;

  constructor(table: StreamTable, written: Written, folder: string, storage: Storage) {
    this.#table = table;
    this.#written = written;
    this.#folder = folder;
    this.#storage = storage;
    this.#position = [...written.states.keys()].at(-1)!;
    this.files = written.files.get(table)!;
  }

  async merge(filesMin: number): Promise<void> {
    const limits = { smallBytes: 1e6, fileBytes: 1e7, filesMin };
    for (const run of mergeRuns(this.files, limits)) {
      const pathOf = ({ path }: ManifestFile) => mergedFilePath(path, 7n, this.#number++);
      for await (const merge of mergeRun({
        storage: this.#storage,
        compression: "snappy",
        run,
        pathOf,
        signal: neverAborted,
      })) {
        this.#exchange(merge.removed, merge.added);
      }
    }
  }

  async fold(before: Date): Promise<Lsn | null> {
    const plan = foldPlan(this.files, before);
    if (plan === null) return null;
    return this.foldTo(plan);
  }

  async foldTo(plan: NonNullable<ReturnType<typeof foldPlan>>): Promise<Lsn> {
    const manifest = manifestOf(this.#table, this.files, this.cut, this.#position);
    const fold = await foldTable({
      ...{ manifest, entry: manifest.tables[0]!, plan, storage: this.#storage, fileBytes: 1e6, compression: "snappy" },
      storageConfig: { kind: "local", root: this.#folder },
      pathOf: () => baseFilePath("app", this.#table.schema, this.#table.name, 7n, this.#number++),
      temporaryFolder: this.#folder,
      signal: neverAborted,
    });
    this.#exchange(fold!.removed, fold!.added);
    this.cut = lsnOf(Number(fold!.base) + 1);
    return fold!.base;
  }

  async check(from: Lsn): Promise<void> {
    const manifest = manifestOf(this.#table, this.files, this.cut, this.#position);
    const [mirror] = await manifestTables(manifest, { files: localFiles(this.#folder), readTypes: async () => null });
    const duckdb = await openDuckDB({ threads: "1" });
    try {
      for (const [at, rows] of this.#written.states) {
        if (at < from) continue;
        const reader = await duckdb.connection.runAndReadAll(
          `SELECT v, id, big, part FROM (${stateSql(mirror!, { at })})`,
        );
        const found = reader.getRows().map((row) => JSON.stringify(row));
        assert.deepEqual(found.sort(), rows.get(this.#table), `table ${this.#table.oid} at ${at}, cut ${this.cut}`);
      }
    } finally {
      duckdb.close();
    }
  }

  #exchange(removed: readonly ManifestFile[], added: readonly CompactedFile[]): void {
    const gone = new Set(removed);
    assert.ok(removed.every((file) => this.files.includes(file)));
    this.files = this.files.filter((file) => !gone.has(file));
    this.files.push(...added.map((file) => ({ ...file, fileId: this.#fileId++ })));
  }
}

const neverAborted = new AbortController().signal;

test("a signal ends a fold with its reason, and nothing is left of it", async () => {
  await using folder = await makeTestFolder();
  const storage = openLocalStorage(folder.path);
  const statements = fc.sample(history, { numRuns: 1, seed: 7 })[0]!;
  const written = await writeHistory(storage, statements, [1]);
  const [streamTable, files] = [...written.files].find(([, own]) => own.length > 1)!;
  const manifest = manifestOf(streamTable, files, lsnOf(0), written.batchEnds.at(-1)!);
  for (const waits of [false, true]) {
    const stop = new AbortController();
    const reason = new Error("stopped by the test");
    if (!waits) stop.abort(reason);
    const fold = foldTable({
      ...{
        manifest,
        entry: manifest.tables[0]!,
        storage,
        fileBytes: 1e6,
        compression: "zstd",
        temporaryFolder: folder.path,
      },
      plan: { base: files.at(-1)!.lsnEnd, files, spanning: [] },
      storageConfig: { kind: "local", root: folder.path },
      pathOf: () => assert.fail("a file was begun"),
      signal: stop.signal,
    });
    setImmediate(() => stop.abort(reason));
    await assert.rejects(fold, (error) => error === reason);
  }
  assert.deepEqual(await readdir(folder.path), ["app"]);
});

const history = fc.array(fc.array(statement, { minLength: 1, maxLength: 8 }), { minLength: 4, maxLength: 14 });
const sizes = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 });
const runs = Number(process.env.PG_FLO_RUNS ?? 3);

test("merged, folded, folded again and merged: the rows at every position that is kept", async () => {
  await fc.assert(
    fc.asyncProperty(history, sizes, fc.nat(100), async (transactions, batchSizes, dice) => {
      await using folder = await makeTestFolder();
      const storage = openLocalStorage(folder.path);
      const written = await writeHistory(storage, transactions, batchSizes);
      const batches = written.batchEnds.length;
      for (const streamTable of tables) {
        const table = new Table(streamTable, written, folder.path, storage);
        if (table.files.length === 0) continue;
        const first = await table.fold(new Date((1 + (dice % batches)) * 1000));
        await table.check(first ?? lsnOf(0));
        if (dice % 2 === 0) await table.merge(2);
        const second = (await table.fold(new Date((1 + batches / 2 + (dice % batches)) * 1000))) ?? first;
        await table.merge(2);
        await table.check(second ?? lsnOf(0));
      }
    }),
    { numRuns: runs },
  );
});

test("a file with transactions on both sides of the base stays, and none of them counts twice", async () => {
  await fc.assert(
    fc.asyncProperty(history, fc.nat(100), async (transactions, dice) => {
      await using folder = await makeTestFolder();
      const storage = openLocalStorage(folder.path);
      const written = await writeHistory(storage, transactions, [2]);
      for (const streamTable of tables) {
        const table = new Table(streamTable, written, folder.path, storage);
        await table.merge(2);
        const base = [...written.states.keys()][dice % written.states.size]!;
        const files = table.files.filter(({ lsnStart }) => lsnStart <= base);
        if (files.length === 0) continue;
        await table.foldTo({ base, files, spanning: files.filter(({ lsnEnd }) => lsnEnd > base) });
        await table.check(base);
      }
    }),
    { numRuns: runs },
  );
});
