// What stands in the way of single tables: rights, row-level security, replica identity, types, column lists.
import type { ClientBase } from "pg";
import { readJammingTypes } from "./binary-types.ts";
import type { Finding } from "./finding.ts";
import { quoteRole, quoteSchema } from "./grants.ts";
import type { IdentityProblem, IdentityReason } from "./identity.ts";
import type { ServerFacts } from "./preflight-server.ts";
import { quotedName, type SelectedTable } from "./selection.ts";

interface RelationRow {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly owner: string;
  readonly mayUse: boolean;
  readonly maySelect: boolean;
  readonly owned: boolean;
  readonly filtersRows: boolean;
  readonly updates: number;
  readonly deletes: number;
}

/** Two queries, whatever the number of tables. `ownPublication`: the role must own the tables, to publish them. */
export async function tableFindings(
  client: ClientBase,
  server: ServerFacts,
  selected: readonly SelectedTable[],
  ownPublication: boolean,
): Promise<Finding[]> {
  const relations = await readRelations(client, selected);
  const rows = selected.flatMap(({ table }) => relations.get(table.oid) ?? []);
  // Leaves are copied by themselves: what is asked of the role there is asked of each.
  const heaps = selected.flatMap(({ table }) => table.heaps.flatMap(({ oid }) => relations.get(oid) ?? []));
  const all = [...new Map([...rows, ...heaps].map((row) => [row.oid, row])).values()];
  const streamed = selected.filter(({ mode }) => mode !== "copy-only");
  const streamedOids = new Set(streamed.map(({ table }) => table.oid));
  return [
    ...rightFindings(all, server),
    ...(ownPublication
      ? ownerFindings(
          rows.filter(({ oid }) => streamedOids.has(oid)),
          server,
        )
      : []),
    ...rowSecurityFindings(heaps, server),
    ...streamed.flatMap((table) => identityFindings(table, relations)),
    ...(ownPublication ? columnListFindings(streamed, server) : []),
    ...(await typeFindings(client, streamed)),
  ];
}

async function readRelations(
  client: ClientBase,
  selected: readonly SelectedTable[],
): Promise<ReadonlyMap<number, RelationRow>> {
  const oids = selected.flatMap(({ table }) => [table.oid, ...table.heaps.map(({ oid }) => oid)]);
  const { rows } = await client.query<RelationRow>(
    `select c.oid, n.nspname as schema, c.relname as name, pg_get_userbyid(c.relowner) as owner,
       has_schema_privilege(n.oid, 'USAGE') as "mayUse", has_table_privilege(c.oid, 'SELECT') as "maySelect",
       pg_has_role(c.relowner, 'USAGE') as owned, row_security_active(c.oid) as "filtersRows",
       pg_stat_get_tuples_updated(c.oid)::float8 as updates, pg_stat_get_tuples_deleted(c.oid)::float8 as deletes
     from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any ($1::oid[])`,
    [oids],
  );
  return new Map(rows.map((row) => [row.oid, row]));
}

function rightFindings(rows: readonly RelationRow[], server: ServerFacts): Finding[] {
  const role = quoteRole(server.role);
  const findings: Finding[] = [];
  const closed = rows.filter(({ mayUse }) => !mayUse);
  for (const schema of new Set(closed.map((row) => row.schema))) {
    const fix = `GRANT USAGE ON SCHEMA ${quoteSchema(schema)} TO ${role};`;
    findings.push(error("schema-right", `schema ${schema}`, `role ${server.role} may not use it`, fix));
  }
  const unreadable = Map.groupBy(
    rows.filter(({ maySelect }) => !maySelect),
    ({ schema }) => schema,
  );
  for (const [schema, group] of unreadable) {
    const message = `role ${server.role} may not read ${someNames(group)}`;
    const fix = `GRANT SELECT ON ${group.map(quotedName).join(", ")} TO ${role};`;
    findings.push(error("select-right", `schema ${schema}`, message, fix));
  }
  return findings;
}

function ownerFindings(rows: readonly RelationRow[], server: ServerFacts): Finding[] {
  const foreign = Map.groupBy(
    rows.filter(({ owned }) => !owned),
    ({ owner }) => owner,
  );
  return [...foreign].map(([owner, group]) =>
    error(
      "table-owner",
      `role ${server.role}`,
      `may not publish ${someNames(group)}: they belong to role ${owner}`,
      `GRANT ${quoteRole(owner)} TO ${quoteRole(server.role)}; or let a DBA make the publication and name it as source.publication`,
    ),
  );
}

