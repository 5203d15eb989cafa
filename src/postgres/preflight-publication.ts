// May this role make and alter the group's own publications, and are their names free.
import pg, { type ClientBase } from "pg";
import type { Finding } from "./finding.ts";
import { quoteRole } from "./grants.ts";
import type { ServerFacts } from "./preflight-server.ts";
import { publicationComment, publicationNames } from "./publication-plan.ts";

interface PublicationRow {
  readonly name: string;
  readonly comment: string | null;
  readonly owner: string;
  readonly owned: boolean;
}

/** One query. */
export async function ownPublicationFindings(
  client: ClientBase,
  server: ServerFacts,
  options: { readonly group: string; readonly streams: readonly number[] },
): Promise<Finding[]> {
  const names = options.streams.flatMap((stream) => {
    const { all, insert } = publicationNames(options.group, stream);
    return [all, insert];
  });
  const { rows } = await client.query<PublicationRow>(
    `select pubname as name, obj_description(oid, 'pg_publication') as comment, pg_get_userbyid(pubowner) as owner,
       pg_has_role(pubowner, 'USAGE') as owned
     from pg_publication where pubname = any ($1)`,
    [names],
  );
  const findings: Finding[] = rows.flatMap((row) => takenFindings(row, options.group, server.role));
  if (rows.length < names.length && !server.mayCreateInDatabase) {
    findings.push({
      severity: "error",
      code: "create-publication-right",
      subject: `role ${server.role}`,
      message: `may not create publications in database ${server.database}`,
      fix: `GRANT CREATE ON DATABASE ${pg.escapeIdentifier(server.database)} TO ${quoteRole(server.role)}; or let a DBA make the publication and name it as source.publication`,
    });
  }
  return findings;
}

function takenFindings(row: PublicationRow, group: string, role: string): Finding[] {
  const subject = `publication ${row.name}`;
  const name = pg.escapeIdentifier(row.name);
  if (row.comment !== publicationComment(group)) {
    const fix = `DROP PUBLICATION ${name}; or choose another group name`;
    return [
      { severity: "error", code: "publication-taken", subject, message: "exists and was not made by this group", fix },
    ];
  }
  if (row.owned) return [];
  const message = `belongs to role ${row.owner}`;
  const fix = `ALTER PUBLICATION ${name} OWNER TO ${quoteRole(role)};`;
  return [{ severity: "error", code: "publication-owner", subject, message, fix }];
}
