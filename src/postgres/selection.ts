// Which tables and columns are mirrored: the config's wishes against the catalog. Pure.
// Refuses to leave a wish silently unfulfilled: whatever is asked for and not mirrored becomes a finding.
import pg from "pg";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import type { Catalog, CatalogTable, OtherRelation, SourceColumn } from "./catalog.ts";
import type { Finding } from "./finding.ts";

export type SelectionMode = "copy-and-stream" | "stream-only" | "copy-only";

/** What the config says about one table. */
export interface TableWish {
  readonly mode: SelectionMode;
  readonly includeColumns?: readonly string[];
  readonly excludeColumns?: readonly string[];
}

/** `"*"`: every table of the schema. */
export type SchemaWishes = Readonly<Record<string, "*" | Readonly<Record<string, TableWish>>>>;

/** `table.columns` are the mirrored ones, `table.filtered` tells whether the config left some out. */
export interface SelectedTable {
  readonly table: CatalogTable;
  readonly mode: SelectionMode;
}

export interface Selection {
  readonly tables: readonly SelectedTable[];
  readonly problems: readonly Finding[];
}

export interface SelectionOptions {
  /** Whether the stream carries stored generated columns; default: on PostgreSQL 18 and later. */
  readonly streamsStoredGenerated?: boolean;
}

/** Never fails: what cannot be fulfilled is in `problems`, errors among them when a name in the config is wrong. */
export function selectTables(catalog: Catalog, schemas: SchemaWishes, options: SelectionOptions = {}): Selection {
  const streamsStored = options.streamsStoredGenerated ?? catalog.serverVersion >= 180000;
  const tables: SelectedTable[] = [];
  const problems: Finding[] = [];
  for (const [schema, wish] of Object.entries(schemas)) {
    const refusal = schemaRefusal(catalog, schema);
    if (refusal) {
      problems.push(refusal);
      continue;
    }
    const ofSchema = catalog.tables.filter((table) => table.schema === schema);
    const others = catalog.others.filter((other) => other.schema === schema);
    const wishes =
      wish === "*" ? new Map(ofSchema.map((table) => [table.name, everything])) : new Map(Object.entries(wish));
    if (wish === "*") problems.push(...wildcardFindings(schema, ofSchema, others));
    const byName = new Map(ofSchema.map((table) => [table.name, table]));
    for (const [name, tableWish] of wishes) {
      const table = byName.get(name);
      if (!table) {
        problems.push(missingTable(schema, name, ofSchema, others));
        continue;
      }
      const { selected, findings } = selectColumns(table, tableWish, streamsStored);
      problems.push(...findings);
      if (selected) tables.push(selected);
    }
  }
  return { tables, problems };
}

/** `"schema"."name"`, as SQL wants it. */
export function quotedName(relation: { readonly schema: string; readonly name: string }): string {
  return `${pg.escapeIdentifier(relation.schema)}.${pg.escapeIdentifier(relation.name)}`;
}

const everything: TableWish = { mode: "copy-and-stream" };

function schemaRefusal(catalog: Catalog, schema: string): Finding | undefined {
  if (catalog.schemas.includes(schema)) return undefined;
  if (schema.startsWith("pg_") || schema === "information_schema" || schema === METADATA_SCHEMA) {
    return problem("error", "schema-refused", `schema ${schema}`, "is never mirrored", "remove it from the config");
  }
  const near = nearNames(schema, catalog.schemas);
  return problem(
    "error",
    "schema-missing",
    `schema ${schema}`,
    `does not exist${near}`,
    "correct the name in the config",
  );
}

function wildcardFindings(
  schema: string,
  tables: readonly CatalogTable[],
  others: readonly OtherRelation[],
): Finding[] {
  const findings: Finding[] = [];
  if (tables.length === 0) {
    findings.push(problem("warning", "schema-empty", `schema ${schema}`, "has no table that can be mirrored", ""));
  }
  const byReason = Map.groupBy(others, (other) => other.reason);
  for (const [reason, group] of byReason) {
    if (reason === "partition") continue; // they come with their roots
    // Rows that someone may expect in the mirror, or only another view on them.
    const severity = reason.includes("view") || reason === "table of an extension" ? "info" : "warning";
    const names = group.slice(0, 10).map(({ name }) => name);
    const more = group.length > names.length ? ` and ${group.length - names.length} more` : "";
    const message = `not mirrored, ${reason}: ${names.join(", ")}${more}`;
    findings.push(problem(severity, "not-mirrored", `schema ${schema}`, message, otherFix(group[0]!)));
  }
  return findings;
}

function missingTable(
  schema: string,
  name: string,
  tables: readonly CatalogTable[],
  others: readonly OtherRelation[],
): Finding {
  const subject = `table ${schema}.${name}`;
  const other = others.find((each) => each.name === name);
  if (!other) {
    const near = nearNames(
      name,
      tables.map((table) => table.name),
    );
    return problem("error", "table-missing", subject, `does not exist${near}`, "correct the name in the config");
  }
  const related = other.related ? ` (${other.related.schema}.${other.related.name})` : "";
  const message =
    other.reason === "partition"
      ? `is a partition of ${other.related?.schema}.${other.related?.name}; partitions come with their root`
      : `cannot be mirrored, ${other.reason}${related}`;
  return problem("error", "not-mirrored", subject, message, otherFix(other));
}

