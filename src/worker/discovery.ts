// What the group mirrors now: the config's wishes against the source's catalog, brought into the metadata.
import type { ClientBase } from "pg";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/config.ts";
import { addEvent } from "../metadata/events.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { type Registration, registerTables, type WantedTable } from "../metadata/register-tables.ts";
import { copyAgain, readTables, type Table, type TableColumn } from "../metadata/tables.ts";
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

/**
 * Brings the metadata's tables in line. A table whose definition changed so that its files cannot go on begins anew;
 * any other change is stored when the stream comes to it (definitions.ts).
 */
export async function register(
  db: Queryable,
  group: string,
  wanted: readonly WantedTable[],
  storage: Storage,
  log: Log,
  emptyLeaves: EmptyLeaves,
): Promise<readonly Table[]> {
  let registration = await registerTables(db, group, wanted);
  failpoint("tables.registered");
  await removeFiles(storage, registration);
  for (const { from, to } of registration.renamed) {
    const [before, subject] = [`${from.schema}.${from.name}`, `${to.schema}.${to.name}`];
    log.info("the table goes on under another name", { table: subject, before });
    const message = `table ${subject} was ${before}, its files are listed under the new name`;
    await addEvent(db, group, { severity: "info", code: "TABLE_RENAMED", subject, message });
  }
  // A definition that changed and changed back is the registered one again, but the changes between were dropped.
  const stopped = registration.tables.filter(({ error }) => error?.code === "TABLE_CHANGED");
  const again = new Map(stopped.map((table) => [table, table.error!.message]));
  for (const { table, reason } of await tablesToCopy(db, group, registration, wanted, emptyLeaves)) {
    if (!stopped.includes(table)) again.set(table, reason);
  }
  if (again.size === 0) return registration.tables;
  for (const [table, reason] of again) {
    const subject = `${table.schema}.${table.name}`;
    log.warn("the table's definition changed, it is copied again", { table: subject, reason });
    for (const path of (await copyAgain(db, group, table.tableId)) ?? []) await storage.remove(path);
    const message = `table ${subject} is copied again: ${reason}`;
    await addEvent(db, group, { severity: "warning", code: "TABLE_CHANGED", subject, message });
  }
  registration = await registerTables(db, group, wanted);
  return registration.tables;
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
  const key = ({ schema, name }: { readonly schema: string; readonly name: string }) => JSON.stringify([schema, name]);
  const stored = new Map(known.map((table) => [key(table), table.stream]));
  const counts = new Map(streams.map((stream) => [stream, 0]));
  const count = (stream: number) => counts.set(stream, (counts.get(stream) ?? 0) + 1);
  for (const { stream, state } of known) if (stream !== null && state !== "removed") count(stream);
  return wanted.map((table) => {
    if (table.mode === "copy-only") return table;
    const before = stored.get(key(table)) ?? null;
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
