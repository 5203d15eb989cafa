// Files in a folder. A file is written under a temporary name beside its own, synced, renamed and its folders synced:
// whoever sees it sees it whole, also after a power failure. What a crash leaves is a `.tmp-…` file, which `listUnfinished`
// shows; readers that look for *.parquet never find it.
import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  type FileHandle,
  mkdir,
  open,
  opendir,
  readdir,
  readFile,
  rename,
  rmdir,
  stat,
  unlink,
} from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { checksumText, crc32 } from "../base/crc32.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { refuseForeignPath } from "./paths.ts";
import type { FileSink, Storage, StoredEntry, StoredFile, UnfinishedFile } from "./storage.ts";
import { errorCode, storageError } from "./storage-error.ts";

export const TEMPORARY_PREFIX = ".tmp-";
const PROBE_SIZE_BYTES = 4096;
/** Nobody probes for so long: an older one is of a process that was killed. */
const PROBE_LEFT_MS = 3_600_000;
const READ_BYTES = 1 << 20;
const KNOWN_FOLDERS_MAX = 10_000;
const CREATE_ATTEMPTS_MAX = 10;

/** Opens the file that is written to. Tests give another one, to let a write meet the system's real errors. */
export type OpenFile = (path: string) => Promise<FileHandle>;

/** `wx`: a temporary file is always new. */
const openNewFile: OpenFile = (path) => open(path, "wx", 0o644);

/** A storage in the folder `root` (absolute), which is made when the first file is. Throws only from its methods. */
export function openLocalStorage(root: string, openFile: OpenFile = openNewFile): Storage {
  const folders = new Folders(root);
  const create = async (path: string): Promise<LocalFile> => {
    const target = resolveInside(root, path);
    const temporary = join(dirname(target), `${TEMPORARY_PREFIX}${randomUUID()}`);
    const handle = await createFile(temporary, folders, openFile);
    return new LocalFile(path, target, temporary, handle, folders);
  };
  return {
    url: root,
    create,
    read: (path) => readFileParts(root, path),
    list: (prefix) => listFinished(root, prefix),
    listUnfinished: (prefix) => listUnfinished(root, prefix),
    remove: (path) => removeFile(root, path, folders),
    removeUnfinished: ({ path }) => removeFile(root, path, folders),
    probe: () => probe(root, create, folders),
  };
}

async function createFile(temporary: string, folders: Folders, openFile: OpenFile): Promise<FileHandle> {
  for (let attempt = 1; ; attempt++) {
    try {
      await folders.make(dirname(temporary));
      return await openFile(temporary);
    } catch (error) {
      // Another process may remove a folder as empty between our making it and our file in it.
      if (errorCode(error) === "ENOENT" && attempt < CREATE_ATTEMPTS_MAX) continue;
      throw storageError("create", temporary, error);
    }
  }
}

type FileState = "open" | "broken" | "renamed" | "finished" | "aborted";

/** One file being written. Owns its handle and its temporary name until `finish` or `abort`. */
class LocalFile implements FileSink {
  readonly #path: string;
  readonly #target: string;
  readonly #temporary: string;
  readonly #folders: Folders;
  #handle: FileHandle | undefined;
  #state: FileState = "open";
  #sizeBytes = 0;
  #crc = 0;