function otherFix(other: OtherRelation): string {
  switch (other.reason) {
    case "partition":
      return `name ${other.related?.schema}.${other.related?.name} in the config instead`;
    case "unlogged table":
      return `ALTER TABLE ${quotedName(other)} SET LOGGED;`;
    case "partitioned table with an unlogged partition":
      return `ALTER TABLE ${quotedName(other.related ?? other)} SET LOGGED;`;
    case "partitioned table with a foreign partition":
      return `ALTER TABLE ${quotedName(other)} DETACH PARTITION ${quotedName(other.related ?? other)};`;
    default:
      return "mirror the tables that it reads from";
  }
}

interface ColumnSelection {
  readonly selected: SelectedTable | undefined;
  readonly findings: readonly Finding[];
}

function selectColumns(table: CatalogTable, wish: TableWish, streamsStored: boolean): ColumnSelection {
  const subject = `table ${table.schema}.${table.name}`;
  const findings: Finding[] = unknownColumns(table, wish, subject);
  const wished = (column: SourceColumn) =>
    (wish.includeColumns === undefined || wish.includeColumns.includes(column.name)) &&
    !wish.excludeColumns?.includes(column.name);
  // Without them an UPDATE or DELETE could not say which row it means.
  const required = new Set(wish.mode === "copy-only" ? [] : requiredColumns(table));
  const refused = wish.excludeColumns?.filter((column) => required.has(column)) ?? [];
  if (refused.length > 0) {
    const message = `excludes ${refused.join(", ")}, which the replica identity needs`;
    findings.push(problem("error", "identity-column-excluded", subject, message, "remove it from exclude_columns"));
  }
  const chosen = table.columns.filter((column) => wished(column) || required.has(column.name));
  const added = chosen.filter((column) => !wished(column) && !refused.includes(column.name));
  if (added.length > 0) {
    const message = `mirrors ${names(added)} too: the replica identity needs it`;
    findings.push(problem("info", "identity-column-added", subject, message, "add it to include_columns"));
  }
  const unsent = wish.mode === "copy-only" ? [] : chosen.filter((column) => !isStreamed(column, streamsStored));
  if (unsent.length > 0) {
    const message = `leaves out the generated column ${names(unsent)}: this server's log does not carry it`;
    findings.push(problem("warning", "generated-column", subject, message, generatedFix(unsent)));
  }
  const columns = chosen.filter((column) => !unsent.includes(column));
  if (columns.length === 0) {
    // One that nobody asked for by its name must not keep the others of its schema from being mirrored.
    const severity = wish === everything ? "warning" : "error";
    findings.push(
      problem(severity, "no-columns", subject, "has no column left to mirror", "include at least one column"),
    );
    return { selected: undefined, findings };
  }
  const filtered = chosen.length < table.columns.length;
  return { selected: { table: { ...table, columns, filtered }, mode: wish.mode }, findings };
}

function requiredColumns(table: CatalogTable): readonly string[] {
  if (table.identity.kind === "none") return [];
  // Under FULL nothing else is needed to find a row, but with a key the mirror stays small and exact.
  return table.identity.kind === "full" ? table.identity.columns : table.identityColumns;
}

function unknownColumns(table: CatalogTable, wish: TableWish, subject: string): Finding[] {
  const known = table.columns.map((column) => column.name);
  const lists = { include_columns: wish.includeColumns ?? [], exclude_columns: wish.excludeColumns ?? [] };
  return Object.entries(lists).flatMap(([key, columns]) =>
    columns
      .filter((column) => !known.includes(column))
      .map((column) => {
        const message = `${key} names ${column}, which does not exist${nearNames(column, known)}`;
        return problem("error", "column-missing", subject, message, "correct the name in the config");
      }),
  );
}

function isStreamed(column: SourceColumn, streamsStored: boolean): boolean {
  return column.generated === "" || (column.generated === "s" && streamsStored);
}

function generatedFix(columns: readonly SourceColumn[]): string {
  return columns.some((column) => column.generated === "v")
    ? "compute it in the queries over the mirror"
    : "compute it in the queries over the mirror, or upgrade to PostgreSQL 18";
}

function names(columns: readonly SourceColumn[]): string {
  return columns.map((column) => column.name).join(", ");
}

function problem(severity: Finding["severity"], code: string, subject: string, message: string, fix: string): Finding {
  return { severity, code, subject, message, fix };
}

const MOST_NEAR_NAMES = 3;

/** `; did you mean a, b?` or nothing. */
function nearNames(wanted: string, known: readonly string[]): string {
  const most = Math.max(1, Math.floor(wanted.length / 3));
  const near = known
    .map((name) => ({ name, distance: editDistance(wanted.toLowerCase(), name.toLowerCase()) }))
    .filter(({ distance }) => distance <= most)
    .sort((a, b) => a.distance - b.distance)
    .slice(0, MOST_NEAR_NAMES)
    .map(({ name }) => name);
  return near.length === 0 ? "" : `; did you mean ${near.join(" or ")}?`;
}

/** Levenshtein's, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