function rowSecurityFindings(heaps: readonly RelationRow[], server: ServerFacts): Finding[] {
  const filtered = heaps.filter(({ filtersRows }) => filtersRows);
  if (filtered.length === 0) return [];
  const message = `row-level security hides rows of ${someNames(filtered)} from it: the copy would lack them`;
  const fix = `ALTER ROLE ${quoteRole(server.role)} BYPASSRLS;`;
  return [error("row-security", `role ${server.role}`, message, fix)];
}

const reasons: Readonly<Record<IdentityReason, (at: string) => string>> = {
  "no-primary-key": (at) => `${at} has no primary key and no replica identity`,
  nothing: (at) => `${at} is REPLICA IDENTITY NOTHING`,
  "deferrable-primary-key": (at) => `the primary key of ${at} is DEFERRABLE, which is no replica identity`,
  "identity-index-missing": (at) => `the replica identity index of ${at} does not exist any more`,
  "generated-key": (at) => `the key of ${at} has a generated column, which this server does not send`,
  "virtual-column-under-full": (at) =>
    `${at} is REPLICA IDENTITY FULL and has a virtual generated column: the server refuses its updates once published`,
  "partition-differs": (at) => `partition ${at} has another replica identity than its root`,
};

/** Says in words why a table has no usable identity. */
export function identityProblemText(problem: IdentityProblem): string {
  return reasons[problem.reason](`${problem.schema}.${problem.name}`);
}

function identityFindings({ table }: SelectedTable, relations: ReadonlyMap<number, RelationRow>): Finding[] {
  const subject = `table ${table.schema}.${table.name}`;
  if (table.identityProblem !== null) {
    const rows = table.heaps.flatMap(({ oid }) => relations.get(oid) ?? []);
    const updates = rows.reduce((sum, row) => sum + row.updates, 0);
    const deletes = rows.reduce((sum, row) => sum + row.deletes, 0);
    const counted =
      updates + deletes === 0
        ? "the server's statistics count none so far"
        : `the server's statistics count ${updates} updates and ${deletes} deletes`;
    const message = `${identityProblemText(table.identityProblem)}: its updates and deletes cannot be seen; ${counted}`;
    return [{ severity: "warning", code: "no-identity", subject, message, fix: table.identityProblem.fix }];
  }
  if (table.kind === "partitioned" && table.identity.kind === "full" && table.identity.columns.length === 0) {
    const message =
      "is published with REPLICA IDENTITY FULL, which new partitions do not inherit: updates of a new one fail until it has it";
    const fix = `after each CREATE TABLE … PARTITION OF, in the same transaction: ALTER TABLE … REPLICA IDENTITY FULL; or give ${quotedName(table)} a primary key`;
    return [{ severity: "warning", code: "new-partitions", subject, message, fix }];
  }
  return [];
}

/** Seen on live servers 15 to 18: a column list makes the server refuse DDL on the listed columns. */
function columnListFindings(streamed: readonly SelectedTable[], server: ServerFacts): Finding[] {
  if (server.version < 150000) return [];
  const listed = streamed.filter(
    ({ table }) => table.filtered && (table.columnListAllowed || table.identity.kind === "none"),
  );
  if (listed.length === 0) return [];
  const message = `published with a column list: ALTER COLUMN … TYPE and DROP COLUMN on a listed column of ${someNames(listed.map(({ table }) => table))} are refused by the server meanwhile`;
  return [
    {
      severity: "info",
      code: "column-list",
      subject: "columns left out by the config",
      message,
      fix: "before such a change: ALTER PUBLICATION … DROP TABLE …; pg-flo adds it again, and copies it again",
    },
  ];
}

async function typeFindings(client: ClientBase, streamed: readonly SelectedTable[]): Promise<Finding[]> {
  const columns = streamed.flatMap(({ table }) => table.columns.map((column) => ({ table, column })));
  const jamming = await readJammingTypes(
    client,
    columns.map(({ column }) => column.typeOid),
  );
  if (jamming.size === 0) return [];
  const named = columns
    .filter(({ column }) => jamming.has(column.typeOid))
    .map(({ table, column }) => ({
      schema: `${table.schema}.${table.name}`,
      name: `${column.name} ${column.typeName}`,
    }));
  const message = `no binary form inside ${someNames(named)}: the stream is read as text, which is slower`;
  return [
    { severity: "info", code: "text-stream", subject: "stream", message, fix: "exclude the columns if that matters" },
  ];
}

const NAMES_MOST = 10;

function someNames(relations: readonly { readonly schema: string; readonly name: string }[]): string {
  const names = relations.slice(0, NAMES_MOST).map(({ schema, name }) => `${schema}.${name}`);
  const more = relations.length - names.length;
  return names.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function error(code: string, subject: string, message: string, fix: string): Finding {
  return { severity: "error", code, subject, message, fix };
}
