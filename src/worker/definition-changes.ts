// Definitions that changed at the source, brought into the metadata: what each change means (planned-changes.ts), and when a
// new version begins. It begins exactly at the transaction whose changes do not fit any version that is known
// (`resolveMisfit`: the stream has stopped before it), or, where no such change is in the log, when the stream has passed
// everything that was committed before the catalog was read (definition-watch.ts).
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { readVersions } from "../metadata/table-versions.ts";
import { alterTable, readTables, setTableError, type Table, type TableColumn } from "../metadata/tables.ts";
import type { PgType } from "../postgres/catalog.ts";
import type { Misfit } from "../stream/change-events.ts";
import { mapRelation, streamRelation } from "../stream/stream-table.ts";
import { discover, streamTables, toWanted } from "./discovery.ts";
import { emptyLeavesAt, type PlannedChange, planChanges } from "./planned-changes.ts";
import { onSource } from "./source-connection.ts";

export interface DefinitionOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly log: Log;
}

/** Stores what a change led to; files go on. False: another definition was stored meanwhile, or the table began anew. */
export async function storeChange(
  { config, db, log }: DefinitionOptions,
  { table, wanted, change }: PlannedChange,
): Promise<boolean> {
  const { tableId, generation, schemaVersion } = table;
  const known = { tableId, generation, schemaVersion, ...(wanted.traces && { traces: wanted.traces }) };
  if (change.kind === "traces") return (await alterTable(db, known)) !== null;
  if (change.kind !== "version") return true;
  failpoint("definition.storing");
  const version = await alterTable(db, { ...known, columns: change.columns, identity: wanted.identity });
  failpoint("definition.stored");
  if (version === null) return false;
  const subject = `${table.schema}.${table.name}`;
  log.info("the table's definition changed", { table: subject, version, change: change.summary });
  const message = `table ${subject}, version ${version}: ${change.summary}`;
  await addEvent(db, config.group, { severity: "info", code: "DEFINITION_CHANGED", subject, message });
  return true;
}

/**
 * The stream stands before a transaction that does not fit. Stores the version that it fits, or the table's error: then
 * it is copied again by the next session, which `copy` asks for. Gives the types that the source has now.
 */
export async function resolveMisfit(
  options: DefinitionOptions,
  { table: { tableId, generation, schemaVersion, schema, name }, reason, message }: Misfit,
): Promise<{
  /** The session has to end. */
  readonly copy: boolean;
  readonly types: ReadonlyMap<number, PgType> | null;
  readonly columns: readonly TableColumn[];
}> {
  const { config, db, log } = options;
  const found = await onSource(config, "the definition that changed", async (source) => {
    // Before the catalog: what is stored must not be newer than what is read.
    const tables = await readTables(db, config.group);
    const discovery = await discover(source, config);
    const own = tables.filter((table) => table.tableId === tableId && table.generation === generation);
    const planned = await planChanges(db, config.group, own, toWanted(discovery), emptyLeavesAt(source));
    return { types: discovery.types, planned: planned[0] };
  });
  const why = await (async () => {
    const { planned, types } = found;
    if (planned?.change.kind === "copy") return planned.change.reason;
    const versions = new Map(await readVersions(db, config.group));
    const mismatchWith = (table: Table, possible: typeof versions) => {
      const [newest] = streamTables([table], types, config.schemas, table.stream!, possible).values();
      return newest ? mapRelation(message, streamRelation(newest)).mismatch : reason;
    };
    if (planned?.change.kind !== "version") {
      // The watch has stored it since the stream read its tables.
      const isNewer = planned && planned.table.schemaVersion > schemaVersion;
      if (isNewer && mismatchWith(planned.table, versions) === null) return null;
      return `${reason}, in a definition that it no longer has`;
    }
    const { table, change } = planned;
    const known = new Map(versions.get(tableId));
    const next = { ...table, columns: change.columns, identity: planned.wanted.identity };
    versions.set(tableId, known.set(table.schemaVersion + 1, change.columns));
    const mismatch = mismatchWith(next, change.ambiguous ? new Map() : versions);
    if (mismatch !== null) return `${mismatch}, in a definition between two that are known`;
    return (await storeChange(options, planned)) ? null : undefined;
  })();
  if (why === null || why === undefined) {
    return { copy: false, types: found.types, columns: found.planned?.wanted.columns ?? [] };
  }
  const subject = `${schema}.${name}`;
  const error = new PgFloError("TABLE_CHANGED", `table ${subject}, definition, ${why}`);
  // Of an older generation: somebody has begun it anew already, and its next tables are the stream's.
  if (!(await setTableError(db, { tableId, generation }, error))) return { copy: false, types: null, columns: [] };
  log.warn(error.message, { table: subject });
  failpoint("definition.refused");
  await addEvent(db, config.group, { severity: "warning", code: error.code, subject, message: error.message });
  return { copy: true, types: null, columns: [] };
}
