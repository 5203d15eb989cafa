// What a reader must find in a file for a value that Postgres prints as a text: the contract of docs/files.md said
// once more, on purpose without any code of src/types.
import pg from "pg";
import type { ParquetColumn, ValueType } from "../../src/parquet/schema.ts";
import type { Value } from "./parquet-readers.ts";

export interface Expected {
  readonly value: Value;
  /** False: the text must be in `_pg_flo_exact`. */
  readonly exact: boolean;
}

/** `kind` tells apart what the Parquet type alone does not. */
export function expectedValue(column: ParquetColumn, kind: "plain" | "trimmed", text: string | null): Expected {
  if (text === null) return { value: null, exact: true };
  if (column.kind === "list" && column.element.kind === "value") return expectedList(column.element.type, kind, text);
  if (column.kind === "value") return expectedScalar(column.type, kind, text);
  throw new Error(`no expectation of a ${column.kind} yet`);
}

const parseArray = pg.types.getTypeParser(1009 as number, "text") as (text: string) => unknown[];

function expectedList(type: ValueType, kind: "plain" | "trimmed", text: string): Expected {
  const items = parseArray(text);
  if (items.some((item) => Array.isArray(item))) return { value: null, exact: false };
  const elements = items.map((item) =>
    item === null ? { value: null, exact: true } : expectedScalar(type, kind, item as string),
  );
  const oddBounds = text.startsWith("[") && !text.startsWith("[1:");
  return {
    value: elements.map(({ value }) => value),
    exact: !oddBounds && elements.every(({ exact }) => exact),
  };
}

function expectedScalar(type: ValueType, kind: "plain" | "trimmed", text: string): Expected {
  switch (type.logical.kind) {
    case "decimal":
      return expectedDecimal(type.logical.precision, type.logical.scale, text);
    case "date":
      return expectedTime(text, 86_400_000_000n);
    case "timestamp":
      return expectedTime(text, 1n);
    case "string":
    case "json":
      return { value: kind === "trimmed" ? text.replace(/ +$/, "") : text, exact: true };
    case "time":
    case "uuid":
      throw new Error(`no expectation of ${type.logical.kind} yet`);
    case "none":
      break;
  }
  if (type.physical === "BYTE_ARRAY") return { value: `x${text.slice(2)}`, exact: true };
  if (type.physical === "BOOLEAN" || type.physical.startsWith("INT")) return { value: text, exact: true };
  const number = type.physical === "FLOAT" ? Math.fround(Number(text)) : Number(text);
  return { value: Object.is(number, -0) ? "-0" : String(number), exact: true };
}

function expectedDecimal(precision: number, scale: number, text: string): Expected {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (!match) return { value: null, exact: false };
  const fraction = (match[3] ?? "").padEnd(scale, "0");
  const unscaled = BigInt(match[2]! + fraction.slice(0, scale));
  if (/[1-9]/.test(fraction.slice(scale)) || unscaled >= 10n ** BigInt(precision)) return { value: null, exact: false };
  return { value: String(match[1] ? -unscaled : unscaled), exact: true };
}

const firstMs = Date.UTC(2000, 0, 1) - 730_119 * 86_400_000; // 0001-01-01

/** Dates and timestamps, clamped to years 1 to 9999, in units of `unit` microseconds since 1970. */
function expectedTime(text: string, unit: bigint): Expected {
  const first = BigInt(firstMs) * 1000n;
  const last = BigInt(Date.UTC(9999, 11, 31, 23, 59, 59, 999)) * 1000n + 999n;
  const micros =
    text === "infinity" ? null : text === "-infinity" || text.endsWith(" BC") ? first - 1n : timeMicros(text);
  if (micros === null || micros > last) return { value: String(floorDivide(last, unit)), exact: false };
  if (micros < first) return { value: String(floorDivide(first, unit)), exact: false };
  return { value: String(floorDivide(micros, unit)), exact: true };
}

/** Microseconds of `Y-M-D[ h:m:s[.f]][+hh]`; null for years that Date does not know. */
function timeMicros(text: string): bigint | null {
  const match = /^(\d+)-(\d+)-(\d+)(?: (\d+):(\d+):(\d+)(?:\.(\d+))?)?(?:\+00)?$/.exec(text);
  if (!match) throw new Error(`not a date or timestamp: ${text}`);
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0));
  if (year! > 9999) return null;
  const date = new Date(0);
  date.setUTCFullYear(year!, month! - 1, day!);
  date.setUTCHours(hour!, minute!, second!);
  return BigInt(date.getTime()) * 1000n + BigInt((match[7] ?? "").padEnd(6, "0"));
}

function floorDivide(value: bigint, unit: bigint): bigint {
  return (value - (((value % unit) + unit) % unit)) / unit;
}
