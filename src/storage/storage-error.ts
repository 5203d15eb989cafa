// What the operating system's errors mean to a user of a folder.
import { type ErrorCode, PgFloError } from "../base/errors.ts";

interface Meaning {
  readonly code: ErrorCode;
  readonly what: string;
  /** Overrides the code's general fix. */
  readonly fix?: string;
}

const OTHER_FILE = "a file stands where a folder is needed";

/** https://man7.org/linux/man-pages/man3/errno.3.html */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOSPC: { code: "STORAGE_FULL", what: "no space is left on the device" },
  EDQUOT: { code: "STORAGE_FULL", what: "the disk quota of this user is used up" },
  EACCES: { code: "STORAGE_DENIED", what: "permission denied" },
  EPERM: { code: "STORAGE_DENIED", what: "operation not permitted" },
  EROFS: {
    code: "STORAGE_DENIED",
    what: "the file system is read-only",
    fix: "mount it for writing, or set another storage",
  },
  ENOTDIR: { code: "STORAGE_FAILED", what: OTHER_FILE, fix: "move the file away, or set another storage" },
  EEXIST: { code: "STORAGE_FAILED", what: OTHER_FILE, fix: "move the file away, or set another storage" },
  EISDIR: { code: "STORAGE_FAILED", what: "a folder stands where the file belongs", fix: "move the folder away" },
  EFBIG: {
    code: "STORAGE_FAILED",
    what: "the file is larger than the file system or ulimit -f allows",
    fix: "raise the limit, or lower copy.file_size and stream.file_size",
  },
  EMFILE: { code: "STORAGE_FAILED", what: "this process has too many files open", fix: "raise ulimit -n" },
  EIO: { code: "STORAGE_FAILED", what: "the device failed", fix: "look at the disk's health and the kernel's log" },
};

/** `[STORAGE_FULL] /data/app/…, write, no space is left on the device (ENOSPC); free space …`. A PgFloError stays as it is. */
export function storageError(action: string, path: string, error: unknown): PgFloError {
  if (error instanceof PgFloError) return error;
  const errno = errorCode(error) ?? (error instanceof Error ? error.name : "unknown");
  const meaning = MEANINGS[errno] ?? { code: "STORAGE_FAILED", what: "the operating system refused" };
  return new PgFloError(meaning.code, `${path}, ${action}, ${meaning.what} (${errno})`, {
    ...(meaning.fix === undefined ? {} : { fix: meaning.fix }),
    facts: { path, errno },
    cause: error,
  });
}

/** `ENOENT` and the like, or undefined for what is not an error of the operating system. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
