// What the source is asked for, where files do not have the text that a type's output function gives: ISO 8601 of
// intervals, JSON of composites and hstore, numbers of money and reg* (types/README.md, docs/types.md). As SQL, so that
// it is the server that says what is right.
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { type TextFamily, textFamily } from "./canonical-text.ts";

type Types = ReadonlyMap<number, PgType>;

const MONEY = 790;
const INTERVAL = 1186;
const REG = new Set([24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191]);

/** SQL of a column's value as the files tell it, and how texts of it are compared. */
export function sourceText(column: SourceColumn, types: Types): { readonly sql: string; readonly family: TextFamily } {
  const value = quoteIdentifier(column.name);
  const family = textFamily(column.typeOid, types);
  if (column.writtenAs !== undefined && column.writtenAs !== "portable") return { sql: value, family };
  const type = behindDomains(column.typeOid, types);
  if (isVector(type)) {
    return { sql: `translate(${value}::text, '[]', '{}')`, family: { kind: "float4", array: true } };
  }
  const element = type?.elementOid ? behindDomains(type.elementOid, types) : undefined;
  const compared: TextFamily = (element ?? type)?.oid === MONEY ? { ...family, kind: "numeric" } : family;
  if (!element) return { sql: formSql(type, value, types) ?? value, family: compared };
  // A list in a file is printed with commas; arrays of box have semicolons.
  const otherDelimiter = element.delimiter !== undefined && element.delimiter !== ",";
  const form = formSql(element, "e", types) ?? (otherDelimiter ? "e::text" : null);
  if (form === null) return { sql: value, family: compared };
  const elements = isJson(element, types)
    ? `select case when e::text <> 'null' then e::text end from json_array_elements(to_json(${value})) e`
    : `select ${form} from unnest(${value}) e`;
  // Other arrays are told by their text; those of reg* types by the numbers, which binary has.
  const text = REG.has(element.oid) ? `${value}::oid[]::text` : `${value}::text`;
  const list = `array_ndims(${value}) = 1 and array_lower(${value}, 1) = 1`;
  return { sql: `case when ${list} then array(${elements})::text else ${text} end`, family: compared };
}

/** Null: what the output function gives. */
function formSql(type: PgType | undefined, value: string, types: Types): string | null {
  if (type?.oid === INTERVAL) return isoInterval(value);
  if (type?.oid === MONEY) return `${value}::numeric::text`;
  if (type && REG.has(type.oid)) return `${value}::oid::text`;
  return isJson(type, types) ? `to_json(${value})::text` : null;
}

function isJson(type: PgType | undefined, types: Types): boolean {
  return (
    (type?.extension === "hstore" && type.typname === "hstore") ||
    (type?.kind === "c" && hasBinaryForm(type.oid, types))
  );
}

function isVector(type: PgType | undefined): boolean {
  return type?.extension === "vector" && (type.typname === "vector" || type.typname === "halfvec");
}

const knownExtensions = new Set(["citext", "cube", "hstore", "ltree", "vector", "postgis"]);

/** A composite with a type inside that only has a text is its text. */
function hasBinaryForm(oid: number, types: Types): boolean {
  const type = behindDomains(oid, types);
  if (!type?.hasSend) return false;
  if (type.elementOid) return hasBinaryForm(type.elementOid, types);
  if (type.subtypeOid) return hasBinaryForm(type.subtypeOid, types);
  if (type.kind === "c") return type.fields?.every((field) => hasBinaryForm(field.typeOid, types)) ?? false;
  return type.kind === "e" || type.schema === "pg_catalog" || knownExtensions.has(type.extension ?? "");
}

function behindDomains(oid: number, types: Types): PgType | undefined {
  let type = types.get(oid);
  while (type?.kind === "d") type = types.get(type.baseOid);
  return type;
}

/** As IntervalStyle iso_8601 prints it; the session's style is for all that is told as text. */
function isoInterval(value: string): string {
  const part = (field: string, letter: string) => `nullif(extract(${field} from ${value})::int8, 0) || '${letter}'`;
  const seconds = `nullif(trim_scale(extract(second from ${value})), 0) || 'S'`;
  const time = `concat(${part("hour", "H")}, ${part("minute", "M")}, ${seconds})`;
  const days = `concat(${part("year", "Y")}, ${part("month", "M")}, ${part("day", "D")})`;
  return `case when not isfinite(${value}) then ${value}::text
    when ${value} is not null then coalesce(nullif(concat('P', ${days}, 'T' || nullif(${time}, '')), 'P'), 'PT0S') end`;
}
