// The SQL that gives a role exactly the rights that pg-flo needs, for a DBA to read and run.
import pg from "pg";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import { publicationNames } from "./publication-plan.ts";
import { quotedName, type SelectedTable } from "./selection.ts";

export interface GrantsOptions {
  readonly role: string;
  readonly database: string;
  readonly group: string;
  readonly tables: readonly SelectedTable[];
  /** Of the source, as server_version_num. Below 180000 generated columns are not asked for. */
  readonly serverVersion: number;
}

/**
 * A script for psql, run by a superuser: the role (without a password), the right to read these tables and no other, a
 * schema of its own for the metadata, and publications that belong to the DBA, so that the role owns no table. Names them
 * as the config must (`source.publication`) when all tables have an identity; else says what is left out.
 */
export function grantsScript(options: GrantsOptions): string {
  const role = quoteRole(options.role);
  const relations = options.tables.flatMap(({ table }) => [table, ...table.heaps]);
  const unique = [...new Set(relations.map(quotedName))].sort();
  const schemas = [...new Set(relations.map(({ schema }) => schema))].sort();
  const statements = [
    `-- Rights of role ${role} for pg-flo group ${options.group}. Set its password with \\password.`,
    `CREATE ROLE ${role} LOGIN REPLICATION;`,
    `-- On RDS and Aurora instead: CREATE ROLE ${role} LOGIN; GRANT rds_replication TO ${role};`,
    `GRANT CONNECT ON DATABASE ${pg.escapeIdentifier(options.database)} TO ${role};`,
    ...schemas.map((schema) => `GRANT USAGE ON SCHEMA ${quoteSchema(schema)} TO ${role};`),
    ...unique.map((table) => `GRANT SELECT ON ${table} TO ${role};`),
    `CREATE SCHEMA ${METADATA_SCHEMA} AUTHORIZATION ${role}; -- in the metadata database`,
    ...publicationStatements(options),
  ];
  return `${statements.join("\n")}\n`;
}

/** A role's name in SQL. */
export function quoteRole(role: string): string {
  return pg.escapeIdentifier(role);
}

/** A schema's name in SQL. */
export function quoteSchema(schema: string): string {
  return pg.escapeIdentifier(schema);
}

function publicationStatements(options: GrantsOptions): string[] {
  const streamed = options.tables.filter(({ mode }) => mode !== "copy-only");
  const named = streamed.filter(({ table }) => table.identity.kind !== "none");
  const nameless = streamed.filter(({ table }) => table.identity.kind === "none");
  const publication = `dba_${publicationNames(options.group).all}`; // not the name of one that pg-flo makes itself
  const generated = options.serverVersion >= 180000 ? ", publish_generated_columns = stored" : "";
  const list = named.map(({ table }) => `ONLY ${quotedName(table)}`).join(",\n  ");
  return [
    `-- Then in pg-flo.yaml: source: { publication: ${publication} }`,
    `CREATE PUBLICATION ${pg.escapeIdentifier(publication)}${list === "" ? "" : ` FOR TABLE\n  ${list}`}`,
    `  WITH (publish_via_partition_root = true${generated});`,
    ...nameless.map(
      ({ table }) => `-- ${quotedName(table)} has no replica identity: published, its UPDATE and DELETE would fail.`,
    ),
  ];
}
