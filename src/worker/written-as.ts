// How the config wants columns written, put into the selected columns: by the group's profile, and by `types` of a table;
// bloom filters are checked here too.
// Refuses what a column's real type cannot be written as: a finding, before anything is created.
import type { Config } from "../config/config.ts";
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import type { Finding } from "../postgres/finding.ts";
import type { Selection } from "../postgres/selection.ts";
import { hasBloomFilter, writtenAsProblem } from "../types/registry.ts";
import { tableConfig } from "./table-config.ts";

/** The selection whose columns say how they are written, with what is wrong about it. */
export function selectWrittenAs(selection: Selection, types: ReadonlyMap<number, PgType>, config: Config): Selection {
  const problems: Finding[] = [];
  const tables = selection.tables.map((selected) => {
    const { table } = selected;
    const { types: wishes = {}, bloomFilter = [] } = tableConfig(config, table.schema, table.name);
    const subject = `table ${table.schema}.${table.name}`;
    const known = new Set(table.columns.map(({ name }) => name));
    for (const name of Object.keys(wishes)) {
      if (!known.has(name)) problems.push(unknownColumn(subject, "types", name));
    }
    for (const name of bloomFilter) {
      if (!known.has(name)) problems.push(unknownColumn(subject, "bloom_filter", name));
    }
    const columns = table.columns.map((column): SourceColumn => {
      const wish = Object.hasOwn(wishes, column.name) ? wishes[column.name] : undefined;
      const problem = wish === undefined ? null : writtenAsProblem(column, wish, types);
      if (problem !== null) problems.push(wrongType(subject, column, wish!, problem));
      const writtenAs = wish ?? config.profile;
      return writtenAs === "portable" ? column : { ...column, writtenAs };
    });
    for (const column of columns) {
      if (bloomFilter.includes(column.name) && !hasBloomFilter(column, types)) problems.push(noFilter(subject, column));
    }
    return { ...selected, table: { ...table, columns } };
  });
  return { tables, problems: [...selection.problems, ...problems] };
}

function noFilter(subject: string, column: SourceColumn): Finding {
  const message = `bloom_filter names column ${column.name}, whose type ${column.typeName} cannot have one`;
  return { severity: "error", code: "bloom-filter", subject, message, fix: "remove it from bloom_filter" };
}

function unknownColumn(subject: string, key: string, name: string): Finding {
  const message = `${key} names ${name}, which is not a mirrored column`;
  return { severity: "error", code: "column-missing", subject, message, fix: "correct the name in the config" };
}

function wrongType(subject: string, column: SourceColumn, wish: string, allowed: string): Finding {
  const message = `types says ${wish} for column ${column.name} of type ${column.typeName}, allowed is ${allowed}`;
  return { severity: "error", code: "column-type", subject, message, fix: "correct types in the config" };
}
