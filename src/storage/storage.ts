// Where files live. The contract that every backend keeps, and one contract suite tests on each.

/** A file counts only after `finish` returned: before that nothing is visible under its path. */
export interface FileSink {
  /** Takes the bytes; the caller may not change them until the promise is done. Awaiting it is the back-pressure. */
  write(bytes: Uint8Array): Promise<void>;
  /** Makes the file durable and visible. `checksum` is `crc32:<8 hex digits>` over the whole file. */
  finish(): Promise<StoredFile>;
  /** Drops what was written. Safe to call at any time, also after a failed `write` or `finish`. */
  abort(): Promise<void>;
}

export interface StoredFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly checksum: string;
}

export interface StoredEntry {
  readonly path: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

/** Paths are relative to the storage's root, use `/`, and never contain `..`. */
export interface Storage {
  /** For people: what the config named, without secrets. */
  readonly url: string;
  create(path: string): Promise<FileSink>;
  /** Every file below a prefix (a folder path), in no order. A missing prefix has none. */
  list(prefix: string): AsyncIterable<StoredEntry>;
  /** Removing a missing file is not an error. */
  remove(path: string): Promise<void>;
  /** Proves that files can be written, read and removed, or throws STORAGE_DENIED, STORAGE_FULL or STORAGE_FAILED. */
  probe(): Promise<void>;
}
