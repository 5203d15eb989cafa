// Columns of a Parquet file, as the writer needs them: a tree with leaves, levels, and the metadata of each node.
// Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (SchemaElement)
import type { ThriftWriter } from "./thrift.ts";

export type PhysicalType = "BOOLEAN" | "INT32" | "INT64" | "FLOAT" | "DOUBLE" | "BYTE_ARRAY" | "FIXED_LEN_BYTE_ARRAY";

export type LogicalType =
  | { readonly kind: "string" }
  | { readonly kind: "decimal"; readonly precision: number; readonly scale: number }
  | { readonly kind: "date" }
  | { readonly kind: "timestamp"; readonly utc: boolean } // always microseconds
  | { readonly kind: "none" };

/** How one value looks in the file. */
export interface ValueType {
  readonly physical: PhysicalType;
  /** Only for FIXED_LEN_BYTE_ARRAY. */
  readonly lengthBytes?: number;
  readonly logical: LogicalType;
}

export interface ParquetColumn {
  readonly name: string;
  readonly fieldId: number;
  readonly type: ValueType;
  /** A LIST of optional elements of `type`, else one optional value. */
  readonly list: boolean;
  /** The list element's field id; needed when `list`. */
  readonly elementFieldId?: number;
}

/** Definition level of a value that is there; one less for a NULL value. */
export function maxDefinitionLevel(column: ParquetColumn): number {
  return column.list ? 3 : 1;
}

export function maxRepetitionLevel(column: ParquetColumn): number {
  return column.list ? 1 : 0;
}

/** path_in_schema of the column's one leaf. */
export function leafPath(column: ParquetColumn): string[] {
  return column.list ? [column.name, "list", "element"] : [column.name];
}

const physicalTypeIds: Record<PhysicalType, number> = {
  BOOLEAN: 0,
  INT32: 1,
  INT64: 2,
  FLOAT: 4,
  DOUBLE: 5,
  BYTE_ARRAY: 6,
  FIXED_LEN_BYTE_ARRAY: 7,
};

export function physicalTypeId(type: ValueType): number {
  return physicalTypeIds[type.physical];
}

const OPTIONAL = 1;
const REPEATED = 2;

interface Element {
  readonly name: string;
  readonly repetition?: number;
  readonly childCount?: number;
  readonly fieldId?: number;
  readonly type?: ValueType;
  readonly isList?: boolean;
}

/** FileMetaData.schema (field 2): the root, then the tree depth-first. */
export function writeSchema(thrift: ThriftWriter, columns: readonly ParquetColumn[]): void {
  const elements: Element[] = [{ name: "schema", childCount: columns.length }];
  for (const column of columns) elements.push(...columnElements(column));
  thrift.structList(2, elements, (element) => writeElement(thrift, element));
}

// The three-level list of https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists
function columnElements(column: ParquetColumn): Element[] {
  const { name, fieldId, type } = column;
  if (!column.list) return [{ name, repetition: OPTIONAL, fieldId, type }];
  if (column.elementFieldId === undefined) throw new Error(`list column ${name} has no element field id`);
  return [
    { name, repetition: OPTIONAL, fieldId, childCount: 1, isList: true },
    { name: "list", repetition: REPEATED, childCount: 1 },
    { name: "element", repetition: OPTIONAL, fieldId: column.elementFieldId, type },
  ];
}

function writeElement(thrift: ThriftWriter, element: Element): void {
  const { type } = element;
  if (type) thrift.i32(1, physicalTypeId(type));
  if (type?.lengthBytes !== undefined) thrift.i32(2, type.lengthBytes);
  if (element.repetition !== undefined) thrift.i32(3, element.repetition);
  thrift.binary(4, element.name);
  if (element.childCount !== undefined) thrift.i32(5, element.childCount);
  if (element.isList)
    thrift.i32(6, 3); // ConvertedType LIST
  else if (type) writeConvertedType(thrift, type.logical);
  if (element.fieldId !== undefined) thrift.i32(9, element.fieldId);
  if (element.isList) writeLogicalUnion(thrift, 3);
  else if (type) writeLogicalType(thrift, type.logical);
}

// ConvertedType (6), scale (7), precision (8): the spec says writers must set it beside LogicalType where both exist.
// TIMESTAMP_MICROS is only equivalent to the UTC-adjusted timestamp, but older readers need it for both.
function writeConvertedType(thrift: ThriftWriter, logical: LogicalType): void {
  if (logical.kind === "string") thrift.i32(6, 0);
  else if (logical.kind === "date") thrift.i32(6, 6);
  else if (logical.kind === "timestamp") thrift.i32(6, 10);
  else if (logical.kind === "decimal") {
    thrift.i32(6, 5);
    thrift.i32(7, logical.scale);
    thrift.i32(8, logical.precision);
  }
}

// LogicalType (10), a union.
function writeLogicalType(thrift: ThriftWriter, logical: LogicalType): void {
  if (logical.kind === "string") writeLogicalUnion(thrift, 1);
  else if (logical.kind === "date") writeLogicalUnion(thrift, 6);
  else if (logical.kind === "decimal") {
    writeLogicalUnion(thrift, 5, () => {
      thrift.i32(1, logical.scale);
      thrift.i32(2, logical.precision);
    });
  } else if (logical.kind === "timestamp") {
    writeLogicalUnion(thrift, 8, () => {
      thrift.bool(1, logical.utc);
      thrift.struct(2); // TimeUnit
      thrift.struct(2); // MICROS
      thrift.end();
      thrift.end();
    });
  }
}

function writeLogicalUnion(thrift: ThriftWriter, member: number, write?: () => void): void {
  thrift.struct(10);
  thrift.struct(member);
  write?.();
  thrift.end();
  thrift.end();
}
