// Several files of a table into one with the same rows in the same order: pages are read and written again as they are,
// whatever their types. Files whose columns differ (another `_old_` set, bloom filters) are not put into one.
import { isDeepStrictEqual } from "node:util";
import type { Compression } from "../base/compression.ts";
import { checksumText, crc32 } from "../base/crc32.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { CompactedFile } from "../metadata/compactions.ts";
import type { ManifestFile } from "../metadata/files.ts";
import { type FileBytes, type FileFooter, FileRows, readFooter } from "../parquet/file-reader.ts";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { Storage } from "../storage/storage.ts";
import { TableFile } from "../types/table-file.ts";
import { compactedKeyValues } from "./footer-facts.ts";

export interface Merge {
  readonly removed: readonly ManifestFile[];
  readonly added: readonly [CompactedFile];
}

export interface MergeOptions {
  readonly storage: Storage;
  readonly compression: Compression;
  /** Small files, in order. */
  readonly run: readonly ManifestFile[];
  /** The path of the next file, which takes the place of others of which this is the first. */
  readonly pathOf: (first: ManifestFile) => string;
  readonly signal: AbortSignal;
}

/** Files that are fetched while another one is read. */
const FETCHED_AHEAD = 4;

/** Each merge is durable when it is given, and in no manifest. A failure leaves none that was not given. */
export async function* mergeRun(options: MergeOptions): AsyncGenerator<Merge> {
  let open: OpenMerge | null = null;
  try {
    for await (const { file, bytes } of fetchAll(options)) {
      const footer = await readFooter(bytes);
      refuseOtherRows(file, footer);
      if (open !== null && !isDeepStrictEqual(open.footer.columns, footer.columns)) {
        const merge: Merge | null = await finish(open);
        open = null;
        if (merge) yield merge;
      }
      open ??= begin(options, file, footer);
      await append(open, file, footer, bytes, options.signal);
    }
    const last = open && (await finish(open));
    open = null;
    if (last) yield last;
  } finally {
    await open?.output.abort();
  }
}

interface OpenMerge {
  readonly output: TableFile;
  readonly targets: readonly LeafBuffer[];
  readonly inputs: ManifestFile[];
  readonly keyValues: ReadonlyMap<string, string>[];
  readonly footer: FileFooter;
}

function begin({ storage, pathOf, compression }: MergeOptions, first: ManifestFile, footer: FileFooter): OpenMerge {
  const output = new TableFile(storage, pathOf(first), footer.columns, compression);
  return { output, targets: output.writer.columns.flat(), inputs: [], keyValues: [], footer };
}

async function append(
  merge: OpenMerge,
  file: ManifestFile,
  footer: FileFooter,
  bytes: FileBytes,
  signal: AbortSignal,
): Promise<void> {
  const rows = new FileRows(bytes, footer);
  for (let count = await rows.ready(); count > 0; count = await rows.ready()) {
    signal.throwIfAborted();
    rows.take(count, merge.targets);
    await merge.output.writer.endRows(count);
    await turnOfOthers();
  }
  merge.inputs.push(file);
  merge.keyValues.push(footer.keyValues);
}

/** Timers, messages and sockets of the thread. */
export function turnOfOthers(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Null: a single file stays as it is. */
async function finish({ output, inputs, keyValues }: OpenMerge): Promise<Merge | null> {
  if (inputs.length === 1) {
    await output.abort();
    return null;
  }
  const lsnStart = inputs.map((file) => file.lsnStart).reduce((a, b) => (a < b ? a : b));
  const lsnEnd = inputs.map((file) => file.lsnEnd).reduce((a, b) => (a > b ? a : b));
  const newest = inputs.reduce((a, b) => (a.createdAt > b.createdAt ? a : b));
  const { kind, stream, batchId, schemaVersion } = inputs.at(-1)!;
  const written = await output.finishAs(compactedKeyValues(keyValues, { kind, lsnStart, lsnEnd }));
  const rowCount = inputs.reduce((sum, file) => sum + file.rowCount, 0);
  if (written.rowCount !== rowCount) {
    throw new PgFloError("INTERNAL", `merge into ${written.path}, ${written.rowCount} rows of ${rowCount}`);
  }
  failpoint("compact.file-durable");
  const facts = { kind, stream, batchId, schemaVersion, lsnStart, lsnEnd, createdAt: newest.createdAt };
  return { removed: inputs, added: [{ ...facts, ...written }] };
}

interface Fetched {
  readonly file: ManifestFile;
  readonly bytes: FileBytes;
}

async function* fetchAll({ run, storage }: MergeOptions): AsyncGenerator<Fetched> {
  const ahead: Promise<Fetched>[] = [];
  for (let next = 0; next < run.length || ahead.length > 0; ) {
    while (next < run.length && ahead.length < FETCHED_AHEAD) {
      const fetched = fetchWhole(storage, run[next++]!);
      fetched.catch(() => {}); // met when it is its turn
      ahead.push(fetched);
    }
    yield await ahead.shift()!;
  }
}

/** The whole file in memory, with the very bytes that the manifest tells: damage must not go into a new file unseen. */
async function fetchWhole(storage: Storage, file: ManifestFile): Promise<Fetched> {
  const pieces: Uint8Array[] = [];
  let checksum = 0;
  for await (const piece of storage.read(file.path)) {
    pieces.push(piece.slice());
    checksum = crc32(piece, checksum);
  }
  const bytes = Buffer.concat(pieces);
  refuseOtherBytes(file, bytes.length, checksum);
  return {
    file,
    bytes: { sizeBytes: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) },
  };
}

export function refuseOtherBytes(file: ManifestFile, sizeBytes: number, checksum: number): void {
  const found = checksumText(checksum);
  if (sizeBytes === file.sizeBytes && found === file.checksum) return;
  throw new PgFloError(
    "TABLE_FAILED",
    `${file.path}, read, ${sizeBytes} bytes with ${found}, the manifest says ${file.sizeBytes} bytes with ${file.checksum}`,
    { fix: "look who changed the file: files that the manifest lists must stay as they are" },
  );
}

export function refuseOtherRows(file: ManifestFile, { rowCount }: FileFooter): void {
  if (rowCount === file.rowCount) return;
  throw new PgFloError("INTERNAL", `${file.path}, read, ${rowCount} rows, the manifest says ${file.rowCount}`);
}
