// Which views a mirror has. DuckDB ignores case in names and keeps some for itself, Postgres does not: where a name
// is taken, the view gets a number, and a notice tells.
import type { MirrorTable } from "./mirror-table.ts";

export interface ViewNames {
  readonly table: MirrorTable;
  readonly schema: string;
  readonly state: string;
  readonly changes: string;
}

/** DuckDB's databases and catalogs: a schema of that name would make `name.table` ambiguous. */
const reservedSchemas = ["memory", "system", "temp", "pg_catalog", "information_schema"];

/** Names for all tables, the same whatever their order. A table's own name goes before any name made up here. */
export function nameViews(tables: readonly MirrorTable[]): { views: readonly ViewNames[]; notices: readonly string[] } {
  const ordered = [...tables].sort((a, b) => compare(a.schema, b.schema) || compare(a.name, b.name));
  const notices: string[] = [];
  const sources = [...new Set(ordered.map((table) => table.schema))];
  const schemas = freeNames(sources, new Set(reservedSchemas));
  for (const [source, schema] of schemas) {
    if (source !== schema) notices.push(`schema ${source} is shown as ${schema}: the name is taken in DuckDB`);
  }
  const views = sources.flatMap((source) => {
    const own = ordered.filter((table) => table.schema === source);
    const taken = new Set<string>();
    const states = freeNames(
      own.map((table) => table.name),
      taken,
    );
    const changes = freeNames(
      [...states.values()].map((state) => `${state}__changes`),
      taken,
    );
    return own.map((table): ViewNames => {
      const state = states.get(table.name)!;
      return { table, schema: schemas.get(source)!, state, changes: changes.get(`${state}__changes`)! };
    });
  });
  for (const { table, schema, state, changes } of views) {
    const name = `${table.schema}.${table.name}`;
    if (state !== table.name) notices.push(`${name} is shown as ${schema}.${state}: another name differs only in case`);
    if (changes !== `${state}__changes`) {
      notices.push(`the history of ${name} is shown as ${schema}.${changes}: the usual name is taken`);
    }
  }
  return { views, notices };
}

/** A name for each of the distinct wanted ones, unique ignoring case: itself, or with the first free number. */
function freeNames(wanted: readonly string[], taken: Set<string>): Map<string, string> {
  const names = new Map<string, string>();
  for (const name of wanted) {
    if (taken.has(name.toLowerCase())) continue;
    taken.add(name.toLowerCase());
    names.set(name, name);
  }
  for (const name of wanted) {
    if (names.has(name)) continue;
    let number = 2;
    while (taken.has(`${name}_${number}`.toLowerCase())) number++;
    taken.add(`${name}_${number}`.toLowerCase());
    names.set(name, `${name}_${number}`);
  }
  return names;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
