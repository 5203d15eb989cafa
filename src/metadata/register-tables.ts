// Brings the tables of a group in line with the config and the source's catalog. Every worker does it at its start;
// they take turns by the lock on the group's row, and all but the first find nothing to do.
// It refuses to overwrite columns or an identity that files were written with: it tells them as `changed`.
import { isDeepStrictEqual } from "node:util";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { TableMode } from "../config/config.ts";
import type { ReplicaIdentity } from "../postgres/catalog.ts";
import type { DefinitionTraces } from "../postgres/definition-traces.ts";
import { equalParts, sameParts } from "../postgres/type-parts.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { planRenames, renameTables } from "./rename-tables.ts";
import { nameKey, type TableName } from "./table-name.ts";
import { legalFrom } from "./table-state.ts";
import { beginAnew, readTables, type Table, type TableColumn } from "./tables.ts";

export interface WantedTable {
  readonly schema: string;
  readonly name: string;
  readonly oid: number;
  readonly mode: TableMode;
  /** For a table that is new or begins anew; others stick to their stream. Null for copy-only. */
  readonly stream: number | null;
  readonly identity: ReplicaIdentity;
  readonly columns: readonly TableColumn[];
  readonly traces?: DefinitionTraces;
  /** The publication names its columns one by one. */
  readonly listed?: boolean;
}

export interface ChangedTable {
  readonly table: Table;
  /** What the source has now, where it differs from what is stored. `alterTable` or `copyAgain` deals with it. */
  readonly columns: readonly TableColumn[] | null;
  readonly identity: ReplicaIdentity | null;
}

export interface Registration {
  /** Every table of the group as it is stored now, removed ones included. */
  readonly tables: readonly Table[];
  readonly addedIds: readonly number[];
  readonly removedIds: readonly number[];
  /** Configured again, given another mode, or dropped and created again at the source: they begin anew. */
  readonly restartedIds: readonly number[];
  readonly changed: readonly ChangedTable[];
  /** Files of the restarted tables, no longer in the manifest: the caller may delete them. */
  readonly removedPaths: readonly string[];
  /** Tables that go on under another name. */
  readonly renamed: readonly { readonly from: TableName; readonly to: TableName }[];
}

/**
 * Registers exactly these tables for the group. Idempotent, race-free, all or nothing.
 * GROUP_MISSING: `registerGroup` comes first.
 */
export async function registerTables(
  db: Queryable,
  group: string,
  wanted: readonly WantedTable[],
): Promise<Registration> {
  return transaction(db, async (transaction) => {
    const locked = await row(transaction, "select 1 from _pg_flo.groups where name = $1 for no key update", [group]);
    if (!locked) throw new PgFloError("GROUP_MISSING", `group ${group}, not known to the metadata database, 0 rows`);
    const stored = await readTables(transaction, group);
    const renames = planRenames(stored, wanted);
    const replacedPaths = await renameTables(transaction, group, renames);
    const plan = planRegistration(renames.length === 0 ? stored : await readTables(transaction, group), wanted);
    const addedIds = await insertTables(transaction, group, plan.added);
    const removedIds = await removeTables(transaction, plan.removed);
    // Two calls, because the two events are legal in different states; ids in one call are locked in order.
    const again = await beginAnew(transaction, group, ids(plan.configuredAgain), "configuredAgain");
    const anew = await beginAnew(transaction, group, ids(plan.restarted), "copyAgain");
    await storeDefinitions(transaction, [...plan.configuredAgain, ...plan.restarted], plan.refreshed);
    await storeParts(transaction, plan.extended);
    failpoint("tables.in-registration");
    const tables = await readTables(transaction, group);
    return {
      tables,
      addedIds,
      removedIds,
      restartedIds: [...again.tableIds, ...anew.tableIds],
      changed: changedTables(tables, wanted),
      removedPaths: [...replacedPaths, ...again.paths, ...anew.paths],
      renamed: renames.map(({ known, wanted: now }) => ({ from: known, to: now })),
    };
  });
}

export interface KnownAndWanted {
  readonly known: Table;
  readonly wanted: WantedTable;
}

