// The configuration as the program uses it: complete, in base units, plain data.
import type { Compression } from "../base/compression.ts";
import type { ConnectionConfig } from "../base/connection-config.ts";
import type { StorageConfig } from "../base/storage-config.ts";

export type TableMode = "copy-and-stream" | "stream-only" | "copy-only";

export interface TableConfig {
  readonly mode: TableMode;
  readonly includeColumns?: readonly string[];
  readonly excludeColumns?: readonly string[];
  /** How columns are written: string, double, decimal(p,s), portable or native. */
  readonly types?: Readonly<Record<string, string>>;
  /** A value that its column cannot hold exactly stops the table; else its text is kept beside it. */
  readonly onInexact?: "error";
  /** Columns whose files tell quickly that a value is not in them. */
  readonly bloomFilter?: readonly string[];
  /** Null: for ever. Undefined: the group's. */
  readonly historyMs?: number | null;
}

/** What the source may keep for the slot, and what is done when it becomes too much. */
export interface WalBudgetConfig {
  /** Absent: shares of the server's max_slot_wal_keep_size. */
  readonly warningBytes?: number;
  readonly criticalBytes?: number;
  readonly action: "warn" | "throttle copy" | "drop slot";
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
  readonly copy: {
    readonly parallel: number;
    readonly fileSizeBytes: number;
    /** How long a snapshot may keep vacuum from cleaning. */
    readonly snapshotMaxAgeMs: number;
    /** Bytes a second of one worker; null: as fast as it goes. */
    readonly maxRateBytes: number | null;
  };
  readonly stream: {
    readonly flushIntervalMs: number;
    /** Slots that the group's tables are spread over. A table keeps its own. */
    readonly streamCount: number;
    readonly fileSizeBytes: number;
    readonly memoryBytes: number;
    /** Where transactions go that are too large for memory. */
    readonly spillFolder: string;
    /** Whether the slot is synchronized to standbys, where the server can (PostgreSQL 17). */
    readonly failover: boolean;
    /** What a worker does about a slot that is lost: it ends with SLOT_LOST, or makes another one and goes on. */
    readonly lostSlot: "stop" | "resync";
  };
  readonly walBudget: WalBudgetConfig;
  /** How long changes are kept as changes; null: for ever. */
  readonly historyMs: number | null;
  readonly compact: {
    /** How often workers look at a table's files; null: never. */
    readonly everyMs: number | null;
    /** How long files stay that left the manifest. */
    readonly graceMs: number;
  };
  /** How often workers compare each table with the source; null: never. */
  readonly verify: { readonly everyMs: number | null };
  readonly leaseMs: number;
  /** How often the source is asked whether tables came, went or changed. */
  readonly discoveryIntervalMs: number;
  /** Where metrics and health are served; not at all when it is absent. */
  readonly http?: { readonly host: string; readonly port: number };
  /** The Parquet types that are used. */
  readonly profile: "portable" | "native";
  readonly compression: Compression;
}
