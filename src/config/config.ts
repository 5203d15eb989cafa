// The configuration as the program uses it: complete, in base units, plain data.
import type { ConnectionConfig } from "../base/connection-config.ts";
import type { StorageConfig } from "../base/storage-config.ts";

export type TableMode = "copy-and-stream" | "stream-only" | "copy-only";

export interface TableConfig {
  readonly mode: TableMode;
  readonly includeColumns?: readonly string[];
  readonly excludeColumns?: readonly string[];
}

/** `"*"`: every table of the schema, also ones created later. */
export type SchemaConfig = "*" | Readonly<Record<string, TableConfig>>;

export interface Config {
  readonly group: string;
  readonly source: ConnectionConfig;
  /** A publication made by a DBA: only read, never created, altered or dropped. */
  readonly publication?: string;
  readonly metadata: ConnectionConfig;
  readonly storage: StorageConfig;
  readonly schemas: Readonly<Record<string, SchemaConfig>>;
  readonly copy: { readonly parallel: number; readonly fileSizeBytes: number };
  readonly stream: {
    readonly flushIntervalMs: number;
    readonly fileSizeBytes: number;
    readonly memoryBytes: number;
  };
  readonly leaseMs: number;
}
