// Which publications a stream needs and the least statements that bring them there. Pure.
//
// A published table without a replica identity makes the application's own UPDATE and DELETE fail, and so does a column
// list that does not cover the identity. Hence two publications, read by one slot: one for tables with an identity, and
// one that publishes only INSERT and TRUNCATE; and no column list where the table or a leaf is REPLICA IDENTITY FULL.
// Source: https://www.postgresql.org/docs/current/logical-replication-publication.html
import pg from "pg";
import { PgFloError } from "../base/errors.ts";
import { quotedName, type SelectedTable } from "./selection.ts";

export interface PublicationNames {
  /** All operations, for tables with an identity. */
  readonly all: string;
  /** INSERT and TRUNCATE, for tables without. */
  readonly insert: string;
}

/** The two publications of a stream. Both are always there, so that the slot's options never change. */
export function publicationNames(group: string, stream = 1): PublicationNames {
  const all = `pg_flo_${group}_${stream}`;
  const insert = `${all}_insert`;
  if (Buffer.byteLength(insert) > 63) {
    throw new PgFloError("CONFIG_INVALID", `group ${JSON.stringify(group)}, too long for a publication's name`, {
      fix: "use 40 characters at most",
    });
  }
  return { all, insert };
}

/** What our publications carry as their comment: how they are told from somebody else's of the same name. */
export function publicationComment(group: string): string {
  return `pg-flo group ${group}`;
}

/** A table as a publication has it or should have it. */
export interface PublishedTable {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** In attnum order; null is all columns, also later ones. */
  readonly columns: readonly string[] | null;
}

export interface OwnPublication {
  readonly name: string;
  readonly options: PublicationOptions;
  readonly tables: readonly PublishedTable[];
}

export interface PublicationOptions {
  readonly insert: boolean;
  readonly update: boolean;
  readonly delete: boolean;
  readonly truncate: boolean;
  readonly viaRoot: boolean;
  /** Stored generated columns; PostgreSQL 18 and later, else false. */
  readonly generatedStored: boolean;
}

/** What a publication gains, loses, and carries with other columns from now on. */
export interface PublicationChange {
  readonly publication: string;
  readonly added: readonly PublishedTable[];
  readonly removed: readonly PublishedTable[];
  readonly changed: readonly PublishedTable[];
}

/** Both publications as they should be, all-operations first. Tables that are only copied are in none. */
export function desiredPublications(
  names: PublicationNames,
  selected: readonly SelectedTable[],
  serverVersion: number,
): OwnPublication[] {
  const streamed = selected.filter(({ mode }) => mode !== "copy-only").map(({ table }) => table);
  const published = (wanted: boolean) =>
    streamed
      .filter((table) => (table.identity.kind !== "none") === wanted)
      .map(({ oid, schema, name, columns, filtered, columnListAllowed, identity }) => ({
        oid,
        schema,
        name,
        columns:
          filtered && serverVersion >= 150000 && (columnListAllowed || identity.kind === "none")
            ? columns.map((column) => column.name)
            : null,
      }));
  // Always on: a REPLICA IDENTITY FULL table with such a column could not be updated otherwise, also one added later.
  const generatedStored = serverVersion >= 180000;
  const options = { insert: true, truncate: true, viaRoot: true, generatedStored };
  return [
    { name: names.all, options: { ...options, update: true, delete: true }, tables: published(true) },
    { name: names.insert, options: { ...options, update: false, delete: false }, tables: published(false) },
  ];
}

/** What must change in the tables of one publication. */
export function publicationChange(current: OwnPublication, desired: OwnPublication): PublicationChange {
  const have = new Map(current.tables.map((table) => [table.oid, table]));
  const want = new Map(desired.tables.map((table) => [table.oid, table]));
  return {
    publication: desired.name,
    added: desired.tables.filter(({ oid }) => !have.has(oid)),
    removed: current.tables.filter(({ oid }) => !want.has(oid)),
    changed: desired.tables.filter((table) => {
      const old = have.get(table.oid);
      return old !== undefined && !sameColumnList(old.columns, table.columns);
    }),
  };
}

/** The changes that concern the first `tablesMost` tables: the rest is for later transactions. */
export function firstChanges(changes: readonly PublicationChange[], tablesMost: number): PublicationChange[] {
  const touched = changes.flatMap(({ added, removed, changed }) => [...added, ...removed, ...changed]);
  const part = new Set([...new Set(touched.map(({ oid }) => oid))].slice(0, tablesMost));
  const inPart = ({ oid }: PublishedTable) => part.has(oid);
  return changes.map(({ publication, added, removed, changed }) => ({
    publication,
    added: added.filter(inPart),
    removed: removed.filter(inPart),
    changed: changed.filter(inPart),
  }));
}

/**
 * For one transaction: a table that moves leaves one publication and enters the other at the same commit. Changed
 * columns are a DROP and an ADD: SET TABLE would lock and rewrite all tables.
 */
export function changeStatements(changes: readonly PublicationChange[]): string[] {
  return [
    ...changes.flatMap(({ publication, removed, changed }) => alter(publication, "DROP", [...removed, ...changed])),
    ...changes.flatMap(({ publication, added, changed }) => alter(publication, "ADD", [...added, ...changed])),
  ];
}

/** CREATE PUBLICATION without tables, which come by `changeTransactions`. */
export function createStatements({ name, options }: OwnPublication, comment: string): string[] {
  return [
    `CREATE PUBLICATION ${pg.escapeIdentifier(name)} WITH (${optionList(options)})`,
    `COMMENT ON PUBLICATION ${pg.escapeIdentifier(name)} IS ${pg.escapeLiteral(comment)}`,
  ];
}

/** ALTER PUBLICATION … SET (…), or nothing. */
export function optionStatements(current: OwnPublication, desired: OwnPublication): string[] {
  const keys = Object.keys(desired.options) as (keyof PublicationOptions)[];
  const same = keys.every((key) => current.options[key] === desired.options[key]);
  return same ? [] : [`ALTER PUBLICATION ${pg.escapeIdentifier(desired.name)} SET (${optionList(desired.options)})`];
}

function optionList(options: PublicationOptions): string {
  const operations = (["insert", "update", "delete", "truncate"] as const).filter((operation) => options[operation]);
  return [
    `publish = '${operations.join(", ")}'`,
    `publish_via_partition_root = ${options.viaRoot}`,
    ...(options.generatedStored ? ["publish_generated_columns = stored"] : []),
  ].join(", ");
}

function alter(publication: string, verb: "ADD" | "DROP", tables: readonly PublishedTable[]): string[] {
  if (tables.length === 0) return [];
  // ONLY: without it the children of an inheritance parent would be published with it.
  const list = tables.map((table) => {
    const columns = verb === "ADD" && table.columns !== null ? ` (${table.columns.map(identifier).join(", ")})` : "";
    return `ONLY ${quotedName(table)}${columns}`;
  });
  return [`ALTER PUBLICATION ${identifier(publication)} ${verb} TABLE ${list.join(", ")}`];
}

function identifier(name: string): string {
  return pg.escapeIdentifier(name);
}

function sameColumnList(a: readonly string[] | null, b: readonly string[] | null): boolean {
  if (a === null || b === null) return a === b;
  const names = new Set(a);
  return names.size === b.length && b.every((column) => names.has(column));
}