export interface RegistrationPlan {
  readonly added: readonly WantedTable[];
  readonly removed: readonly Table[];
  readonly configuredAgain: readonly KnownAndWanted[];
  readonly restarted: readonly KnownAndWanted[];
  /** Still pending, nothing was written yet: a new definition is simply stored. */
  readonly refreshed: readonly KnownAndWanted[];
  /** Their types got labels, or their parts were not known yet: no value looks otherwise, but later changes must show. */
  readonly extended: readonly KnownAndWanted[];
}

/** Pure: what has to happen so that the stored tables are the wanted ones. */
export function planRegistration(known: readonly Table[], wanted: readonly WantedTable[]): RegistrationPlan {
  const byName = new Map(known.map((table) => [nameKey(table), table]));
  const wantedNames = new Set(wanted.map(nameKey));
  const added: WantedTable[] = [];
  const configuredAgain: KnownAndWanted[] = [];
  const restarted: KnownAndWanted[] = [];
  const refreshed: KnownAndWanted[] = [];
  const extended: KnownAndWanted[] = [];
  for (const table of wanted) {
    const stored = byName.get(nameKey(table));
    if (!stored) added.push(table);
    else if (stored.state === "removed") configuredAgain.push({ known: stored, wanted: table });
    else if (stored.mode !== table.mode || stored.relationOid !== table.oid) {
      restarted.push({ known: stored, wanted: table });
    } else if (stored.state === "pending" && !(sameDefinition(stored, table) && sameTraces(stored, table))) {
      refreshed.push({ known: stored, wanted: table });
    } else if (sameDefinition(stored, table) && !equalTypeParts(stored, table)) {
      extended.push({ known: stored, wanted: table });
    }
  }
  const removed = known.filter((table) => table.state !== "removed" && !wantedNames.has(nameKey(table)));
  return { added, removed, configuredAgain, restarted, refreshed, extended };
}

function changedTables(tables: readonly Table[], wanted: readonly WantedTable[]): ChangedTable[] {
  const byName = new Map(tables.map((table) => [nameKey(table), table]));
  return wanted.flatMap((now) => {
    const table = byName.get(nameKey(now));
    // A paused table is read anew when its pause ends.
    if (!table || table.state === "paused" || sameDefinition(table, now)) return [];
    return [
      {
        table,
        columns: sameColumns(table.columns, now.columns) ? null : now.columns,
        identity: sameIdentity(table.identity, now.identity) ? null : now.identity,
      },
    ];
  });
}

async function insertTables(db: Queryable, group: string, added: readonly WantedTable[]): Promise<number[]> {
  if (added.length === 0) return [];
  const records = added.map((table) => ({ ...table, stream: table.mode === "copy-only" ? null : table.stream }));
  const inserted = await rows<{ table_id: string }>(
    db,
    `with given as (
       select * from jsonb_to_recordset($2::jsonb) as given(schema text, name text, oid bigint, mode text, stream int,
         identity jsonb, columns jsonb, traces jsonb)
     ), inserted as (
       insert into _pg_flo.tables (group_name, schema_name, table_name, relation_oid, mode, stream, identity, traces)
       select $1, schema, name, oid, mode, stream, identity, traces from given order by schema, name
       returning table_id, schema_name, table_name, schema_version
     ), versions as (
       insert into _pg_flo.table_versions (group_name, table_id, schema_version, columns)
       select $1, i.table_id, i.schema_version, given.columns
       from inserted i join given on given.schema = i.schema_name and given.name = i.table_name)
     select table_id from inserted order by table_id`,
    [group, JSON.stringify(records)],
  );
  return inserted.map((table) => Number(table.table_id));
}

async function removeTables(db: Queryable, removed: readonly Table[]): Promise<number[]> {
  if (removed.length === 0) return [];
  const gone = await rows<{ table_id: string }>(
    db,
    `with chosen as (
       select table_id from _pg_flo.tables where table_id = any($1::bigint[]) and state = any($2)
       order by table_id for no key update)
     update _pg_flo.tables t set state = 'removed', error = null, updated_at = now()
     from chosen where t.table_id = chosen.table_id returning t.table_id`,
    [removed.map((table) => table.tableId), legalFrom("unconfigured")],
  );
  const goneIds = gone.map((table) => Number(table.table_id));
  await rows(db, "delete from _pg_flo.copy_ranges where table_id = any($1::bigint[])", [goneIds]);
  return goneIds;
}

