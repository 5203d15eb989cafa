// The files that a fold reads: on this machine, with the bytes that the manifest tells, and where in them a table's columns
// are.
import { type FileHandle, open } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import { crc32 } from "../base/crc32.ts";
import type { StorageConfig } from "../base/storage-config.ts";
import type { ManifestFile } from "../metadata/files.ts";
import type { Manifest } from "../metadata/status.ts";
import { type FileBytes, type FileFooter, FileRows, readFooter } from "../parquet/file-reader.ts";
import { leavesOf, type ParquetColumn } from "../parquet/schema.ts";
import { malformedFile } from "../parquet/thrift-reader.ts";
import { cachedFiles, type FileSource, localFiles } from "../query/file-source.ts";
import type { Storage } from "../storage/storage.ts";
import { refuseOtherBytes, refuseOtherRows } from "./merge-run.ts";

/** Brings the manifest's files to where DuckDB can read them; `folder` is for those of a bucket. */
export async function fetchInputs(
  manifest: Manifest,
  storage: Storage,
  config: StorageConfig,
  folder: string,
): Promise<FileSource> {
  const files = manifest.tables.flatMap((table) => table.files);
  if (config.kind === "local") {
    for (const file of files) await refuseDamaged(storage, file);
    return localFiles(config.root);
  }
  const source = cachedFiles({ storage, manifest, folder, sizeBytesMax: Number.POSITIVE_INFINITY });
  await source.fetch(files.map(({ path }) => source.pathOf(path)));
  return source;
}

async function refuseDamaged(storage: Storage, file: ManifestFile): Promise<void> {
  let checksum = 0;
  let sizeBytes = 0;
  for await (const piece of storage.read(file.path)) {
    checksum = crc32(piece, checksum);
    sizeBytes += piece.length;
  }
  refuseOtherBytes(file, sizeBytes, checksum);
}

/** One file of a fold, opened when its rows are read. */
export interface FoldInput {
  readonly file: ManifestFile;
  readonly path: string;
  readonly footer: FileFooter;
  /** The table's own columns. */
  readonly columns: readonly ParquetColumn[];
}

export async function readInput(file: ManifestFile, path: string): Promise<FoldInput> {
  await using bytes = await LocalFile.open(path);
  const footer = await readFooter(bytes);
  refuseOtherRows(file, footer);
  const own = footer.columns.findIndex(({ name }) => name.startsWith("_pg_flo_"));
  if (own < 0) throw malformedFile("it has none of our own columns");
  return { file, path, footer, columns: footer.columns.slice(0, own) };
}

/** The first and the number of leaves of a column, by its name in the file; null where the file has none of it. */
export function leavesNamed(
  { footer }: FoldInput,
  name: string,
): { readonly first: number; readonly count: number } | null {
  let first = 0;
  for (const column of footer.columns) {
    const { length: count } = leavesOf(column);
    if (column.name === name) return { first, count };
    first += count;
  }
  return null;
}

/** Whether the values of one can stand in the other: the same tree of leaves, whatever the names and ids. */
export function sameLeaves(a: ParquetColumn, b: ParquetColumn): boolean {
  const shape = (column: ParquetColumn) =>
    leavesOf(column).map(({ type, maxDefinition, maxRepetition }) => ({ type, maxDefinition, maxRepetition }));
  return isDeepStrictEqual(shape(a), shape(b));
}

/** Its rows, of these leaves. The caller closes the file. */
export async function openRows(
  input: FoldInput,
  wanted: readonly number[],
): Promise<{ rows: FileRows; file: LocalFile }> {
  const file = await LocalFile.open(input.path);
  return { file, rows: new FileRows(file, input.footer, wanted) };
}

export class LocalFile implements FileBytes, AsyncDisposable {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  static async open(path: string): Promise<LocalFile> {
    const handle = await open(path, "r");
    try {
      return new LocalFile(handle, (await handle.stat()).size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.#handle.read(bytes, done, length - done, offset + done);
      if (bytesRead === 0) throw malformedFile("it ends too early");
      done += bytesRead;
    }
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}
