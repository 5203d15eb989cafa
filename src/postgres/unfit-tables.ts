// Tables that cannot be mirrored as things are: a right is missing, somebody else must publish them, row-level security
// hides rows. While a group runs such a table waits alone, with its reason, and no other table waits for it.
import type { ClientBase } from "pg";
import type { Finding } from "./finding.ts";
import { publicationFindings, readPublication } from "./given-publication.ts";
import { toPgFloError } from "./pg-error.ts";
import { readServerFacts } from "./preflight-server.ts";
import { tableFindings } from "./preflight-tables.ts";
import type { SelectedTable } from "./selection.ts";

export interface FitnessOptions {
  /** The publication that a DBA made, if the config names one. */
  readonly publication?: string;
}

/** By OID, the first reason. A few queries when all is well, a few for each table that is asked about otherwise. */
export async function unfitTables(
  client: ClientBase,
  selected: readonly SelectedTable[],
  { publication }: FitnessOptions,
): Promise<ReadonlyMap<number, Finding>> {
  const unfit = new Map<number, Finding>();
  if (selected.length === 0) return unfit;
  try {
    const server = await readServerFacts(client, []);
    const given = publication === undefined ? null : await readPublication(client, publication);
    const errors = async (tables: readonly SelectedTable[]): Promise<Finding[]> => {
      const findings = [
        ...(given ? publicationFindings(given, tables) : []),
        ...(await tableFindings(client, server, tables, publication === undefined)),
      ];
      return findings.filter(({ severity }) => severity === "error");
    };
    // A finding may be about many tables: which of them is asked one by one, and only when there is one.
    if ((await errors(selected)).length === 0) return unfit;
    for (const table of selected) {
      const [first] = await errors([table]);
      if (first) unfit.set(table.table.oid, first);
    }
    return unfit;
  } catch (error) {
    throw toPgFloError(error, "check the tables of the source");
  }
}
