// Which storage a group writes to. Lives in base because config makes it and storage opens it.

export interface LocalStorageConfig {
  readonly kind: "local";
  readonly root: string; // absolute path
}

export type StorageConfig = LocalStorageConfig;
