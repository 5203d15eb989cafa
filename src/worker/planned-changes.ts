// What the source's definitions mean for the tables that are registered, by metadata/schema-changes.ts. Nothing is stored.
import type { ClientBase } from "pg";
import type { Queryable } from "../metadata/queryable.ts";
import type { Registration, WantedTable } from "../metadata/register-tables.ts";
import { looksLike, planSchemaChange, type SchemaChange, unknownLeaves } from "../metadata/schema-changes.ts";
import { nameKey } from "../metadata/table-name.ts";
import { readVersions } from "../metadata/table-versions.ts";
import type { Table, TableColumn } from "../metadata/tables.ts";

/** Of these partitions, those that have no rows. */
export type EmptyLeaves = (oids: readonly number[]) => Promise<ReadonlySet<number>>;

export interface PlannedChange {
  readonly table: Table;
  readonly wanted: WantedTable;
  readonly change: SchemaChange<TableColumn>;
}

export function emptyLeavesAt(source: ClientBase): EmptyLeaves {
  return async (oids) => {
    if (oids.length === 0) return new Set();
    const { rows } = await source.query<{ oid: number }>(
      "select oid from pg_class where oid = any($1::oid[]) and pg_relation_size(oid) = 0",
      [oids],
    );
    return new Set(rows.map(({ oid }) => oid));
  };
}

/** What changed in tables that the stream follows. Nothing is stored. */
export async function planChanges(
  db: Queryable,
  group: string,
  tables: readonly Table[],
  wanted: readonly WantedTable[],
  emptyLeaves: EmptyLeaves,
): Promise<PlannedChange[]> {
  const versions = await readVersions(db, group);
  const followed = new Map(tables.filter(isFollowed).map((table) => [nameKey(table), table]));
  const pairs = wanted.flatMap((now) => {
    const table = followed.get(nameKey(now));
    return table && table.relationOid === now.oid && table.mode === now.mode ? [{ table, now }] : [];
  });
  const empty = await emptyLeaves(pairs.flatMap(({ table, now }) => unknownLeaves(table.traces, now.traces ?? null)));
  return pairs.map(({ table, now }) => {
    const change = changeOf(table, now, empty);
    if (change.kind === "version" && table.state === "copying" && !onlyAdds(table, now)) {
      return { table, wanted: now, change: { kind: "copy", reason: `${change.summary}, while it was copied` } };
    }
    const others = [...(versions.get(table.tableId)?.values() ?? [])];
    if (change.kind !== "version" || !others.some((columns) => looksLike(columns, change.columns))) {
      return { table, wanted: now, change };
    }
    const reason = "other columns have the names and types of columns that are gone, the log cannot tell them apart";
    return { table, wanted: now, change: { kind: "copy", reason } };
  });
}

/** What leads from the registered definition to the wanted one. */
export function changeOf(table: Table, now: WantedTable, emptyLeaves: ReadonlySet<number>): SchemaChange<TableColumn> {
  return planSchemaChange(table, { ...now, traces: now.traces ?? null }, { listed: now.listed === true, emptyLeaves });
}

/** A copy that is under way reads the columns that it began with, by their names. */
function onlyAdds(table: Table, now: WantedTable): boolean {
  return table.columns.every(({ name, attnum, typeOid, typmod }) =>
    now.columns.some((c) => c.attnum === attnum && c.name === name && c.typeOid === typeOid && c.typmod === typmod),
  );
}

export function isFollowed({ stream, state }: Table): boolean {
  return stream !== null && (state === "copying" || state === "streaming");
}

/** Tables that can only be copied again, when a session begins. */
export async function tablesToCopy(
  db: Queryable,
  group: string,
  { tables, changed }: Pick<Registration, "tables" | "changed">,
  wanted: readonly WantedTable[],
  emptyLeaves: EmptyLeaves,
): Promise<{ readonly table: Table; readonly reason: string }[]> {
  const planned = await planChanges(db, group, tables, wanted, emptyLeaves);
  const followed = planned.flatMap(({ table, change }) =>
    change.kind === "copy" ? [{ table, reason: change.reason }] : [],
  );
  // Nothing follows the others: only a copy shows them as they are.
  const others = changed.filter(({ table }) => !isFollowed(table) && table.state !== "pending");
  return [...followed, ...others.map(({ table }) => ({ table, reason: "its definition changed" }))];
}
