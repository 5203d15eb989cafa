// Which family a column belongs to, and how its column looks in the file.
import { createHash } from "node:crypto";
import { bloomFilterPossible } from "../parquet/bloom-filter.ts";
import type { ParquetColumn } from "../parquet/schema.ts";
import type { PgType, SourceColumn } from "../postgres/catalog.ts";
import { anyBytesFamily, exactCodec } from "./any-bytes.ts";
import { bpcharFamily, byteaFamily, jsonbFamily, jsonFamily, textFamily } from "./bytes.ts";
import { dateFamily, timeFamily, timestampFamily, timestamptzFamily } from "./date-time.ts";
import type { EncodeColumn, Family } from "./family.ts";
import { FieldIds } from "./field-ids.ts";
import {
  boolFamily,
  float4Family,
  float8Family,
  int2Family,
  int4Family,
  int8Family,
  oidFamily,
} from "./fixed-width.ts";
import { MONEY_OID } from "./money.ts";
import { multirangeShape, nativeShapes, rangeShape } from "./native.ts";
import { decimalFor, numericFamily } from "./numeric.ts";
import { catalogFamily, elementOf, type InnerTypes, scalarFamilies, vectorTree } from "./portable.ts";
import { encodeTree } from "./tree-encoder.ts";
import { listTree, type Shape, type StructField, type TypeTree, treeColumn, valueTree } from "./type-tree.ts";
import { uuidFamily } from "./uuid.ts";
import { asString, numericAs, parseWrittenAs, type WrittenAs } from "./written-as.ts";

/** Built-in types by OID (pg_type.dat), without numeric, whose family depends on the typmod. */
const builtinFamilies: ReadonlyMap<number, Family> = new Map([
  [16, boolFamily],
  [17, byteaFamily],
  [19, textFamily], // name
  [20, int8Family],
  [21, int2Family],
  [23, int4Family],
  [25, textFamily],
  [26, oidFamily],
  [28, oidFamily], // xid
  [29, oidFamily], // cid
  [114, jsonFamily],
  [142, textFamily], // xml
  [700, float4Family],
  [701, float8Family],
  [1042, bpcharFamily],
  [1043, textFamily], // varchar
  [1082, dateFamily],
  [1083, timeFamily],
  [1114, timestampFamily],
  [1184, timestamptzFamily],
  [2950, uuidFamily],
  [3802, jsonbFamily],
]);
const NUMERIC_OID = 1700;

/** Built-in types with a decoder; ranges and multiranges have one too. */
export const builtinOids: readonly number[] = [
  ...builtinFamilies.keys(),
  NUMERIC_OID,
  MONEY_OID,
  ...scalarFamilies.keys(),
];

/** Own columns have field ids from here on. */
export const OWN_FIELD_ID = 1_000_000;

/** How one source column is read and written. */
export interface ColumnPlan {
  readonly source: SourceColumn;
  /** Its name in the file. */
  readonly fileName: string;
  readonly parquet: ParquetColumn;
  /** What the column is made of. */
  readonly tree: TypeTree;
  /** False: the type has no binary decoder here, its values are read as text. */
  readonly binary: boolean;
  readonly encode: EncodeColumn;
  /** Text output to the bytes that `encode` takes. */
  readonly parse: (text: string) => Uint8Array;
}

/** Plans for a table's columns. A type that is not known is STRING of its text output, never an error. */
export function planColumns(columns: readonly SourceColumn[], types: ReadonlyMap<number, PgType>): ColumnPlan[] {
  const fileNames = fileColumnNames(columns.map((column) => column.name));
  const ids = new FieldIds();
  return columns.map((source, index) => planColumn(source, fileNames[index]!, types, ids));
}

/** The plans, with bloom filters for these columns (of their elements, if they are lists). */
export function withBloomFilters(plans: readonly ColumnPlan[], names: readonly string[]): ColumnPlan[] {
  const wanted = new Set(names);
  return plans.map((plan) =>
    wanted.has(plan.source.name) ? { ...plan, parquet: filtered(plan.parquet) ?? plan.parquet } : plan,
  );
}

