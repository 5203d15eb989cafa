// What the source is asked for, where files do not have the text that a type's output function gives: ISO 8601 of
// intervals, JSON of composites and hstore, numbers of money and reg*, WKB of geometries (types/README.md, docs/types.md).
// As SQL, so that it is the server that says what is right.
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { type TextFamily, textFamily } from "./canonical-text.ts";

type Types = ReadonlyMap<number, PgType>;

const MONEY = 790;
const INTERVAL = 1186;
const REG = new Set([24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191]);

const GEOMETRIC = new Set([600, 601, 602, 603, 604, 628, 718]);

/** Whether files have structs or maps of the column: there is no comparison of those yet, and none may be claimed. */
export function isNested({ typeOid, writtenAs }: SourceColumn, types: Types): boolean {
  if (writtenAs !== "native") return false;
  let type = behindDomains(typeOid, types);
  while (type?.elementOid && !GEOMETRIC.has(type.oid)) type = behindDomains(type.elementOid, types);
  if (!type) return false;
  const composed = type.kind === "r" || type.kind === "m" || type.kind === "c";
  return (
    (composed && hasBinaryForm(type.oid, types)) || type.oid === INTERVAL || GEOMETRIC.has(type.oid) || isHstore(type)
  );
}

/** SQL of a column's value as the files tell it, and how texts of it are compared. */
export function sourceText(column: SourceColumn, types: Types): { readonly sql: string; readonly family: TextFamily } {
  const value = quoteIdentifier(column.name);
  const family = textFamily(column.typeOid, types);
  const type = behindDomains(column.typeOid, types);
  const { writtenAs = "portable" } = column;
  // What a double cannot tell apart is equal then.
  if (writtenAs === "double") return { sql: value, family: { ...family, kind: "float8" } };
  if (writtenAs !== "portable" && writtenAs !== "native") return { sql: value, family };
  if (isVector(type)) {
    return { sql: `translate(${value}::text, '[]', '{}')`, family: { kind: "float4", array: true } };
  }
  const element = type?.elementOid ? behindDomains(type.elementOid, types) : undefined;
  const spatial = geometrySql(element ?? type, column, element !== undefined);
  if (spatial !== null) return { sql: spatial, family };
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

/**
 * WKB as a bytea prints it, or the text where the SRID is not the column's, which the file then has as the exact text. By
 * PostGIS's own functions, wherever they are.
 */
function geometrySql(type: PgType | undefined, { name, typmod }: SourceColumn, array: boolean): string | null {
  if (type?.extension !== "postgis" || (type.typname !== "geometry" && type.typname !== "geography")) return null;
  const value = quoteIdentifier(name);
  const schema = quoteIdentifier(type.schema);
  const declared = `${schema}.postgis_typmod_srid(${typmod})`;
  const srid = type.typname === "geography" ? `coalesce(nullif(${declared}, 0), 4326)` : declared;
  const other = (each: string) => `${schema}.st_srid(${each}::${schema}.geometry) <> ${srid}`;
  const wkb = (each: string) => `'\\x' || encode(${schema}.st_asbinary(${each}), 'hex')`;
  if (!array) return `case when ${other(value)} then ${value}::text else ${wkb(value)} end`;
  const list = `array_ndims(${value}) = 1 and array_lower(${value}, 1) = 1`;
  return `case when ${list} and not exists (select from unnest(${value}) e where ${other("e")})
    then array(select ${wkb("e")} from unnest(${value}) e)::text else ${value}::text end`;
}

/** Null: what the output function gives. */
function formSql(type: PgType | undefined, value: string, types: Types): string | null {
  if (type?.oid === INTERVAL) return isoInterval(value);
  if (type?.oid === MONEY) return `${value}::numeric::text`;
  if (type && REG.has(type.oid)) return `${value}::oid::text`;
  return isJson(type, types) ? `to_json(${value})::text` : null;
}

function isJson(type: PgType | undefined, types: Types): boolean {
  return (type !== undefined && isHstore(type)) || (type?.kind === "c" && hasBinaryForm(type.oid, types));
}

function isHstore(type: PgType): boolean {
  return type.extension === "hstore" && type.typname === "hstore";
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
