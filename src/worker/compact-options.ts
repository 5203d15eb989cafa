// How one table of a group is compacted, by the config.
import type { Log } from "../base/log.ts";
import type { CompactOptions } from "../compact/compact-table.ts";
import type { Config } from "../config/config.ts";
import type { Queryable } from "../metadata/queryable.ts";
import type { Table } from "../metadata/tables.ts";
import type { Storage } from "../storage/storage.ts";
import { tableConfig } from "./table-config.ts";

/** Workers wait for so many small files; who asks for it wants them merged now. */
const WORKERS_FILES_MIN = 8;

export function compactOptions(given: {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly log: Log;
  readonly table: Pick<Table, "schema" | "name">;
  /** Also what would better wait until there is more of it. */
  readonly everything: boolean;
}): CompactOptions {
  const { config, db, storage, log, table, everything } = given;
  const { historyMs } = tableConfig(config, table.schema, table.name);
  return {
    db,
    storage,
    storageConfig: config.storage,
    group: config.group,
    leaseMs: config.leaseMs,
    fileBytes: config.stream.fileSizeBytes,
    compression: config.compression,
    filesMin: everything ? 2 : WORKERS_FILES_MIN,
    historyMs: historyMs === undefined ? config.historyMs : historyMs,
    foldAll: everything,
    temporaryFolder: config.stream.spillFolder,
    log,
  };
}
