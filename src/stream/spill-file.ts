// One file of spilled changes: blocks are appended, each is read back by where it lies, checked by its CRC.
// The file has no name: it is removed from its folder as soon as it is open, so whatever ends the process, the system
// gives its space back. Nobody else can open it. What a process leaves that ends in between, an empty file in a folder
// with its number, is removed by the next start.
import { randomUUID } from "node:crypto";
import { type FileHandle, mkdtemp, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "../base/crc32.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import { processLives } from "../base/process-lives.ts";
import { storageError } from "../storage/storage-error.ts";

const FOLDER_PREFIX = "pg-flo-spill-";

export interface SpillBlock {
  readonly position: number;
  readonly sizeBytes: number;
  readonly crc: number;
  /** Records in it. */
  readonly count: number;
}

export class SpillFile {
  readonly #folder: string;
  readonly #handle: FileHandle;
  sizeBytes = 0;

  private constructor(folder: string, handle: FileHandle) {
    this.#folder = folder;
    this.#handle = handle;
  }

  /** In a private folder of its own below `folder`, which must be there. STORAGE_* names the folder. */
  static async create(folder: string): Promise<SpillFile> {
    let handle: FileHandle | undefined;
    try {
      const own = await mkdtemp(join(folder, `${FOLDER_PREFIX}${process.pid}-`)); // 0700
      try {
        handle = await open(join(own, randomUUID()), "wx+", 0o600);
        failpoint("spill.named");
      } finally {
        await rm(own, { recursive: true });
      }
      return new SpillFile(folder, handle);
    } catch (error) {
      await handle?.close();
      throw spillError("create a file", folder, error);
    }
  }

  /** Appends bytes and gives their position. One call at a time; they must stay as they are until it is done. */
  async append(bytes: Uint8Array): Promise<number> {
    const position = this.sizeBytes;
    try {
      for (let written = 0; written < bytes.length; ) {
        const left = bytes.length - written;
        written += (await this.#handle.write(bytes, written, left, position + written)).bytesWritten;
      }
    } catch (error) {
      throw spillError("write", this.#folder, error);
    }
    this.sizeBytes += bytes.length;
    failpoint("spill.written");
    return position;
  }

  /** Reads blocks, each one behind the other in the file, into `target` at `at`. STORAGE_FAILED when they are not what was written. */
  async read(blocks: readonly SpillBlock[], target: Uint8Array, at: number): Promise<void> {
    const first = blocks[0]!.position;
    const sizeBytes = blocks.reduce((sum, block) => sum + block.sizeBytes, 0);
    try {
      for (let read = 0; read < sizeBytes; ) {
        const { bytesRead } = await this.#handle.read(target, at + read, sizeBytes - read, first + read);
        if (bytesRead === 0) break;
        read += bytesRead;
      }
    } catch (error) {
      throw spillError("read", this.#folder, error);
    }
    for (const block of blocks) {
      const start = at + block.position - first;
      if (crc32(target.subarray(start, start + block.sizeBytes)) === block.crc) continue;
      throw new PgFloError("STORAGE_FAILED", `${this.#folder}, read spilled changes, they are not what was written`, {
        fix: "look at the disk's health; nothing was lost, the transaction is read again",
        facts: { position: block.position, sizeBytes: block.sizeBytes },
      });
    }
  }

  /** Gives the space back. */
  async close(): Promise<void> {
    await this.#handle.close();
    failpoint("spill.closed");
  }
}

/** A private folder of this process, which removes it; what a killed one left goes with `removeLeftSpillFiles`. */
export async function makeSpillFolder(folder: string): Promise<string> {
  try {
    return await mkdtemp(join(folder, `${FOLDER_PREFIX}${process.pid}-`));
  } catch (error) {
    throw spillError("create a folder", folder, error);
  }
}

/**
 * Removes what processes left that ended while they made a file. A folder of a process that lives is its own, and one
 * that cannot be looked at is somebody else's: what is wrong with it shows when something is spilled.
 */
export async function removeLeftSpillFiles(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (["ENOENT", "EACCES", "ENOTDIR"].includes(error.code ?? "")) return [];
    throw spillError("look", folder, error);
  });
  for (const name of names) {
    const pid = Number(/^pg-flo-spill-(\d+)-/.exec(name)?.[1] ?? 0);
    if (pid === 0 || processLives(pid)) continue;
    await rm(join(folder, name), { recursive: true, force: true }).catch((error: NodeJS.ErrnoException) => {
      if (!["EACCES", "EPERM"].includes(error.code ?? "")) throw spillError("remove what was left", folder, error);
    });
  }
}

function spillError(action: string, folder: string, error: unknown): PgFloError {
  const { code, description, facts } = storageError(`${action} for spilled changes`, folder, error);
  const fix =
    code === "STORAGE_FULL"
      ? "free space there or set stream.spill_folder; nothing was lost, pg-flo tries again by itself"
      : "make the folder writable or set stream.spill_folder; nothing was lost";
  return new PgFloError(code, description, { fix, facts, cause: error });
}
