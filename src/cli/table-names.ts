// Which tables of a group a command line means: `orders`, `public.orders`, or with `*` for any letters: `sales.*`.
// Pure. Refuses to guess: a name that no table has, or that tables of several schemas have, is a mistake.
import { PgFloError } from "../base/errors.ts";

export interface NamedTable {
  readonly schema: string;
  readonly name: string;
}

const NAMES_SHOWN = 5;

/** In the order of `tables`, each once. CONFIG_INVALID with every name that is wrong. */
export function tablesNamed<T extends NamedTable>(tables: readonly T[], names: readonly string[]): readonly T[] {
  const chosen = new Set<T>();
  const mistakes: string[] = [];
  for (const name of names) {
    const found = tables.filter((table) => matches(table, name));
    const schemas = new Set(found.map(({ schema }) => schema));
    if (found.length === 0) mistakes.push(`${JSON.stringify(name)} is no table of this group`);
    else if (schemas.size > 1 && !name.includes("*")) {
      const all = found.slice(0, NAMES_SHOWN).map(fullName).join(", ");
      mistakes.push(`${JSON.stringify(name)} means several tables: ${all}`);
    } else for (const table of found) chosen.add(table);
  }
  if (mistakes.length > 0) {
    throw new PgFloError("CONFIG_INVALID", `command line, TABLE, ${mistakes.join("; ")}`, {
      fix: "name tables as pg-flo status does, such as public.orders, or with a wildcard: 'public.*'",
    });
  }
  return tables.filter((table) => chosen.has(table));
}

/** `schema.table`, as status shows it. */
export function fullName({ schema, name }: NamedTable): string {
  return `${schema}.${name}`;
}

function matches(table: NamedTable, name: string): boolean {
  const pattern = new RegExp(`^${name.split("*").map(escapePattern).join(".*")}$`, "su");
  return pattern.test(fullName(table)) || pattern.test(table.name);
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.+?()[\]{}|/-]/g, "\\$&");
}
