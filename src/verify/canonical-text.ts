// One text for one value, whoever prints it: SQL for DuckDB that prints what a Parquet file holds as PostgreSQL would,
// and that takes away what two right texts of one value may differ in (trailing zeros, padding, digits of floats).
// Values reach it as the text that the server printed (DateStyle ISO, TimeZone UTC, bytea as hex), as the exact text
// beside a row, or as a value of a file. Knows nothing of the code that wrote the files, on purpose.
import type { PgType } from "../postgres/catalog.ts";

export interface TextFamily {
  readonly kind: "plain" | "numeric" | "float4" | "float8" | "bpchar";
  readonly array: boolean;
}

const kinds: ReadonlyMap<number, TextFamily["kind"]> = new Map([
  [1700, "numeric"],
  [700, "float4"],
  [701, "float8"],
  [1042, "bpchar"],
]);

/** The family of a source type, through domains and one array. */
export function textFamily(typeOid: number, types: ReadonlyMap<number, PgType>): TextFamily {
  const { oid, elementOid } = behindDomains(typeOid, types);
  const array = elementOid !== 0;
  return { kind: kinds.get(array ? behindDomains(elementOid, types).oid : oid) ?? "plain", array };
}

function behindDomains(typeOid: number, types: ReadonlyMap<number, PgType>): { oid: number; elementOid: number } {
  let type = types.get(typeOid);
  while (type?.kind === "d") type = types.get(type.baseOid);
  return { oid: type?.oid ?? typeOid, elementOid: type?.elementOid ?? 0 };
}

/** SQL of the canonical text of a value whose PostgreSQL text is the SQL `text`. Applied twice it changes nothing. */
export function canonicalSql(text: string, { kind, array }: TextFamily): string {
  switch (kind) {
    case "plain":
      return text;
    case "numeric": // 1.50 is 1.5, and .5 of a DECIMAL whose digits are all behind the point is 0.5, in arrays too
      return [
        [String.raw`(^|[^0-9])\.([0-9])`, String.raw`\10.\2`],
        [String.raw`(\.[0-9]*[1-9])0+\b`, String.raw`\1`],
        [String.raw`\.0+\b`, ""],
      ].reduce((sql, [pattern, replacement]) => regexp(sql, pattern!, replacement!), text);
    case "bpchar":
      if (!array) return `rtrim(${text}, ' ')`;
      // Padding stands inside the quotes, which an element without it may not need. The word NULL does.
      return [
        [' +"', '"'],
        ['(?i)"(null)"', String.raw`"\1 "`],
        [String.raw`"([^"\\{},\s\x0b]+)"`, String.raw`\1`],
      ].reduce((sql, [pattern, replacement]) => regexp(sql, pattern!, replacement!), text);
    default: {
      const type = kind === "float4" ? "FLOAT" : "DOUBLE";
      // The shortest text of a float is not the same in every program: DuckDB prints them all.
      const printed = (each: string) => `coalesce(TRY_CAST(${each} AS ${type})::VARCHAR, ${each})`;
      if (!array) return printed(text);
      const elements = `list_transform(string_split((${text})[2:-2], ','), lambda e: ${printed("e")})`;
      return `CASE WHEN regexp_full_match(${text}, '\\{[^{}]+\\}') THEN ${braces(elements)} ELSE ${text} END`;
    }
  }
}

/** SQL of the PostgreSQL text of the SQL `value`, which has DuckDB's type `type` in the file. */
export function printedSql(value: string, type: string): string {
  if (!type.endsWith("[]")) return scalarSql(value, type);
  const element = scalarSql("e", type.slice(0, -2));
  const quoted = `CASE WHEN e IS NULL THEN 'NULL' WHEN ${needsQuotes(element)} THEN ${inQuotes(element)} ELSE ${element} END`;
  // array_to_string would make '' of NULL.
  return `CASE WHEN ${value} IS NULL THEN NULL ELSE ${braces(`list_transform(${value}, lambda e: ${quoted})`)} END`;
}

function scalarSql(value: string, type: string): string {
  if (type === "BOOLEAN") return `CASE ${value} WHEN true THEN 't' WHEN false THEN 'f' END`;
  if (type === "BLOB") return `'\\x' || lower(hex(${value}))`;
  return type === "VARCHAR" ? value : `(${value})::VARCHAR`;
}

/** As array_out decides: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO */
function needsQuotes(element: string): string {
  return `${element} = '' OR upper(${element}) = 'NULL' OR regexp_matches(${element}, '[{},"\\\\\\s\\x0b]')`;
}

function inQuotes(element: string): string {
  return `'"' || replace(replace(${element}, '\\', '\\\\'), '"', '\\"') || '"'`;
}

function braces(list: string): string {
  return `'{' || array_to_string(${list}, ',') || '}'`;
}

function regexp(text: string, pattern: string, replacement: string): string {
  return `regexp_replace(${text}, '${pattern}', '${replacement}', 'g')`;
}
