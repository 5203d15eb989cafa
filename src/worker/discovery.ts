// What the group mirrors now: the config's wishes against the source's catalog, brought into the metadata.
import { isDeepStrictEqual } from "node:util";
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { copyAgain } from "../metadata/copy-again.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { type Registration, registerTables, type WantedTable } from "../metadata/register-tables.ts";
import { nameKey } from "../metadata/table-name.ts";
import { readTables, type Table, type TableColumn } from "../metadata/tables.ts";
import { type Catalog, type PgType, readCatalog, readTypes } from "../postgres/catalog.ts";
import type { Finding } from "../postgres/finding.ts";
import { readPublication } from "../postgres/given-publication.ts";
import { preflight } from "../postgres/preflight.ts";
import { type Selection, selectTables } from "../postgres/selection.ts";
import { withTypeParts } from "../postgres/type-parts.ts";
import type { Storage } from "../storage/storage.ts";
import type { StreamTable, TableCut } from "../stream/stream-table.ts";
import { planColumns, withBloomFilters } from "../types/registry.ts";
import { type EmptyLeaves, tablesToCopy } from "./planned-changes.ts";
import { tableConfig } from "./table-config.ts";
import { selectWrittenAs } from "./written-as.ts";

/** Copy-only tables go with it. */
export const FIRST_STREAM = 1;

export interface Discovery {
  readonly catalog: Catalog;
  readonly types: ReadonlyMap<number, PgType>;
  readonly selection: Selection;
}

/** Reads the catalog and selects the tables. */
export async function discover(source: ClientBase, config: Config): Promise<Discovery> {
  const catalog = await readCatalog(source);
  const types = await readTypes(source);
  const given = config.publication === undefined ? null : await readPublication(source, config.publication);
  const options = given ? { streamsStoredGenerated: given.generatedStored } : {};
  const selected = selectWrittenAs(selectTables(catalog, config.schemas, options), types, config);
  const tables = selected.tables.map(({ table, ...rest }) => ({
    ...rest,
    table: { ...table, columns: table.columns.map((column) => withTypeParts(column, types)) },
  }));
  return { catalog, types, selection: { ...selected, tables } };
}

/** Everything that would go wrong stops here, before anything is created. PREFLIGHT_FAILED tells all of it. */
export async function refuseFindings(
  source: ClientBase,
  config: Config,
  selection: Selection,
  metadataAtSource: boolean,
  log: Log,
): Promise<void> {
  const findings = await preflight(source, {
    group: config.group,
    selection,
    ...(config.publication === undefined ? {} : { publication: config.publication }),
    streams: wantedStreams(config),
    metadataAtSource,
    copyParallel: config.copy.parallel,
  });
  const errors = findings.filter((finding) => finding.severity === "error");
  if (errors.length > 0) throw preflightError(errors);
  for (const finding of findings) {
    if (finding.severity === "warning") log.warn(`${finding.subject}: ${finding.message}`, { fix: finding.fix });
  }
}

function preflightError(errors: readonly Finding[]): PgFloError {
  const lines = errors.map(
    ({ subject, message, fix }) => `\n  ${subject}: ${message}${fix ? `\n    fix: ${fix}` : ""}`,
  );
  const fix = "mend this and start again (pg-flo check tells more)";
  return new PgFloError("PREFLIGHT_FAILED", `${errors.length} thing(s) would go wrong:${lines.join("")}\n`, { fix });
}

export interface RegisterOptions {
  readonly db: Queryable;
  readonly group: string;
  readonly storage: Storage;
  readonly log: Log;
}

/**
 * Brings the metadata's tables in line. A table whose definition changed so that its files cannot go on begins anew;
 * any other change is stored when the stream comes to it (definition-changes.ts).
 *
 * `before`: the tables from before the source was read. One that was stored since, or that stopped since, may know of a
 * change that `wanted` lacks: held against that it would begin anew with a definition that it no longer has, and again
 * at the next look. It is left to that look: `complete` is false then.
 */
export async function register(
  { db, group, storage, log }: RegisterOptions,
  wanted: readonly WantedTable[],
  before: readonly Table[],
  emptyLeaves: EmptyLeaves,
): Promise<{ readonly tables: readonly Table[]; readonly complete: boolean }> {
  const registration = await registerTables(db, group, wanted);
  failpoint("tables.registered");
  await removeFiles(storage, registration);
  for (const { from, to } of registration.renamed) {
    const [before, subject] = [`${from.schema}.${from.name}`, `${to.schema}.${to.name}`];
    log.info("the table goes on under another name", { table: subject, before });
    const message = `table ${subject} was ${before}, its files are listed under the new name`;
    await addEvent(db, group, { severity: "info", code: "TABLE_RENAMED", subject, message });
  }
  // A definition that changed and changed back is the registered one again, but the changes between were dropped.
  const { late, tables } = sortLate(before, registration.tables);
  const complete = late.size === 0;
  const again = new Map(tables.filter(isStopped).map((table) => [table, table.error!.message]));
  const changed = registration.changed.filter(({ table }) => !late.has(table));
  for (const { table, reason } of await tablesToCopy(db, group, { tables, changed }, wanted, emptyLeaves)) {
    if (!again.has(table)) again.set(table, reason);
  }
  if (again.size === 0) return { tables: registration.tables, complete };
  const byName = new Map(wanted.map((table) => [nameKey(table), table]));
  for (const [table, reason] of again) {
    const paths = await copyAgain(db, group, table, byName.get(nameKey(table)));
    if (paths === null) continue; // somebody was quicker
    const subject = `${table.schema}.${table.name}`;
    log.warn("the table's definition changed, it is copied again", { table: subject, reason });
    for (const path of paths) await storage.remove(path);
    const message = `table ${subject} is copied again: ${reason}`;
    await addEvent(db, group, { severity: "warning", code: "TABLE_CHANGED", subject, message });
  }
  return { tables: await readTables(db, group), complete };
}

