// How one column goes into a row's checksum: one text for one value, which the source and DuckDB can both make without
// moving it. Built on what compare.ts proves row by row (source-text.ts, canonical-text.ts); where its canonical text
// cannot be made by the source, another one stands for it here (bits of floats, trimmed numbers).
// Says plainly which columns it has no such text for.
import type { TableColumn } from "../metadata/tables.ts";
import type { PgType } from "../postgres/catalog.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import { baseType } from "../types/registry.ts";
import { canonicalSql, printedSql, type TextFamily } from "./canonical-text.ts";
import { isNested, sourceText } from "./source-text.ts";

/** How a value is told apart from its neighbours. */
type Framing =
  /** Its text is never empty and says where it ends. */
  | "bare"
  /** Its size in bytes stands before it; a text's at the source is that of the column. */
  | "sized text"
  | "sized";

/** Whose value it is: of DuckDB's type, and the exact text beside the row, NULL where there is none. */
export interface FileValue {
  readonly value: string;
  readonly type: string;
  readonly exact: string;
}

export interface ColumnText {
  readonly column: TableColumn;
  readonly framing: Framing;
  /** SQL at the source. */
  readonly source: string;
  /** SQL of DuckDB: the same text. */
  readonly mirror: (value: FileValue) => string;
  /** SQL at the source of the value behind such a text, or null: then rows cannot be asked for by it. */
  readonly input: ((text: string) => string) | null;
}

export interface NotCompared {
  readonly column: TableColumn;
  readonly why: string;
}

export type Compared = { readonly text: ColumnText } | { readonly not: NotCompared };

const OIDS = { text: 25, varchar: 1043, bpchar: 1042, numeric: 1700 } as const;
const US_1970_TO_2000 = 946_684_800_000_000n;
const momentTypes: ReadonlyMap<number, "timestamp" | "timestamptz"> = new Map([
  [1114, "timestamp"],
  [1184, "timestamptz"],
]);

/** Types that print something for every value, and nothing that could run into what comes next. */
const bareOids = new Set([
  ...[16, 17, 20, 21, 23, 26, 28, 29, 114, 3802, 2950],
  ...[1082, 1083, 1266, 1114, 1184, 1186, 790, 650, 869, 829, 774],
]);

/** `isKey`: rows are asked for by it, and told by it. Texts of invalid UTF-8 have another exact form. */
export function columnText(column: TableColumn, types: ReadonlyMap<number, PgType>, isKey: boolean): Compared {
  const not = (why: string): Compared => ({ not: { column, why } });
  if (isNested(column, types)) return not("structs and maps of the native profile are not compared");
  if (column.anyBytes) return not("texts of a SQL_ASCII database are not compared");
  if (column.writtenAs === "double") return not("written as double, which cannot tell its values apart");
  const { sql, family } = sourceText(column, types);
  const overridden = column.writtenAs !== undefined && column.writtenAs !== "portable" && column.writtenAs !== "native";
  const { oid, typmod } = baseType(column.typeOid, column.typmod, types);
  const plain = sql === quoteIdentifier(column.name);
  const input = (text: string) => `(${text})::${column.typeName}`;
  const moment = isKey || overridden || family.array || !plain ? undefined : momentTypes.get(oid);
  const form = family.array
    ? arrayForm(sql, family)
    : moment !== undefined
      ? momentForm(sql, moment)
      : scalarForm(sql, family, oid === OIDS.numeric && !overridden && hasFixedText(typmod));
  const framing = framingOf(oid, family, plain);
  const text = { ...form, framing, column, input: plain && form.input ? input : null };
  return { text };
}

type Form = Pick<ColumnText, "source" | "mirror"> & { readonly input: boolean };

/** `fixed`: a file's DECIMAL of it prints as many digits as the source does. */
function scalarForm(sql: string, family: TextFamily, fixed: boolean): Form {
  switch (family.kind) {
    case "float4":
    case "float8":
      // The shortest text of a float is not the same in every program, its bits are.
      return {
        source: `${family.kind}send(${sql})`,
        mirror: ({ value }) => bits(value),
        input: false,
      };
    case "numeric":
      return fixed
        ? { source: sql, mirror: shown, input: true }
        : {
            source: `trim_scale((${sql})::numeric)`,
            mirror: (file) => trimmed(`(${shown(file)})`),
            input: true,
          };
    case "bpchar":
      return {
        source: `(${sql})::text`,
        mirror: (file) => `rtrim(${shown(file)}, ' ')`,
        input: true,
      };
    default:
      return { source: sql, mirror: shown, input: true };
  }
}

