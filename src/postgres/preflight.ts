// Everything that would go wrong at the source, told before anything is created, each with the SQL that mends it.
// Only reads, in a constant number of queries, and refuses nothing itself: the findings' severity says what must stop.
import type { ClientBase } from "pg";
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";
import type { Finding } from "./finding.ts";
import { publicationFindings, readPublication } from "./given-publication.ts";
import { quoteRole } from "./grants.ts";
import { toPgFloError } from "./pg-error.ts";
import { ownPublicationFindings } from "./preflight-publication.ts";
import { readServerFacts, type ServerFacts, serverFindings } from "./preflight-server.ts";
import { tableFindings } from "./preflight-tables.ts";
import type { Selection } from "./selection.ts";
import { slotName } from "./slot.ts";

export const OLDEST_SERVER_VERSION = 140000;

export interface PreflightOptions {
  readonly group: string;
  /** The numbers of the group's streams; default one. */
  readonly streams?: readonly number[];
  readonly selection: Selection;
  /** The publication that a DBA made, if the config names one. */
  readonly publication?: string;
  /** The metadata live in the same database: `preflightMetadata` is asked too. */
  readonly metadataAtSource: boolean;
  readonly copyParallel: number;
}

/**
 * Looks at the source over `client`, connected as the role that will replicate. The selection's problems are among the
 * findings, errors come first. Throws PgFloError only when a question itself fails (connection, timeout).
 */
export async function preflight(client: ClientBase, options: PreflightOptions): Promise<Finding[]> {
  try {
    return bySeverity(await sourceFindings(client, options));
  } catch (error) {
    throw toPgFloError(error, "check the source");
  }
}

/** The same for the database that holds the metadata: may the role make schema pg_flo's tables, or use them. */
export async function preflightMetadata(client: ClientBase): Promise<Finding[]> {
  try {
    return bySeverity(await metadataFindings(client));
  } catch (error) {
    throw toPgFloError(error, "check the metadata database");
  }
}

async function sourceFindings(client: ClientBase, options: PreflightOptions): Promise<Finding[]> {
  const streams = options.streams ?? [1];
  const server = await readServerFacts(
    client,
    streams.map((stream) => slotName(options.group, stream)),
  );
  if (server.version < OLDEST_SERVER_VERSION) return [versionFinding("source", server)];
  if (server.standby) return [standbyFinding("source")];
  return [
    ...options.selection.problems,
    ...serverFindings(server, options.copyParallel),
    ...(options.publication === undefined
      ? await ownPublicationFindings(client, server, { group: options.group, streams })
      : await givenPublicationFindings(client, options.publication, options.selection)),
    ...(await tableFindings(client, server, options.selection.tables, options.publication === undefined)),
    ...(options.metadataAtSource ? await metadataFindings(client) : []),
  ];
}

async function givenPublicationFindings(client: ClientBase, name: string, selection: Selection): Promise<Finding[]> {
  const publication = await readPublication(client, name);
  if (publication) return publicationFindings(publication, selection.tables);
  return [
    {
      severity: "error",
      code: "publication-missing",
      subject: `publication ${name}`,
      message: "does not exist",
      fix: "create it (pg-flo check --json shows the tables), or remove source.publication from the config",
    },
  ];
}

interface MetadataRow {
  readonly version: number;
  readonly versionName: string;
  readonly standby: boolean;
  readonly role: string;
  readonly database: string;
  readonly exists: boolean;
  readonly mayUse: boolean;
  readonly mayCreate: boolean;
}

async function metadataFindings(client: ClientBase): Promise<Finding[]> {
  const { rows } = await client.query<MetadataRow>(
    `select current_setting('server_version_num')::int as version, current_setting('server_version') as "versionName",
       pg_is_in_recovery() as standby, current_user as role, current_database() as database,
       s.oid is not null as exists,
       coalesce(has_schema_privilege(s.oid, 'USAGE') and has_schema_privilege(s.oid, 'CREATE'), false) as "mayUse",
       has_database_privilege(current_database(), 'CREATE') as "mayCreate"
     from (select 1) one left join pg_namespace s on s.nspname = $1`,
    [METADATA_SCHEMA],
  );
  const row = rows[0]!;
  if (row.version < OLDEST_SERVER_VERSION) return [versionFinding("metadata", row)];
  if (row.standby) return [standbyFinding("metadata")];
  if (row.exists ? row.mayUse : row.mayCreate) return [];
  const role = quoteRole(row.role);
  const schema = METADATA_SCHEMA;
  return [
    {
      severity: "error",
      code: "metadata-right",
      subject: `role ${row.role}`,
      message: row.exists
        ? `may not use and change schema ${schema} in database ${row.database}`
        : `may not create schema ${schema} in database ${row.database}`,
      fix: row.exists ? `ALTER SCHEMA ${schema} OWNER TO ${role};` : `CREATE SCHEMA ${schema} AUTHORIZATION ${role};`,
    },
  ];
}

function versionFinding(subject: string, server: Pick<ServerFacts, "versionName">): Finding {
  return {
    severity: "error",
    code: "server-version",
    subject,
    message: `is PostgreSQL ${server.versionName}; 14 is the oldest that pg-flo works with`,
    fix: "upgrade the server",
  };
}

function standbyFinding(subject: string): Finding {
  return {
    severity: "error",
    code: "standby",
    subject,
    message: "is a standby: this version of pg-flo reads from and writes to primaries only",
    fix: "connect to the primary",
  };
}

function bySeverity(findings: readonly Finding[]): Finding[] {
  const order = { error: 0, warning: 1, info: 2 };
  return findings.toSorted((a, b) => order[a.severity] - order[b.severity]);
}
