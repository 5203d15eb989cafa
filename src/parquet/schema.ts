// Columns of a Parquet file, as the writer needs them: a tree with leaves, levels, and the metadata of each node.
// Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (SchemaElement)
import type { ThriftWriter } from "./thrift.ts";

export type PhysicalType = "BOOLEAN" | "INT32" | "INT64" | "FLOAT" | "DOUBLE" | "BYTE_ARRAY" | "FIXED_LEN_BYTE_ARRAY";

export type LogicalType =
  | { readonly kind: "string" }
  | { readonly kind: "json" }
  | { readonly kind: "decimal"; readonly precision: number; readonly scale: number }
  | { readonly kind: "date" }
  | { readonly kind: "time" } // microseconds of a day, not tied to a zone
  | { readonly kind: "timestamp"; readonly utc: boolean } // always microseconds
  | { readonly kind: "uuid" }
  | { readonly kind: "none" };

/** How one value looks in the file. */
export interface ValueType {
  readonly physical: PhysicalType;
  /** Only for FIXED_LEN_BYTE_ARRAY. */
  readonly lengthBytes?: number;
  readonly logical: LogicalType;
}

/** A node of the schema's tree. Every node is optional, but a map's keys. */
export type ParquetColumn = ValueColumn | ListColumn | MapColumn | StructColumn;

interface Named {
  readonly name: string;
  readonly fieldId: number;
}

export interface ValueColumn extends Named {
  readonly kind: "value";
  readonly type: ValueType;
  /** Each chunk gets a bloom filter (bloom-filter.ts: not every type may have one). */
  readonly bloomFilter?: boolean;
}

export interface ListColumn extends Named {
  readonly kind: "list";
  /** Named `element`. */
  readonly element: ParquetColumn;
}

export interface MapColumn extends Named {
  readonly kind: "map";
  /** Named `key`, never NULL. */
  readonly key: ValueColumn;
  /** Named `value`. */
  readonly value: ParquetColumn;
}

export interface StructColumn extends Named {
  readonly kind: "struct";
  /** At least one. */
  readonly fields: readonly ParquetColumn[];
}

/** A column that has values of its own, which is what the file stores; a tree of columns is its leaves, in order. */
export interface Leaf {
  readonly type: ValueType;
  /** path_in_schema */
  readonly path: readonly string[];
  /** Definition level of a value that is there. */
  readonly maxDefinition: number;
  /** How many lists and maps it is in. */
  readonly maxRepetition: number;
  readonly bloomFilter?: boolean;
}

/** The leaves of a column, depth-first as in the schema. */
export function leavesOf(column: ParquetColumn): Leaf[] {
  return collectLeaves(column, [], 0, 0);
}