/**
 * Its microseconds since 2000 as the binary format has them: both sides print them for half of what its text costs. What is
 * beyond a file's years is told by its text, as it is beside a row.
 */
function momentForm(sql: string, type: "timestamp" | "timestamptz"): Form {
  const [first, last] = ["0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"].map((text) => `${type} '${text}'`);
  return {
    source: `case when ${sql} between ${first} and ${last} then ${type}_send(${sql})::text else ${sql}::text end`,
    mirror: ({ value, exact }) => withExact(bits(`epoch_us(${value}) - ${US_1970_TO_2000}`), exact),
    input: false,
  };
}

function arrayForm(sql: string, family: TextFamily): Form {
  // Elements have another text, whole arrays that are no list keep theirs: so has the file.
  const list = (element: string, elements = sql) =>
    `case when array_ndims(${elements}) = 1 and array_lower(${elements}, 1) = 1
      then array(select ${element} from unnest(${elements}) e)::text else ${elements}::text end`;
  switch (family.kind) {
    case "float4":
    case "float8": {
      const type = family.kind === "float4" ? "real" : "double precision";
      const element = `'"\\\\x' || lower(hex(e::BIT::BLOB)) || '"'`;
      return {
        source: list(`${family.kind}send(e)`, `(${sql})::${type}[]`),
        mirror: ({ value, exact }) =>
          withExact(
            `CASE WHEN ${value} IS NOT NULL THEN '{' || array_to_string(list_transform(${value},
              lambda e: CASE WHEN e IS NULL THEN 'NULL' ELSE ${element} END), ',') || '}' END`,
            exact,
          ),
        input: false,
      };
    }
    case "numeric": {
      const whole = String.raw`regexp_replace(regexp_replace((${sql})::text, '(\.[0-9]*[1-9])0+(?![0-9])', '\1', 'g'), '\.0+(?![0-9])', '', 'g')`;
      return {
        source: whole,
        mirror: (file) => canonicalSql(`(${shown(file)})`, family),
        input: false,
      };
    }
    case "bpchar":
      return { source: list("rtrim(e::text, ' ')"), mirror: shown, input: false };
    default:
      return { source: sql, mirror: shown, input: false };
  }
}

function framingOf(oid: number, family: TextFamily, plain: boolean): Framing {
  if (family.array || bareOids.has(oid) || ["numeric", "float4", "float8"].includes(family.kind)) return "bare";
  if (plain && (oid === OIDS.text || oid === OIDS.varchar || oid === OIDS.bpchar)) return "sized text";
  return "sized";
}

/** As the source prints the bytea that a send function gives. */
function bits(value: string): string {
  return `'\\x' || lower(hex((${value})::BIT::BLOB))`;
}

/** As it is printed, or the exact text where the file could not hold the value. Whole numbers are left as they are. */
function shown({ value, type, exact }: FileValue): string {
  if (/^(SMALLINT|INTEGER|BIGINT)$/.test(type)) return value;
  return withExact(printedSql(value, type), exact);
}

function withExact(printed: string, exact: string): string {
  if (exact === "NULL") return printed;
  return `CASE WHEN _pg_flo_exact IS NULL THEN ${printed} ELSE coalesce(${exact}, ${printed}) END`;
}

/** As trim_scale has it. DuckDB prints no digit before the point of a DECIMAL that has all of them behind it. */
function trimmed(text: string): string {
  const whole = String.raw`regexp_replace(${text}, '^(-?)\.', '\10.')`;
  return `CASE WHEN contains(${text}, '.') THEN rtrim(rtrim(${whole}, '0'), '.') ELSE ${text} END`;
}

/** Whether a file's DECIMAL of this numeric(p,s) prints as the source does. */
function hasFixedText(typmod: number): boolean {
  if (typmod < 0) return false;
  const precision = ((typmod - 4) >> 16) & 0xffff;
  const scale = (((typmod - 4) & 0x7ff) ^ 1024) - 1024;
  return precision <= 38 && scale >= 0 && scale < precision;
}
