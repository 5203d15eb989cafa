// The identities of the rows whose newest image before a snapshot lacks TOASTed values: read from the table's stream
// files, which are fetched part by part where they do not lie on a disk.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Lsn } from "../base/lsn.ts";
import type { StorageConfig } from "../base/storage-config.ts";
import { type ChangesFile, readChanges, type TableChanges } from "../metadata/copy-completion.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { Table, TableColumn } from "../metadata/tables.ts";
import type { PgType } from "../postgres/catalog.ts";
import { cachedFiles, type FileSource, localFiles } from "../query/file-source.ts";
import { duckdbType } from "../query/manifest-tables.ts";
import type { MirrorColumn, MirrorTable } from "../query/mirror-table.ts";
import { type FilesPart, unchangedKeys } from "../query/unchanged-keys.ts";
import type { Storage } from "../storage/storage.ts";
import { makeSpillFolder } from "../stream/spill-file.ts";
import { planColumns } from "../types/registry.ts";

export interface UnchangedRowsOptions {
  readonly db: Queryable;
  readonly table: Table;
  /** Changes that committed before it. */
  readonly before: Lsn;
  readonly types: ReadonlyMap<number, PgType>;
  readonly storage: Storage;
  readonly storageConfig: StorageConfig;
  /** For what is fetched, and for what is too large for memory. */
  readonly folder: string;
}

/** What is opened at once, and fetched at once. */
const PART_FILES = 64;
const PART_BYTES = 256 * 1024 * 1024;

/** Batches of identities, each as texts in the order of the identity's columns. */
export async function* unchangedRows(options: UnchangedRowsOptions): AsyncGenerator<readonly string[][]> {
  const { db, table, before, types } = options;
  const changes = await readChanges(db, table, before);
  if (changes.files.length === 0) return;
  const folder = await makeSpillFolder(options.folder);
  try {
    yield* unchangedKeys({
      table: changedTable(table, changes, before, types),
      parts: filesParts(options, changes.files, folder),
      folder,
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** With the columns of its identity alone. */
function changedTable(
  { schema, name, identity, cutLsn }: Table,
  changes: TableChanges,
  before: Lsn,
  types: ReadonlyMap<number, PgType>,
): MirrorTable {
  const columns = identity.kind === "none" ? [] : identity.columns;
  const attnums = new Map<number, string>();
  const newest = Math.max(...changes.versions.keys());
  for (const column of changes.versions.get(newest) ?? []) {
    if (columns.includes(column.name)) attnums.set(column.attnum, column.name);
  }
  const inOrder = (version: readonly TableColumn[]) =>
    columns.flatMap((wanted) => version.filter(({ attnum }) => attnums.get(attnum) === wanted));
  return {
    ...{ schema, name, cutLsn },
    identity: { kind: identity.kind, columns },
    position: before - 1n,
    versions: [...changes.versions].map(([schemaVersion, version]) => ({
      schemaVersion,
      columns: inOrder(version).map((column): MirrorColumn => {
        const { name: columnName, fileName, typeName, attnum } = column;
        // One by one: the file's names are stored, those that planning would give do not matter.
        const { parquet } = planColumns([column], types)[0]!;
        return { name: columnName, fileName, typeName, attnum, duckdbType: duckdbType(parquet) };
      }),
    })),
    files: [],
  };
}

function filesParts(
  options: UnchangedRowsOptions,
  files: readonly ChangesFile[],
  folder: string,
): readonly FilesPart[] {
  const parts: ChangesFile[][] = [];
  let partBytes = PART_BYTES;
  for (const file of files) {
    const last = parts.at(-1);
    if (last && last.length < PART_FILES && partBytes + file.sizeBytes <= PART_BYTES) last.push(file);
    else {
      parts.push([file]);
      partBytes = 0;
    }
    partBytes += file.sizeBytes;
  }
  return parts.map((part, at) => ({
    files: part.map((file) => ({ ...file, kind: "stream" })),
    open: () => openPart(options, part, join(folder, String(at))),
  }));
}

function openPart(
  { storage, storageConfig }: UnchangedRowsOptions,
  files: readonly ChangesFile[],
  folder: string,
): FileSource & AsyncDisposable {
  if (storageConfig.kind === "local") {
    return { ...localFiles(storageConfig.root), [Symbol.asyncDispose]: async () => {} };
  }
  const sizeBytesMax = files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const source = cachedFiles({ storage, manifest: { tables: [{ files }] }, folder, sizeBytesMax });
  return { ...source, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}
