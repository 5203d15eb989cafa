// Where DuckDB finds the files that the manifest lists. Files of a folder are read where they are. Files of a bucket are
// fetched first, each when a query names its table: they never change, so a copy in the cache stays right. Every fetched
// file is checked against the manifest's size and checksum, whatever the network did.
import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { backoffMs, SERVICE_BACKOFF } from "../base/backoff.ts";
import { systemClock } from "../base/clock.ts";
import { checksumText, crc32 } from "../base/crc32.ts";
import { PgFloError } from "../base/errors.ts";
import { inParallel } from "../storage/lanes.ts";
import type { Storage } from "../storage/storage.ts";

export interface FileSource {
  /** The path that DuckDB opens for one of the manifest; behind it is a file after `fetch`. */
  pathOf(path: string): string;
  /** Sees to it that these paths (of `pathOf`) can be opened. Throws STORAGE_… errors. */
  fetch(paths: readonly string[]): Promise<void>;
}

/** The files below a folder. */
export function localFiles(root: string): FileSource {
  return { pathOf: (path) => join(root, path), fetch: async () => {} };
}

export interface CachedFilesOptions {
  readonly storage: Storage;
  readonly manifest: { readonly tables: readonly { readonly files: readonly KnownFile[] }[] };
  /** For the files of this storage alone. */
  readonly folder: string;
  /** Above it those go that were not used for the longest time. */
  readonly sizeBytesMax: number;
  /** Called before files are fetched. */
  readonly onFetch?: (fileCount: number, sizeBytes: number) => void;
}

interface KnownFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly checksum: string;
}

const PARALLEL = 4;
const ATTEMPTS_MAX = 4;
/** A file that another query opened a moment ago stays. */
const KEPT_MS = 3_600_000;
const UNFINISHED = ".part-";

/** Files of a storage that DuckDB cannot open, by way of a folder. */
export function cachedFiles(options: CachedFilesOptions): FileSource {
  const { folder, manifest, sizeBytesMax } = options;
  const pathOf = (path: string) => join(folder, path);
  const known = new Map(
    manifest.tables.flatMap((table) => table.files.map((file) => [pathOf(file.path), file] as const)),
  );
  return {
    pathOf,
    async fetch(paths) {
      const missing: (readonly [string, KnownFile])[] = [];
      for (const path of new Set(paths)) {
        const file = known.get(path);
        if (file && !(await isCached(path, file))) missing.push([path, file]);
      }
      if (missing.length === 0) return;
      const sizeBytes = missing.reduce((sum, [, file]) => sum + file.sizeBytes, 0);
      options.onFetch?.(missing.length, sizeBytes);
      await makeRoom(folder, sizeBytesMax - sizeBytes);
      await inParallel(missing, PARALLEL, ([path, file]) => fetchFile(options.storage, path, file));
    },
  };
}

/** The time of its last use is its modification time. */
async function isCached(path: string, file: KnownFile): Promise<boolean> {
  try {
    if ((await stat(path)).size !== file.sizeBytes) return false;
    await utimes(path, new Date(), new Date());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw cacheError(path, error);
  }
}

async function fetchFile(storage: Storage, target: string, file: KnownFile): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await fetchOnce(storage, target, file);
    } catch (error) {
      const again = error instanceof PgFloError && error.code === "STORAGE_FAILED" && error.facts.missing !== true;
      if (!again || attempt === ATTEMPTS_MAX) throw error;
      await systemClock.sleep(backoffMs(attempt, SERVICE_BACKOFF, systemClock.random));
    }
  }
}

async function fetchOnce(storage: Storage, target: string, file: KnownFile): Promise<void> {
  const temporary = join(dirname(target), `${UNFINISHED}${randomUUID()}`);
  let sum = 0;
  let sizeBytes = 0;
  const counted = async function* () {
    for await (const bytes of storage.read(file.path)) {
      sum = crc32(bytes, sum);
      sizeBytes += bytes.byteLength;
      yield bytes;
    }
  };
  try {
    await mkdir(dirname(target), { recursive: true });
    await pipeline(counted, createWriteStream(temporary, { flags: "wx" }));
    refuseOtherFile(storage, file, sizeBytes, checksumText(sum));
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error instanceof PgFloError ? error : cacheError(target, error);
  }
}

function refuseOtherFile(storage: Storage, file: KnownFile, sizeBytes: number, checksum: string): void {
  if (sizeBytes === file.sizeBytes && checksum === file.checksum) return;
  const fact = `${sizeBytes} bytes with ${checksum}, the manifest says ${file.sizeBytes} bytes with ${file.checksum}`;
  throw new PgFloError("STORAGE_FAILED", `${storage.url}, ${file.path}, read, ${fact}`, {
    fix: "look who changed the file: files that the manifest lists must stay as they are",
    facts: { path: file.path },
  });
}

function cacheError(path: string, error: unknown): PgFloError {
  const errno = (error as NodeJS.ErrnoException).code ?? (error instanceof Error ? error.name : "unknown");
  return new PgFloError("QUERY_FAILED", `${path}, fetch, the cache cannot take the file (${errno})`, {
    fix: "free space there, or name another folder with --cache",
    cause: error,
  });
}

/** Removes what was not used for the longest time until the rest fits, except what was used a moment ago. */
async function makeRoom(folder: string, sizeBytesMax: number): Promise<void> {
  const files: { readonly path: string; readonly sizeBytes: number; readonly usedMs: number }[] = [];
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw cacheError(folder, error);
    },
  );
  for (const entry of entries.filter((each) => each.isFile())) {
    const path = join(entry.parentPath, entry.name);
    const found = await stat(path).catch(() => null); // another query may clean up too
    if (found) files.push({ path, sizeBytes: found.size, usedMs: found.mtimeMs });
  }
  let sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  for (const file of files.sort((a, b) => a.usedMs - b.usedMs)) {
    if (sizeBytes <= sizeBytesMax || Date.now() - file.usedMs < KEPT_MS) return;
    await rm(file.path, { force: true });
    sizeBytes -= file.sizeBytes;
  }
}
