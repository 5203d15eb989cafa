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

/** What was begun and not finished: a file under way now, or one that a crash left. Nobody reads it. */
export interface UnfinishedFile {
  /** Where it lies; for people, and to tell whose it is. */
  readonly path: string;
  /** Tells it from others under the same path; the storage's own. */
  readonly id: string;
  /** When it was last known to be worked on. */
  readonly modifiedAt: Date;
}

/** Paths are relative to the storage's root, use `/`, and never contain `..`. */
export interface Storage {
  /** For people: what the config named, without secrets. */
  readonly url: string;
  create(path: string): Promise<FileSink>;
  /** A finished file's bytes, in order. A missing one is STORAGE_FAILED, with `missing: true` among its facts. */
  read(path: string): AsyncIterable<Uint8Array>;
  /** Every finished file below a prefix (a folder path), in no order. A missing prefix has none. */
  list(prefix: string): AsyncIterable<StoredEntry>;
  /** Every unfinished one below a prefix. A storage that cannot tell gives none. */
  listUnfinished(prefix: string): AsyncIterable<UnfinishedFile>;
  /** Drops an unfinished one; whoever still writes it fails and begins again. A missing one is not an error. */
  removeUnfinished(file: UnfinishedFile): Promise<void>;
  /** Removing a missing file is not an error. */
  remove(path: string): Promise<void>;
  /** Proves that files can be written, read, listed and removed, or throws a STORAGE_… error that says what cannot. */
  probe(): Promise<void>;
}