function collectLeaves(
  column: ParquetColumn,
  above: readonly string[],
  definition: number,
  repetition: number,
): Leaf[] {
  const path = [...above, column.name];
  const here = definition + 1; // optional
  switch (column.kind) {
    case "value":
      return [
        {
          ...{ type: column.type, path, maxDefinition: here, maxRepetition: repetition },
          ...(column.bloomFilter && { bloomFilter: true }),
        },
      ];
    case "list":
      return collectLeaves(column.element, [...path, "list"], here + 1, repetition + 1);
    case "map": {
      const inner = [...path, "key_value"];
      // The key is required: it has no level of its own.
      return [
        ...collectLeaves(column.key, inner, here, repetition + 1),
        ...collectLeaves(column.value, inner, here + 1, repetition + 1),
      ];
    }
    case "struct":
      return column.fields.flatMap((field) => collectLeaves(field, path, here, repetition));
  }
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

const REQUIRED = 0;
const OPTIONAL = 1;
const REPEATED = 2;

interface Element {
  readonly name: string;
  readonly repetition?: number;
  readonly childCount?: number;
  readonly fieldId?: number;
  readonly type?: ValueType;
  readonly group?: "list" | "map";
}

/** FileMetaData.schema (field 2): the root, then the tree depth-first. */
export function writeSchema(thrift: ThriftWriter, columns: readonly ParquetColumn[]): void {
  const elements: Element[] = [{ name: "schema", childCount: columns.length }];
  for (const column of columns) elements.push(...columnElements(column, OPTIONAL));
  thrift.structList(2, elements, (element) => writeElement(thrift, element));
}

// Lists have three levels, as have maps: https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#nested-types
function columnElements(column: ParquetColumn, repetition: number): Element[] {
  const { name, fieldId } = column;
  switch (column.kind) {
    case "value":
      return [{ name, repetition, fieldId, type: column.type }];
    case "list":
      return [
        { name, repetition, fieldId, childCount: 1, group: "list" },
        { name: "list", repetition: REPEATED, childCount: 1 },
        ...columnElements(column.element, OPTIONAL),
      ];
    case "map":
      return [
        { name, repetition, fieldId, childCount: 1, group: "map" },
        { name: "key_value", repetition: REPEATED, childCount: 2 },
        ...columnElements(column.key, REQUIRED),
        ...columnElements(column.value, OPTIONAL),
      ];
    case "struct":
      return [
        { name, repetition, fieldId, childCount: column.fields.length },
        ...column.fields.flatMap((field) => columnElements(field, OPTIONAL)),
      ];
  }
}

const CONVERTED_MAP = 1;
const CONVERTED_LIST = 3;
const LOGICAL_MAP = 2;
const LOGICAL_LIST = 3;

function writeElement(thrift: ThriftWriter, element: Element): void {
  const { type, group } = element;
  if (type) thrift.i32(1, physicalTypeId(type));
  if (type?.lengthBytes !== undefined) thrift.i32(2, type.lengthBytes);
  if (element.repetition !== undefined) thrift.i32(3, element.repetition);
  thrift.binary(4, element.name);
  if (element.childCount !== undefined) thrift.i32(5, element.childCount);
  if (group) thrift.i32(6, group === "list" ? CONVERTED_LIST : CONVERTED_MAP);
  else if (type) writeConvertedType(thrift, type.logical);
  if (element.fieldId !== undefined) thrift.i32(9, element.fieldId);
  if (group) writeLogicalUnion(thrift, group === "list" ? LOGICAL_LIST : LOGICAL_MAP);
  else if (type) writeLogicalType(thrift, type.logical);
}

// ConvertedType (6), scale (7), precision (8): the spec says writers must set it beside LogicalType where both exist.
// TIMESTAMP_MICROS is only equivalent to the UTC-adjusted timestamp, but older readers need it for both.
function writeConvertedType(thrift: ThriftWriter, logical: LogicalType): void {
  if (logical.kind === "string") thrift.i32(6, 0);
  else if (logical.kind === "json") thrift.i32(6, 19);
  else if (logical.kind === "date") thrift.i32(6, 6);
  else if (logical.kind === "time") thrift.i32(6, 8);
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
  else if (logical.kind === "json") writeLogicalUnion(thrift, 12);
  else if (logical.kind === "uuid") writeLogicalUnion(thrift, 14);
  else if (logical.kind === "date") writeLogicalUnion(thrift, 6);
  else if (logical.kind === "decimal") {
    writeLogicalUnion(thrift, 5, () => {
      thrift.i32(1, logical.scale);
      thrift.i32(2, logical.precision);
    });
  } else if (logical.kind === "time") {
    writeLogicalUnion(thrift, 7, () => writeTimeUnit(thrift, false));
  } else if (logical.kind === "timestamp") {
    writeLogicalUnion(thrift, 8, () => writeTimeUnit(thrift, logical.utc));
  }
}

function writeTimeUnit(thrift: ThriftWriter, utc: boolean): void {
  thrift.bool(1, utc);
  thrift.struct(2); // TimeUnit
  thrift.struct(2); // MICROS
  thrift.end();
  thrift.end();
}

function writeLogicalUnion(thrift: ThriftWriter, member: number, write?: () => void): void {
  thrift.struct(10);
  thrift.struct(member);
  write?.();
  thrift.end();
  thrift.end();
}
