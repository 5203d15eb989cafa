// The schema of a file that schema.ts wrote, as the tree of columns that it was written from.
// Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift (SchemaElement)
import type { LogicalType, ParquetColumn, PhysicalType, ValueColumn, ValueType } from "./schema.ts";
import { malformedFile, type ThriftStruct, type ThriftValue } from "./thrift-reader.ts";

const physicalTypes: Readonly<Record<number, PhysicalType>> = {
  0: "BOOLEAN",
  1: "INT32",
  2: "INT64",
  4: "FLOAT",
  5: "DOUBLE",
  6: "BYTE_ARRAY",
  7: "FIXED_LEN_BYTE_ARRAY",
};
const CONVERTED_MAP = 1;
const CONVERTED_LIST = 3;

/** `elements`: FileMetaData.schema; `filtered`: numbers of the leaves with bloom filters. */
export function readSchema(elements: readonly ThriftStruct[], filtered: ReadonlySet<number>): ParquetColumn[] {
  const [root] = elements;
  if (root === undefined) throw malformedFile("it has no schema");
  const walk = { elements, filtered, next: 1, leaf: 0 };
  return Array.from({ length: numberOf(root.get(5)) }, () => readColumn(walk));
}

interface Walk {
  readonly elements: readonly ThriftStruct[];
  readonly filtered: ReadonlySet<number>;
  next: number;
  leaf: number;
}

function readColumn(walk: Walk): ParquetColumn {
  const element = nextElement(walk);
  const name = textOf(element.get(4));
  const fieldId = numberOf(element.get(9));
  const children = element.get(5);
  if (children === undefined) return readValue(walk, element, name, fieldId);
  if (element.get(6) === CONVERTED_LIST) {
    nextElement(walk); // list
    return { kind: "list", name, fieldId, element: readColumn(walk) };
  }
  if (element.get(6) === CONVERTED_MAP) {
    nextElement(walk); // key_value
    const key = readColumn(walk);
    if (key.kind !== "value") throw malformedFile("a map's key is no value");
    return { kind: "map", name, fieldId, key, value: readColumn(walk) };
  }
  return { kind: "struct", name, fieldId, fields: Array.from({ length: numberOf(children) }, () => readColumn(walk)) };
}

function readValue(walk: Walk, element: ThriftStruct, name: string, fieldId: number): ValueColumn {
  const physical = physicalTypes[numberOf(element.get(1))];
  if (physical === undefined) throw malformedFile("a column of a physical type that we do not write");
  const length = element.get(2);
  const type: ValueType = {
    physical,
    ...(length === undefined ? {} : { lengthBytes: numberOf(length) }),
    logical: logicalType(element.get(10)),
  };
  return { kind: "value", name, fieldId, type, ...(walk.filtered.has(walk.leaf++) && { bloomFilter: true }) };
}

function logicalType(union: ThriftValue | undefined): LogicalType {
  if (!(union instanceof Map)) return { kind: "none" };
  const [[member, content] = []] = [...(union as ThriftStruct)];
  const fields = content as ThriftStruct;
  switch (member) {
    case 1:
      return { kind: "string" };
    case 5:
      return { kind: "decimal", precision: numberOf(fields.get(2)), scale: numberOf(fields.get(1)) };
    case 6:
      return { kind: "date" };
    case 7:
      return { kind: "time" };
    case 8:
      return { kind: "timestamp", utc: fields.get(1) === true };
    case 12:
      return { kind: "json" };
    case 14:
      return { kind: "uuid" };
    default:
      throw malformedFile(`a column of logical type ${member}`);
  }
}

function nextElement(walk: Walk): ThriftStruct {
  const element = walk.elements[walk.next++];
  if (element === undefined) throw malformedFile("its schema ends too early");
  return element;
}

function numberOf(value: ThriftValue | undefined): number {
  if (typeof value !== "number") throw malformedFile("a number is missing in its schema");
  return value;
}

function textOf(value: ThriftValue | undefined): string {
  if (!(value instanceof Uint8Array)) throw malformedFile("a name is missing in its schema");
  return Buffer.from(value).toString("utf8");
}