  constructor(path: string, target: string, temporary: string, handle: FileHandle, folders: Folders) {
    this.#path = path;
    this.#target = target;
    this.#temporary = temporary;
    this.#handle = handle;
    this.#folders = folders;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#mustBeOpen("write");
    this.#state = "broken"; // until the bytes are there: neither a second write at the same time nor a finish may come between
    try {
      const written = writeAll(this.#handle!, bytes, this.#sizeBytes);
      this.#crc = crc32(bytes, this.#crc); // while the thread pool writes
      await written;
    } catch (error) {
      throw storageError("write", this.#target, error);
    }
    this.#sizeBytes += bytes.byteLength;
    if (this.#handle) this.#state = "open"; // an abort may have come meanwhile
  }

  async finish(): Promise<StoredFile> {
    this.#mustBeOpen("finish");
    this.#state = "broken";
    try {
      // A failed sync is final: the kernel may have dropped the pages, and a second sync would say nothing about them.
      await this.#handle!.sync();
      failpoint("file.synced");
      await this.#close();
      await rename(this.#temporary, this.#target);
      this.#state = "renamed";
      failpoint("file.renamed");
      await this.#folders.makeDurable(dirname(this.#target));
    } catch (error) {
      throw storageError("finish", this.#target, error);
    }
    this.#state = "finished";
    const checksum = checksumText(this.#crc);
    return { path: this.#path, sizeBytes: this.#sizeBytes, checksum };
  }

  async abort(): Promise<void> {
    if (this.#state === "finished" || this.#state === "aborted") return;
    const file = this.#state === "renamed" ? this.#target : this.#temporary;
    try {
      await this.#close(); // waits for a write under way
      await unlinkIfThere(file);
      await this.#folders.prune(dirname(file));
    } catch (error) {
      throw storageError("remove", file, error);
    }
    this.#state = "aborted";
  }

  async #close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  #mustBeOpen(action: string): void {
    if (this.#state !== "open") throw new Error(`${action} ${this.#path}: the file is ${this.#state}`);
  }
}

/** The kernel may take less than it is given: what is left is given again, until an error says why. */
async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let offset = 0;
  while (offset < bytes.byteLength) {
    const { bytesWritten } = await handle.write(bytes, offset, bytes.byteLength - offset, position + offset);
    offset += bytesWritten;
  }
}

/**
 * Makes folders, and makes them durable: a file in a folder whose own entry is lost in a power failure is lost too.
 * Remembers the folders that are durable up to the root, by what tells a folder from one made later under its name.
 */
class Folders {
  readonly #root: string;
  readonly #durable = new Map<string, string>();
  /** The topmost folder that had to be made for the root itself. */
  #rootMadeFrom: string | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  async make(folder: string): Promise<void> {
    const made = await mkdir(folder, { recursive: true }).catch((error: unknown) => explainRefusal(folder, error));
    if (made === undefined || made.startsWith(this.#root + sep)) return;
    // Another process may have taken away more than was made here before.
    if (this.#rootMadeFrom === undefined || this.#rootMadeFrom.startsWith(made)) this.#rootMadeFrom = made;
  }

  /** Syncs a folder's entries, and its ancestors' up to the root unless that was done before. */
  async makeDurable(folder: string): Promise<void> {
    const identity = await syncFolder(folder);
    if (this.#durable.get(folder) === identity) return;
    const top = this.#rootMadeFrom === undefined ? this.#root : dirname(this.#rootMadeFrom);
    for (let above = folder; above !== top && above !== dirname(above); ) {
      above = dirname(above);
      await syncFolder(above);
    }
    if (this.#durable.size >= KNOWN_FOLDERS_MAX) this.#durable.clear();
    this.#durable.set(folder, identity);
  }

  /** Removes a folder and those above it, as long as they are empty and below the root. */
  async prune(folder: string): Promise<void> {
    for (let empty = folder; empty !== this.#root; empty = dirname(empty)) {
      if (!(await removeIfEmpty(empty))) return;
    }
  }

  /** Removes the root, and what was made for it, if it was made here and is empty. */
  async pruneRoot(): Promise<void> {
    if (this.#rootMadeFrom === undefined) return;
    const top = dirname(this.#rootMadeFrom);
    for (let empty = this.#root; empty !== top; empty = dirname(empty)) {
      if (!(await removeIfEmpty(empty))) return;
    }
    this.#rootMadeFrom = undefined;
  }
}

/** A recursive mkdir says ENOENT where a plain one says why, such as EROFS. Throws the better error. */
async function explainRefusal(folder: string, error: unknown): Promise<never> {
  let first = folder;
  if (errorCode(error) !== "ENOENT") throw error;
  while (first !== dirname(first) && (await statIfThere(dirname(first))) === undefined) first = dirname(first);
  await mkdir(first).catch((plain: unknown) => {
    throw errorCode(plain) === "EEXIST" ? error : plain;
  });
  throw error; // it was made now: whoever asks again will find it
}

async function syncFolder(folder: string): Promise<string> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
    const { dev, ino, birthtimeNs } = await handle.stat({ bigint: true });
    return `${dev}:${ino}:${birthtimeNs}`;
  } finally {
    await handle.close();
  }
}

/** Whether the folder is gone now. */
async function removeIfEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder);
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return true; // another process was quicker
    // Not empty, or not ours to remove: an empty folder harms nobody.
    if (["ENOTEMPTY", "EEXIST", "EACCES", "EPERM", "EBUSY"].includes(errorCode(error) ?? "")) return false;
    throw error;
  }
}

async function* readFileParts(root: string, path: string): AsyncGenerator<Uint8Array> {
  const target = resolveInside(root, path);
  try {
    yield* createReadStream(target, { highWaterMark: READ_BYTES }) as AsyncIterable<Uint8Array>;
  } catch (error) {
    if (errorCode(error) === "ENOENT") {
      throw new PgFloError("STORAGE_FAILED", `${target}, read, the file is not there`, {
        fix: "look who removed it: files that the manifest lists must stay",
        facts: { path, missing: true },
      });
    }
    throw storageError("read", target, error);
  }
}

async function* listFinished(root: string, prefix: string): AsyncGenerator<StoredEntry> {
  for await (const entry of listFiles(root, prefix)) if (!isTemporary(entry.path)) yield entry;
}

async function* listUnfinished(root: string, prefix: string): AsyncGenerator<UnfinishedFile> {
  for await (const { path, modifiedAt } of listFiles(root, prefix)) {
    if (isTemporary(path)) yield { path, id: basename(path), modifiedAt };
  }
}

function isTemporary(path: string): boolean {
  return basename(path).startsWith(TEMPORARY_PREFIX);
}

async function* listFiles(root: string, prefix: string): AsyncGenerator<StoredEntry> {
  const waiting = [prefix === "" ? root : resolveInside(root, prefix)];
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    try {
      for await (const entry of await opendir(folder)) {
        const path = join(folder, entry.name);
        if (entry.isDirectory()) waiting.push(path);
        const found = entry.isFile() ? await statIfThere(path) : undefined;
        if (found) {
          yield { path: relative(root, path).split(sep).join("/"), sizeBytes: found.size, modifiedAt: found.mtime };
        }
      }
    } catch (error) {
      // A folder that is gone, or a file under that name, holds no files.
      if (!["ENOENT", "ENOTDIR"].includes(errorCode(error) ?? "")) throw storageError("list", folder, error);
    }
  }
}

async function statIfThere(path: string) {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function removeFile(root: string, path: string, folders: Folders): Promise<void> {
  const target = resolveInside(root, path);
  try {
    await unlinkIfThere(target);
    await folders.prune(dirname(target));
  } catch (error) {
    throw storageError("remove", target, error);
  }
}

async function unlinkIfThere(file: string): Promise<void> {
  try {
    await unlink(file);
  } catch (error) {
    if (!["ENOENT", "ENOTDIR"].includes(errorCode(error) ?? "")) throw error;
  }
}

async function probe(root: string, create: (path: string) => Promise<LocalFile>, folders: Folders): Promise<void> {
  const name = `${TEMPORARY_PREFIX}probe-${randomUUID()}`;
  const path = join(root, name);
  const bytes = Buffer.alloc(PROBE_SIZE_BYTES, name);
  const file = await create(name);
  try {
    await file.write(bytes);
    await file.finish();
    if (!(await readFile(path)).equals(bytes)) throw new Error("other bytes were read than were written");
    // While this one's file keeps the folder there, and by its time: this machine's clock may be another one.
    await removeLeftProbes(root, (await stat(path)).mtimeMs - PROBE_LEFT_MS);
    await unlink(path);
    await folders.pruneRoot();
  } catch (error) {
    await file.abort();
    await unlinkIfThere(path);
    throw storageError("probe", path, error);
  }
}

/** Only probes write temporary files at the root itself. */
async function removeLeftProbes(root: string, beforeMs: number): Promise<void> {
  for (const name of await readdir(root)) {
    if (!isTemporary(name)) continue;
    const left = await statIfThere(join(root, name));
    if (left && left.mtimeMs < beforeMs) await unlinkIfThere(join(root, name));
  }
}

function resolveInside(root: string, path: string): string {
  refuseForeignPath(path);
  return resolve(root, path);
}