/**
 * `begun`: by this transaction. All are pending, so no file of their generation knows another definition. Those that
 * were pending before it are other tables now too: whoever is about to give them a cut means the ones before.
 */
export async function storeDefinitions(
  db: Queryable,
  begun: readonly KnownAndWanted[],
  waiting: readonly KnownAndWanted[] = [],
): Promise<void> {
  if (begun.length + waiting.length === 0) return;
  const records = [...begun, ...waiting].map((each) => {
    const { known, wanted } = each;
    return {
      ...wanted,
      table_id: known.tableId,
      stream: wanted.mode === "copy-only" ? null : (known.stream ?? wanted.stream),
      schema_version: known.schemaVersion + (sameColumns(known.columns, wanted.columns) ? 0 : 1),
      grown: waiting.includes(each) ? 1 : 0,
    };
  });
  await rows(
    db,
    `with given as (
       select * from jsonb_to_recordset($1::jsonb) as given(table_id bigint, oid bigint, mode text, stream int,
         schema_version int, grown int, identity jsonb, columns jsonb, traces jsonb)
     ), chosen as (
       select t.table_id, t.schema_version as known_version from _pg_flo.tables t join given using (table_id)
       where t.state = 'pending' order by t.table_id for no key update of t
     ), versions as (
       insert into _pg_flo.table_versions (group_name, table_id, schema_version, columns)
       select t.group_name, t.table_id, g.schema_version, g.columns
       from chosen c join given g using (table_id) join _pg_flo.tables t using (table_id)
       where g.schema_version > c.known_version
     ), outdated as (
       delete from _pg_flo.table_versions v using chosen c join given g using (table_id)
       where v.table_id = c.table_id and v.schema_version < g.schema_version)
     update _pg_flo.tables t set relation_oid = g.oid, mode = g.mode, stream = g.stream, identity = g.identity,
       schema_version = g.schema_version, generation = t.generation + g.grown, traces = g.traces, updated_at = now()
     from given g, chosen where g.table_id = chosen.table_id and t.table_id = g.table_id`,
    [JSON.stringify(records)],
  );
}

async function storeParts(db: Queryable, tables: readonly KnownAndWanted[]): Promise<void> {
  for (const { known, wanted } of tables) {
    await rows(db, "update _pg_flo.table_versions set columns = $3 where table_id = $1 and schema_version = $2", [
      known.tableId,
      known.schemaVersion,
      // The catalog forgets what is missing in older rows when they are rewritten; files still lack it.
      JSON.stringify(wanted.columns.map((column, k) => ({ ...column, missing: known.columns[k]!.missing }))),
    ]);
  }
}

function ids(tables: readonly KnownAndWanted[]): number[] {
  return tables.map(({ known }) => known.tableId);
}

function sameDefinition(stored: Table, wanted: WantedTable): boolean {
  return sameColumns(stored.columns, wanted.columns) && sameIdentity(stored.identity, wanted.identity);
}

function sameColumns(left: readonly TableColumn[], right: readonly TableColumn[]): boolean {
  const parts = (columns: readonly TableColumn[]) =>
    JSON.stringify(
      columns.map((c) => [
        c.attnum,
        c.name,
        c.typeOid,
        c.typmod,
        c.typeName,
        c.notNull,
        c.generated,
        c.fileName,
        c.writtenAs,
      ]),
    );
  return parts(left) === parts(right) && left.every((c, k) => sameParts(c.typeParts, right[k]!.typeParts));
}

function sameTraces({ traces }: Table, wanted: WantedTable): boolean {
  return wanted.traces === undefined || isDeepStrictEqual(traces, wanted.traces);
}

function equalTypeParts(stored: Table, wanted: WantedTable): boolean {
  return stored.columns.every((c, k) => equalParts(c.typeParts, wanted.columns[k]!.typeParts));
}

function sameIdentity(left: ReplicaIdentity, right: ReplicaIdentity): boolean {
  const parts = (identity: ReplicaIdentity) =>
    JSON.stringify([identity.kind, identity.kind === "none" ? [] : identity.columns]);
  return parts(left) === parts(right);
}