/** `late`: those that were stored or stopped since. What waits for its cut has just been registered as it is wanted. */
function sortLate(
  before: readonly Table[],
  now: readonly Table[],
): { readonly late: ReadonlySet<Table>; readonly tables: readonly Table[] } {
  const byId = new Map(before.map((table) => [table.tableId, table]));
  const isLate = (table: Table): boolean => {
    const was = byId.get(table.tableId);
    if (!was || table.state === "pending" || table.state === "removed") return false;
    const same = was.generation === table.generation && was.schemaVersion === table.schemaVersion;
    return !same || isStopped(was) !== isStopped(table) || !isDeepStrictEqual(was.traces, table.traces);
  };
  const late = new Set(now.filter(isLate));
  return { late, tables: now.filter((table) => !late.has(table)) };
}

/** It met another definition than its own, and is copied again with the one that it has then. */
function isStopped({ error }: Table): boolean {
  return error?.code === "TABLE_CHANGED";
}

// They are no longer in the manifest, so nobody reads them; one that stays is an orphan and goes by age.
async function removeFiles(storage: Storage, registration: Registration): Promise<void> {
  for (const path of registration.removedPaths) await storage.remove(path);
}

/** What is to be registered, each table with its stream. */
export async function wantedTables(db: Queryable, config: Config, discovery: Discovery): Promise<WantedTable[]> {
  return assignStreams(await readTables(db, config.group), toWanted(discovery), wantedStreams(config));
}

export function toWanted({ selection, types, catalog }: Discovery): WantedTable[] {
  return selection.tables.map(({ table, mode }) => ({
    schema: table.schema,
    name: table.name,
    oid: table.oid,
    mode,
    stream: mode === "copy-only" ? null : FIRST_STREAM,
    identity: table.identity,
    columns: planColumns(table.columns, types).map(({ source, fileName }) => ({ ...source, fileName })),
    traces: table.traces,
    listed: table.filtered && catalog.serverVersion >= 150000,
  }));
}

/**
 * New tables go to the stream with the fewest; others keep theirs. Two workers that register at once may choose
 * differently: the metadata keep what was stored first.
 */
export function assignStreams(
  known: readonly Pick<Table, "schema" | "name" | "stream" | "state">[],
  wanted: readonly WantedTable[],
  streams: readonly number[],
): WantedTable[] {
  const stored = new Map(known.map((table) => [nameKey(table), table.stream]));
  const counts = new Map(streams.map((stream) => [stream, 0]));
  const count = (stream: number) => counts.set(stream, (counts.get(stream) ?? 0) + 1);
  for (const { stream, state } of known) if (stream !== null && state !== "removed") count(stream);
  return wanted.map((table) => {
    if (table.mode === "copy-only") return table;
    const before = stored.get(nameKey(table)) ?? null;
    if (before !== null) return { ...table, stream: before };
    const stream = streams.reduce((least, one) => (counts.get(one)! < counts.get(least)! ? one : least));
    count(stream);
    return { ...table, stream };
  });
}

/** The streams that new tables go to. */
export function wantedStreams({ stream }: Config): number[] {
  return Array.from({ length: stream.streamCount }, (_, index) => FIRST_STREAM + index);
}

/** A stream's tables as they are stored now, by relation OID. */
export function streamTables(
  tables: readonly Table[],
  types: ReadonlyMap<number, PgType>,
  schemas: Config["schemas"],
  stream: number,
  versions: ReadonlyMap<number, ReadonlyMap<number, readonly TableColumn[]>> = new Map(),
): Map<number, StreamTable> {
  const mirrored = tables.filter(
    (table) => table.stream === stream && table.state !== "removed" && table.state !== "paused",
  );
  return new Map(
    mirrored.map((table): [number, StreamTable] => {
      const { tableId, generation, schemaVersion, relationOid: oid, schema, name, identity } = table;
      const { onInexact, bloomFilter = [] } = tableConfig({ schemas }, schema, name);
      const columns = withBloomFilters(planColumns(table.columns, types), bloomFilter);
      const cut: TableCut = table.state === "error" || table.cutLsn === null ? "unknown" : table.cutLsn;
      const wants = wantsColumn(schemas, schema, name);
      const exactOnly = onInexact === "error";
      const known = versions.get(tableId);
      const stored = {
        tableId,
        generation,
        schemaVersion,
        oid,
        schema,
        name,
        identity,
        columns,
        wants,
        exactOnly,
        cut,
      };
      return [oid, known ? { ...stored, versions: [...known.values()] } : stored];
    }),
  );
}

function wantsColumn(schemas: Config["schemas"], schema: string, table: string): (column: string) => boolean {
  const ofSchema = schemas[schema];
  const wish = ofSchema === undefined || ofSchema === "*" ? undefined : ofSchema[table];
  const { includeColumns, excludeColumns } = wish ?? {};
  return (column) => (includeColumns?.includes(column) ?? true) && !excludeColumns?.includes(column);
}

/**
 * Whether the slot may send values in binary: every column that may come has a binary decoder here, or comes as text
 * anyway because its type cannot be sent in binary. A type that contains such a one would jam the slot; it has no
 * decoder either.
 */
export function binaryPossible({ catalog, selection, types }: Discovery): boolean {
  const streamed = new Set(selection.tables.filter(({ mode }) => mode !== "copy-only").map(({ table }) => table.oid));
  return catalog.tables
    .filter((table) => streamed.has(table.oid))
    .every((table) =>
      planColumns(table.columns, types).every(
        (plan) => plan.binary || types.get(plan.source.typeOid)?.hasSend === false,
      ),
    );
}
