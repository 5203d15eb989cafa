// A publication that a DBA made and the config names (`source.publication`): only read, never altered or dropped.
// Tells what it lacks for the selected tables. Source: https://www.postgresql.org/docs/current/view-pg-publication-tables.html
import pg, { type ClientBase } from "pg";
import type { Finding } from "./finding.ts";
import { quotedName, type SelectedTable } from "./selection.ts";

export interface GivenPublication {
  readonly name: string;
  readonly operations: readonly ("insert" | "update" | "delete" | "truncate")[];
  readonly viaRoot: boolean;
  /** Whether stored generated columns are sent for tables without a column list; PostgreSQL 18 and later. */
  readonly generatedStored: boolean;
  readonly tables: readonly GivenTable[];
}

export interface GivenTable {
  readonly schema: string;
  readonly name: string;
  /** The columns that are sent; null before PostgreSQL 15: all. */
  readonly columns: readonly string[] | null;
  readonly rowFilter: boolean;
}

/** Null when there is no publication of that name. FOR ALL TABLES and FOR TABLES IN SCHEMA are resolved to tables. */
export async function readPublication(client: ClientBase, name: string): Promise<GivenPublication | null> {
  const publications = await client.query<{ row: Record<string, unknown> }>(
    "select to_jsonb(p) as row from pg_publication p where p.pubname = $1",
    [name],
  );
  const row = publications.rows[0]?.row;
  if (!row) return null;
  const { rows } = await client.query<{ row: MemberRow }>(
    "select to_jsonb(t) as row from pg_publication_tables t where t.pubname = $1 order by schemaname, tablename",
    [name],
  );
  return {
    name,
    operations: (["insert", "update", "delete", "truncate"] as const).filter((operation) => row[`pub${operation}`]),
    viaRoot: row.pubviaroot === true,
    generatedStored: row.pubgencols === "s",
    tables: rows.map(({ row: member }) => ({
      schema: member.schemaname,
      name: member.tablename,
      columns: member.attnames ?? null,
      rowFilter: typeof member.rowfilter === "string",
    })),
  };
}

/** What keeps this publication from carrying the selected tables wholly. */
export function publicationFindings(publication: GivenPublication, selected: readonly SelectedTable[]): Finding[] {
  const streamed = selected.filter(({ mode }) => mode !== "copy-only");
  const members = new Map(publication.tables.map((table) => [key(table), table]));
  return [
    ...optionFindings(publication, streamed),
    ...streamed.flatMap((table) => tableFindings(publication, table, members.get(key(table.table)))),
  ];
}

interface MemberRow {
  readonly schemaname: string;
  readonly tablename: string;
  readonly attnames?: readonly string[]; // from 15
  readonly rowfilter?: string | null; // from 15
}

function key(table: { readonly schema: string; readonly name: string }): string {
  return JSON.stringify([table.schema, table.name]);
}

function optionFindings(publication: GivenPublication, streamed: readonly SelectedTable[]): Finding[] {
  const findings: Finding[] = [];
  const subject = `publication ${publication.name}`;
  const alter = `ALTER PUBLICATION ${pg.escapeIdentifier(publication.name)}`;
  const missing = (["insert", "update", "delete", "truncate"] as const).filter(
    (operation) => !publication.operations.includes(operation),
  );
  if (missing.length > 0) {
    findings.push({
      severity: missing.includes("insert") ? "error" : "warning",
      code: "publication-operations",
      subject,
      message: `does not publish ${missing.join(", ")}: the mirror will not see them`,
      fix: `${alter} SET (publish = 'insert, update, delete, truncate'); (tables without a replica identity must not be in it then)`,
    });
  }
  if (!publication.viaRoot && streamed.some(({ table }) => table.kind === "partitioned")) {
    findings.push({
      severity: "error",
      code: "publication-via-root",
      subject,
      message: "sends changes of partitioned tables under their partitions' names",
      fix: `${alter} SET (publish_via_partition_root = true);`,
    });
  }
  return findings;
}

function tableFindings(
  publication: GivenPublication,
  { table }: SelectedTable,
  member: GivenTable | undefined,
): Finding[] {
  const subject = `table ${table.schema}.${table.name}`;
  const alter = `ALTER PUBLICATION ${pg.escapeIdentifier(publication.name)}`;
  if (!member) {
    // Under its partitions' names it is not seen here: publication-via-root says so already.
    if (table.kind === "partitioned" && !publication.viaRoot) return [];
    const message = `is not in publication ${publication.name}`;
    // Publishing a table without an identity would make the application's updates fail.
    const add = `${alter} ADD TABLE ${quotedName(table)};`;
    const first = table.identityProblem === null ? "" : `${table.identityProblem.fix} and then `;
    return [{ severity: "error", code: "not-published", subject, message, fix: `${first}${add}` }];
  }
  const findings: Finding[] = [];
  const missing = table.columns.filter(({ name }) => member.columns !== null && !member.columns.includes(name));
  if (missing.length > 0) {
    const names = missing.map(({ name }) => name).join(", ");
    const identity = table.identity.kind === "none" ? [] : table.identityColumns;
    const harms = missing.some(({ name }) => identity.includes(name));
    findings.push({
      severity: "error",
      code: harms ? "published-columns-lack-identity" : "column-not-published",
      subject,
      message: harms
        ? `its column list in publication ${publication.name} lacks ${names} of the replica identity: UPDATE and DELETE fail`
        : `publication ${publication.name} does not send the columns ${names}`,
      fix: `${alter} SET TABLE … with ${names}, or name the columns under exclude_columns in the config`,
    });
  }
  if (member.rowFilter) {
    findings.push({
      severity: "error",
      code: "row-filter",
      subject,
      message: `publication ${publication.name} filters its rows, the copy does not: the mirror would be of no moment`,
      fix: `${alter} SET TABLE … without WHERE`,
    });
  }
  const sendsChanges = publication.operations.includes("update") || publication.operations.includes("delete");
  if (table.identity.kind === "none" && sendsChanges) {
    findings.push({
      severity: "error",
      code: "publication-breaks-updates",
      subject,
      message: `has no replica identity, and publication ${publication.name} publishes updates or deletes: the server refuses both`,
      fix: `${table.identityProblem?.fix ?? ""} or publish it in a publication WITH (publish = 'insert, truncate')`,
    });
  }
  return findings;
}