/** Whether the column may have a bloom filter. */
export function hasBloomFilter(column: SourceColumn, types: ReadonlyMap<number, PgType>): boolean {
  return filtered(planColumns([column], types)[0]!.parquet) !== null;
}

/** Null: not for this type. */
function filtered(column: ParquetColumn): ParquetColumn | null {
  if (column.kind === "value") return bloomFilterPossible(column.type) ? { ...column, bloomFilter: true } : null;
  const element = column.kind === "list" ? filtered(column.element) : null;
  return element && column.kind === "list" ? { ...column, element } : null;
}

/** The `_old_` twins of columns of one table. */
export function oldColumns(plans: readonly ColumnPlan[]): ParquetColumn[] {
  const ids = new FieldIds();
  return plans.map(({ tree, fileName, source }) =>
    treeColumn(tree, `_old_${fileName}`, ids.ofOldColumn(source.attnum)),
  );
}

/** The type behind all domains over it, with the typmod that holds. */
export function baseType(
  typeOid: number,
  typmod: number,
  types: ReadonlyMap<number, PgType>,
): { type: PgType | undefined; oid: number; typmod: number } {
  let oid = typeOid;
  let modifier = typmod;
  let type = types.get(oid);
  while (type?.kind === "d") {
    oid = type.baseOid;
    if (modifier < 0) modifier = type.baseTypmod;
    type = types.get(oid);
  }
  return { type, oid, typmod: modifier };
}

function planColumn(
  source: SourceColumn,
  fileName: string,
  types: ReadonlyMap<number, PgType>,
  ids: FieldIds,
): ColumnPlan {
  const written = parseWrittenAs(source.writtenAs) ?? { kind: "profile", profile: "portable" };
  const anyBytes = source.anyBytes === true;
  const binaryTree = typeTree(source.typeOid, source.typmod, { types, written, anyBytes });
  const typed = binaryTree ?? valueTree(anyBytesFamily(textFamily));
  const tree = anyBytes ? { ...typed, codec: exactCodec(typed.codec) } : typed;
  const parquet = treeColumn(tree, fileName, ids.ofColumn(source.attnum));
  const { parse } = tree.codec;
  return { source, fileName, parquet, tree, binary: binaryTree !== null, encode: encodeTree(tree), parse };
}

/** What a column may be written as instead when `wish` is not possible for it, null when it is. */
export function writtenAsProblem(
  column: SourceColumn,
  wish: string,
  types: ReadonlyMap<number, PgType>,
): string | null {
  const written = parseWrittenAs(wish);
  if (written?.kind === "profile" || written?.kind === "string") return null;
  let base = baseType(column.typeOid, column.typmod, types);
  while (base.type?.elementOid) base = baseType(base.type.elementOid, base.typmod, types);
  if (base.oid !== NUMERIC_OID) return "string, portable or native";
  return written ? null : "string, double, decimal(p,s), portable or native";
}

/** What decides how a type is written. */
interface Planning {
  readonly types: ReadonlyMap<number, PgType>;
  readonly written: WrittenAs;
  readonly anyBytes: boolean;
}

/** Null: no binary decoder for it. */
function typeTree(typeOid: number, typmod: number, planning: Planning): TypeTree | null {
  const { types, written, anyBytes } = planning;
  if (written.kind === "string") {
    const tree = typeTree(typeOid, typmod, { ...planning, written: { kind: "profile", profile: "portable" } });
    if (!tree) return null;
    const family = asString(tree.codec);
    return { codec: tree.codec, shape: { kind: "value", family: anyBytes ? anyBytesFamily(family) : family } };
  }
  const base = baseType(typeOid, typmod, types);
  const elementOid = elementOf(base);
  if (elementOid !== 0) {
    const element = typeTree(elementOid, base.typmod, planning);
    return element && listTree(element, elementOid, types.get(elementOid)?.delimiter);
  }
  if (base.oid === NUMERIC_OID && written.kind !== "profile") return valueTree(numericAs(written));
  const family = scalarFamily(base.oid, base.typmod, types, anyBytes);
  if (!family) return vectorTree(base);
  const native = written.kind === "profile" && written.profile === "native";
  const shape = native ? nativeShape(base, family, planning) : null;
  return { codec: family, shape: shape ?? { kind: "value", family } };
}

