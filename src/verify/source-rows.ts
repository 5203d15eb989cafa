// What the source says a table's rows are: the text that the server prints for every value. Leaves table
// `source (row)`: one JSON array of canonical texts for each row.
import type { ClientBase } from "pg";
import { quoteIdentifier } from "../postgres/quote.ts";
import { canonicalSql } from "./canonical-text.ts";
import type { ComparedColumn } from "./mirror-rows.ts";
import type { ScratchDatabase } from "./scratch-database.ts";

const rowsPerFetch = 5000;

/** Fills `source`. The client is one of `connect` (its session decides how values are printed), inside a transaction. */
export async function loadSource(
  db: ScratchDatabase,
  client: ClientBase,
  table: { readonly schema: string; readonly name: string },
  columns: readonly ComparedColumn[],
): Promise<void> {
  await db.run("CREATE OR REPLACE TABLE printed (row VARCHAR)");
  await db.append("printed", printedRows(client, table, columns));
  const texts = columns.map(({ family }, at) => canonicalSql(`texts[${at + 1}]`, family));
  await db.run(`CREATE OR REPLACE TABLE source AS SELECT to_json([${texts.join(", ")}])::VARCHAR AS row
    FROM (SELECT from_json(row, '["VARCHAR"]') AS texts FROM printed)`);
  await db.run("DROP TABLE printed");
}

async function* printedRows(
  client: ClientBase,
  { schema, name }: { readonly schema: string; readonly name: string },
  columns: readonly ComparedColumn[],
): AsyncGenerator<string[]> {
  const relation = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  // ONLY leaves out the tables that inherit from it, which are tables of their own; partitions are not.
  const { rows } = await client.query<{ kind: string }>(
    "select relkind as kind from pg_class where oid = to_regclass($1)",
    [relation],
  );
  const only = rows[0]?.kind === "p" ? "" : "only ";
  const list = columns.map(({ sql }) => sql).join(", ");
  await client.query(`declare pg_flo_verify no scroll cursor for select ${list} from ${only}${relation}`);
  try {
    for (;;) {
      const fetched = await client.query<(string | null)[]>({
        text: `fetch ${rowsPerFetch} from pg_flo_verify`,
        rowMode: "array",
        types: { getTypeParser: () => (text: unknown) => text }, // as printed
      });
      if (fetched.rows.length === 0) return;
      yield fetched.rows.map((row) => JSON.stringify(row));
    }
  } finally {
    await client.query("close pg_flo_verify");
  }
}
