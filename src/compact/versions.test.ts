// A table that was altered: its base has a file for each schema version, and a row of a new one can take a value from a file
// of an old one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { makeTestFolder } from "../../test/support/folder.ts";
import { feed, lsnOf, message, relationOf, type Tuple, textTable, UNCHANGED } from "../../test/support/stream-log.ts";
import type { Lsn } from "../base/lsn.ts";
import type { ManifestFile } from "../metadata/files.ts";
import type { Manifest, ManifestTable } from "../metadata/status.ts";
import { openDuckDB } from "../query/duckdb.ts";
import { localFiles } from "../query/file-source.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import { stateSql } from "../query/state-sql.ts";
import { openLocalStorage } from "../storage/local.ts";
import type { Storage } from "../storage/storage.ts";
import { Batch } from "../stream/batch.ts";
import { ChangeReader } from "../stream/change-reader.ts";
import { Consolidator } from "../stream/consolidate.ts";
import type { StreamTable } from "../stream/stream-table.ts";
import { foldTable } from "./fold-table.ts";
import { foldPlan } from "./plan.ts";

const before = textTable(1, ["id", "big"], { kind: "key", columns: ["id"] });
const after: StreamTable = {
  ...textTable(1, ["id", "big", "extra"], { kind: "key", columns: ["id"] }),
  schemaVersion: 2,
};

async function writeBatch(storage: Storage, table: StreamTable, number: number, changes: number[][]) {
  const batch = new Batch({
    group: "app",
    name: `1-1-${number}`,
    storage,
    fileSizeBytes: 1 << 30,
    compression: "zstd",
  });
  const consolidator = new Consolidator();
  const reader = new ChangeReader(new Map([[table.oid, table]]), lsnOf(0), {
    committed: ({ store, commitLsn, xid, commitTimeUs }) => {
      batch.beginTransaction(commitLsn, xid, commitTimeUs);
      consolidator.consolidate(store, batch);
    },
    reached: () => {},
    halted: ({ reason }) => assert.fail(reason),
  });
  const lsn = BigInt(number * 800);
  feed(reader, [relationOf(table), message.begin(lsn), ...changes, message.commit(lsn)]);
  await batch.encodePending(reader.arena);
  const [{ table: _, inexact: __, ...written } = assert.fail()] = await batch.finish();
  const facts = { kind: "stream", stream: 1, batchId: BigInt(number), schemaVersion: table.schemaVersion } as const;
  return { ...facts, ...written, fileId: number, createdAt: new Date(number * 1000) };
}

function manifestOf(files: readonly ManifestFile[], cutLsn: Lsn): Manifest {
  const columnsOf = ({ columns }: StreamTable) => columns.map(({ source, fileName }) => ({ ...source, fileName }));
  const { schema, name, identity } = after;
  const table = {
    schema,
    name,
    identity,
    columns: columnsOf(after),
    cutLsn,
    baseLsn: null,
    stream: 1,
    state: "streaming",
  };
  const versions = new Map([
    [1, columnsOf(before)],
    [2, columnsOf(after)],
  ]);
  const entry = { table, versions, position: lsnOf(10_000), files } as unknown as ManifestTable;
  return { group: "app", storageUrl: "", tables: [entry] };
}

async function rowsAt(folder: string, manifest: Manifest, at: Lsn): Promise<unknown[]> {
  const [mirror] = await manifestTables(manifest, { files: localFiles(folder), readTypes: async () => null });
  const duckdb = await openDuckDB({ threads: "1" });
  try {
    const reader = await duckdb.connection.runAndReadAll(`${stateSql(mirror!, { at })} ORDER BY id`);
    return reader.getRows();
  } finally {
    duckdb.close();
  }
}

test("rows keep the version that they were written with, and values that the log did not carry their row", async () => {
  await using folder = await makeTestFolder();
  const storage = openLocalStorage(folder.path);
  const inserted = ["1", "2", "3"].map((id): Tuple => [id, `large ${id}`]);
  const files: ManifestFile[] = [
    await writeBatch(
      storage,
      before,
      1,
      inserted.map((row) => message.insert(1, row)),
    ),
    await writeBatch(storage, after, 2, [
      message.insert(1, ["4", "large 4", "x"]),
      message.update(1, ["1", UNCHANGED, "y"]),
      message.update(1, ["20", UNCHANGED, null], { kind: "K", tuple: ["2", null, null] }),
    ]),
    await writeBatch(storage, after, 3, [message.update(1, ["1", UNCHANGED, "later"])]),
  ];
  const atBase = [
    ["1", "large 1", "y"],
    ["20", "large 2", null],
    ["3", "large 3", null],
    ["4", "large 4", "x"],
  ];
  const later = [["1", "large 1", "later"], ...atBase.slice(1)];
  const manifest = manifestOf(files, lsnOf(0));
  assert.deepEqual(await rowsAt(folder.path, manifest, lsnOf(1600)), atBase);
  let number = 0;
  const fold = await foldTable({
    ...{ manifest, entry: manifest.tables[0]!, plan: foldPlan(files, new Date(2500))!, storage },
    ...{ fileBytes: 1e6, compression: "zstd" },
    storageConfig: { kind: "local", root: folder.path },
    pathOf: () => `app/public.t1/copy/c1-00000${++number}.parquet`,
    temporaryFolder: folder.path,
    signal: new AbortController().signal,
  });
  assert.deepEqual(
    fold!.added.map(({ schemaVersion, rowCount, kind }) => [schemaVersion, rowCount, kind]),
    [
      [1, 1, "copy"],
      [2, 3, "copy"],
    ],
  );
  const left = [files[2]!, ...fold!.added.map((file, index) => ({ ...file, fileId: 100 + index }))];
  const folded = manifestOf(left, lsnOf(Number(fold!.base) + 1));
  assert.deepEqual(await rowsAt(folder.path, folded, lsnOf(1600)), atBase);
  assert.deepEqual(await rowsAt(folder.path, folded, lsnOf(9000)), later);
});