/** Null: the native profile writes it as the portable one does. */
function nativeShape({ oid, type }: ReturnType<typeof baseType>, family: Family, planning: Planning): Shape | null {
  const inner = (typeOid: number, typmod = -1): TypeTree | null => typeTree(typeOid, typmod, planning);
  if (type?.kind === "r" && type.subtypeOid) {
    const subtype = inner(type.subtypeOid);
    return subtype && rangeShape(family, subtype, type.subtypeOid);
  }
  if (type?.kind === "m" && type.subtypeOid) {
    const range = inner(type.subtypeOid);
    return range && multirangeShape(range, type.subtypeOid);
  }
  if (type?.kind === "c" && type.fields) {
    const names = fileColumnNames(type.fields.map(({ name }) => name));
    const fields = type.fields.flatMap(({ typeOid, typmod, attnum }, k): StructField[] => {
      const tree = inner(typeOid, typmod);
      return tree ? [{ name: names[k]!, number: attnum, typeOid, tree }] : [];
    });
    // A struct without fields is not possible in Parquet.
    return fields.length > 0 && fields.length === type.fields.length ? { kind: "struct", fields } : null;
  }
  if (type?.extension === "hstore" && type.typname === "hstore") {
    const text = planning.anyBytes ? anyBytesFamily(textFamily) : textFamily;
    return { kind: "map", key: text, value: valueTree(text) };
  }
  return nativeShapes.get(oid)?.(family) ?? null;
}

/** Null: no binary decoder for it. */
function scalarFamily(
  typeOid: number,
  typmod: number,
  types: ReadonlyMap<number, PgType>,
  anyBytes: boolean,
): Family | null {
  const base = baseType(typeOid, typmod, types);
  const family = utf8Family(base, types, anyBytes);
  return anyBytes && family ? anyBytesFamily(family) : family;
}

function utf8Family(
  base: ReturnType<typeof baseType>,
  types: ReadonlyMap<number, PgType>,
  anyBytes: boolean,
): Family | null {
  if (base.oid === NUMERIC_OID) {
    const { precision, scale } = decimalFor(base.typmod);
    return numericFamily(precision, scale);
  }
  if (base.type?.kind === "e") return textFamily;
  return builtinFamilies.get(base.oid) ?? catalogFamily(base, innerTypes(types, anyBytes));
}

function innerTypes(types: ReadonlyMap<number, PgType>, anyBytes: boolean): InnerTypes {
  return {
    resolve: (typeOid, typmod) => baseType(typeOid, typmod, types),
    family: (typeOid, typmod) => scalarFamily(typeOid, typmod, types, anyBytes),
  };
}

/**
 * Column names of the file: unique ignoring case, without dots (BigQuery, Snowflake), apart from pg-flo's own names.
 * A name that clashes gets a suffix made of its exact spelling, so that it does not depend on its neighbours' order.
 */
export function fileColumnNames(names: readonly string[]): string[] {
  const plain = names.map((name) => {
    const dotless = name.replaceAll(".", "_");
    return /^(_pg_flo_|_old_)/i.test(dotless) ? `column_${dotless}` : dotless;
  });
  const uses = new Map<string, number>();
  for (const name of plain) uses.set(name.toLowerCase(), (uses.get(name.toLowerCase()) ?? 0) + 1);
  return plain.map((name, index) => {
    if (uses.get(name.toLowerCase()) === 1 && name !== "") return name;
    return `${name}_${createHash("sha256").update(names[index]!).digest("hex").slice(0, 8)}`;
  });
}
