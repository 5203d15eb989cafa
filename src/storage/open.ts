// The storage that a config names.
import type { StorageConfig } from "../base/storage-config.ts";
import { openLocalStorage } from "./local.ts";
import { openS3Storage } from "./s3.ts";
import type { Storage } from "./storage.ts";

/** Opens a storage. Nothing is read, written or made until a method is called. */
export function openStorage(config: StorageConfig): Storage {
  return config.kind === "local" ? openLocalStorage(config.root) : openS3Storage(config);
}
