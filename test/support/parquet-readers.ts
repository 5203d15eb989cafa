// Reads Parquet files with readers that are not ours and gives every value in one comparable form.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import * as duckdb from "@duckdb/node-api";
import { type DuckDBConnection, DuckDBInstance, type DuckDBValue } from "@duckdb/node-api";
import * as arrow from "apache-arrow";
import { type FileMetaData, parquetMetadata, parquetRead, type SchemaElement } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { readParquet } from "parquet-wasm";
import type { TestFolder } from "./folder.ts";

/**
 * A value as text: numbers in decimal (a DECIMAL as its unscaled integer), dates as days and timestamps as
 * microseconds since 1970, times as microseconds of the day, bytes and UUIDs as `x` and hexadecimal, booleans as t and
 * f, lists as arrays, structs as the arrays of their fields, maps as arrays of pairs
 * in the order of their keys.
 */
export type Value = string | null | readonly Value[];
export type Columns = readonly { readonly name: string; readonly values: readonly Value[] }[];

/** Fails unless all readers give the same columns; gives them. The file stays in the folder under `name`. */
export async function readEverywhere(folder: TestFolder, name: string, file: Uint8Array): Promise<Columns> {
  const path = join(folder.path, name);
  await writeFile(path, file);
  await assertParquetFile(path);
  const byDuckdb = await readWithDuckdb(path);
  sameColumns("hyparquet", await readWithHyparquet(file), byDuckdb);
  sameColumns("parquet-wasm", readWithArrow(file), byDuckdb);
  return byDuckdb;
}

/** Compares column by column, so that a difference is told by its place and not by printing whole files. */
export function sameColumns(who: string, actual: Columns, expected: Columns): void {
  assert.deepEqual(
    actual.map(({ name }) => name),
    expected.map(({ name }) => name),
    `${who}: column names`,
  );
  for (const [index, { name, values }] of expected.entries()) {
    const given = actual[index]!.values;
    assert.equal(given.length, values.length, `${who}: rows of ${name}`);
    for (let row = 0; row < values.length; row++) {
      const [a, b] = [given[row]!, values[row]!];
      if (a === b) continue;
      if (JSON.stringify(a) === JSON.stringify(b)) continue;
      assert.deepEqual(shown(a), shown(b), `${who}: ${name}, row ${row}`);
    }
  }
}

function shown(value: Value): Value {
  return typeof value === "string" && value.length > 2000
    ? `${value.length} characters: ${value.slice(0, 200)}`
    : value;
}

/** `file` is not on every machine; its rule is the magic at the start. */
async function assertParquetFile(path: string): Promise<void> {
  const bytes = await readFile(path);
  assert.equal(bytes.subarray(0, 4).toString("latin1"), "PAR1");
  assert.equal(bytes.subarray(-4).toString("latin1"), "PAR1");
  try {
    const { stdout } = await promisify(execFile)("file", ["--brief", path]);
    assert.match(stdout, /^Apache Parquet/);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOENT") throw error;
  }
}

let instance: Promise<DuckDBInstance> | undefined;

/** A connection to an in-memory DuckDB that the whole process shares. */
export async function connectDuckdb(): Promise<DuckDBConnection> {
  instance ??= DuckDBInstance.create(":memory:", { threads: "2" });
  return (await instance).connect();
}

/** `read_parquet('…')` of a path, for use in SQL. */
export function parquetScan(path: string): string {
  return `read_parquet('${path.replaceAll("'", "''")}')`;
}

/** The rows of a query as values, column by column. */
export async function queryDuckdb(sql: string): Promise<Columns> {
  const connection = await connectDuckdb();
  try {
    const reader = await connection.runAndReadAll(sql);
    const columns = reader.getColumns();
    return reader.columnNames().map((name, index) => ({ name, values: (columns[index] ?? []).map(duckdbValue) }));
  } finally {
    connection.closeSync();
  }
}

// Texts come as their bytes, because the client drops a U+FEFF in front. So a blob that is no text needs a mark.
async function readWithDuckdb(path: string): Promise<Columns> {
  const described = await queryDuckdb(`describe select * from ${parquetScan(path)}`);
  const [names, types] = described.map(({ values }) => values as readonly string[]);
  const expressions = names!.map((name, index) => {
    const quoted = `"${name.replaceAll('"', '""')}"`;
    if (types![index] === "JSON") return `encode(${quoted}::VARCHAR) as ${quoted}`;
    if (types![index] === "VARCHAR") return `encode(${quoted}) as ${quoted}`;
    return types![index] === "VARCHAR[]" ? `list_transform(${quoted}, lambda v: encode(v)) as ${quoted}` : quoted;
  });
  const columns = await queryDuckdb(`select ${expressions.join(", ")} from ${parquetScan(path)}`);
  const texts = ["VARCHAR", "VARCHAR[]", "JSON"];
  return columns.map(({ name, values }, index) =>
    texts.includes(types![index]!) ? { name, values: values.map(textOfHex) } : { name, values },
  );
}

/** hyparquet gives maps as objects, which have an order of their own. */
export function sortPairs(pairs: readonly Value[]): Value[] {
  return [...pairs].sort((a, b) => (String(a![0]) < String(b![0]) ? -1 : 1));
}

function textOfHex(value: Value): Value {
  if (value === null) return null;
  if (typeof value !== "string") return value.map(textOfHex);
  return strictUtf8.decode(Buffer.from(value.slice(1), "hex"));
}

function duckdbValue(value: DuckDBValue): Value {
  if (value === null) return null;
  if (typeof value === "boolean") return value ? "t" : "f";
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value === "string" || typeof value === "bigint") return String(value);
  if (value instanceof duckdb.DuckDBDecimalValue) return String(value.value);
  if (value instanceof duckdb.DuckDBDateValue) return String(value.days);
  if (value instanceof duckdb.DuckDBTimestampValue) return String(value.micros);
  if (value instanceof duckdb.DuckDBTimestampTZValue) return String(value.micros);
  if (value instanceof duckdb.DuckDBTimeValue) return String(value.micros);
  if (value instanceof duckdb.DuckDBUUIDValue) return `x${value.toString().replaceAll("-", "")}`;
  if (value instanceof duckdb.DuckDBStructValue) return Object.values(value.entries).map(duckdbValue);
  if (value instanceof duckdb.DuckDBMapValue) {
    return sortPairs(value.entries.map((entry) => [duckdbValue(entry.key), duckdbValue(entry.value)]));
  }
  if (value instanceof duckdb.DuckDBBlobValue) return hexText(value.bytes);
  if (value instanceof duckdb.DuckDBGeometryValue) return hexText(value.bytes); // of WKB
  if (value instanceof duckdb.DuckDBListValue) return value.items.map(duckdbValue);
  throw new Error(`DuckDB gave a value of another kind: ${String(value)}`);
}

// hyparquet turns decimals into doubles and microseconds into milliseconds. So the leaves' types are taken away
// before it reads, and its raw values are converted here.
export async function readWithHyparquet(file: Uint8Array): Promise<Columns> {
  const buffer = new Uint8Array(file).buffer;
  const metadata = parquetMetadata(buffer);
  const schema = metadata.schema.map((element): SchemaElement => {
    if (!element.type) return element;
    const { converted_type: _converted, logical_type: _logical, ...raw } = element;
    return raw as SchemaElement;
  });
  const nodes = schemaTree(metadata);
  const columns = nodes.map(({ element: { name } }) => ({ name, values: [] as Value[] }));
  await parquetRead({
    file: buffer,
    metadata: { ...metadata, schema },
    compressors,
    utf8: false,
    onComplete: (rows: unknown[][]) => {
      for (const row of rows) {
        for (const [index, column] of columns.entries()) column.values.push(rawValue(row[index], nodes[index]!));
      }
    },
  });
  return columns;
}

interface SchemaNode {
  readonly element: SchemaElement;
  readonly children: readonly SchemaNode[];
}

function schemaTree({ schema }: FileMetaData): readonly SchemaNode[] {
  let next = 0;
  const read = (): SchemaNode => {
    const element = schema[next++]!;
    return { element, children: Array.from({ length: element.num_children ?? 0 }, read) };
  };
  return read().children;
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function rawValue(value: unknown, node: SchemaNode): Value {
  const { element: leaf, children } = node;
  if (value === null || value === undefined) return null;
  if (leaf.converted_type === "LIST") {
    return (value as unknown[]).map((item) => rawValue(item, children[0]!.children[0]!));
  }
  if (leaf.converted_type === "MAP") {
    const [keyNode, valueNode] = children[0]!.children;
    const pairs = Object.entries(value as object).map(([key, mapped]) => {
      // Keys of objects are texts: those of bytes are their numbers.
      const bytes = Uint8Array.from(key === "" ? [] : key.split(",").map(Number));
      return [rawValue(bytes, keyNode!), rawValue(mapped, valueNode!)];
    });
    return sortPairs(pairs);
  }
  if (children.length > 0) {
    return children.map((child) => rawValue((value as Record<string, unknown>)[child.element.name], child));
  }
  if (typeof value === "boolean") return value ? "t" : "f";
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value === "bigint") return String(value);
  if (value instanceof Uint8Array) {
    if (leaf.converted_type === "UTF8" || leaf.converted_type === "JSON") return strictUtf8.decode(value);
    if (leaf.converted_type === "DECIMAL") {
      return String(BigInt.asIntN(value.length * 8, BigInt(`0x${Buffer.from(value).toString("hex")}`)));
    }
    return hexText(value);
  }
  throw new Error(`hyparquet gave a value of another kind: ${String(value)}`);
}

/** parquet-wasm is arrow-rs. */
export function readWithArrow(file: Uint8Array): Columns {
  const table = arrow.tableFromIPC(readParquet(file).intoIPCStream());
  return table.schema.fields.map((field, index) => {
    const column = table.getChildAt(index);
    return { name: field.name, values: column ? arrowValues(column) : [] };
  });
}

function arrowValues(vector: arrow.Vector): Value[] {
  const values: Value[] = [];
  for (const data of vector.data) {
    const piece = new arrow.Vector([data]);
    for (let i = 0; i < data.length; i++) values.push(piece.isValid(i) ? arrowValue(piece, data, i) : null);
  }
  return values;
}

function arrowValue(vector: arrow.Vector, data: arrow.Data, i: number): Value {
  switch (data.typeId) {
    case arrow.Type.Struct: {
      const fields = data.children.map((child) => arrowValues(new arrow.Vector([child.slice(i, 1)])));
      return fields.map(([field]) => field ?? null);
    }
    case arrow.Type.Map: {
      const offsets = data.valueOffsets as Int32Array;
      const pairs = data.children[0]!.slice(offsets[i]!, offsets[i + 1]! - offsets[i]!);
      return sortPairs(arrowValues(new arrow.Vector([pairs])));
    }
    case arrow.Type.FixedSizeBinary:
      return hexText(vector.get(i) as Uint8Array);
    case arrow.Type.Time:
    case arrow.Type.Timestamp:
    case arrow.Type.Date:
      return String(data.values[i]);
    case arrow.Type.Decimal: {
      const words = vector.get(i) as Uint32Array;
      return String(
        BigInt.asIntN(
          128,
          words.reduceRight((all, word) => (all << 32n) | BigInt(word), 0n),
        ),
      );
    }
    case arrow.Type.List:
    case arrow.Type.LargeList:
      return arrowValues(vector.get(i) as arrow.Vector);
    case arrow.Type.Utf8: {
      const offsets = data.valueOffsets as Int32Array;
      return strictUtf8.decode((data.values as Uint8Array).subarray(offsets[i]!, offsets[i + 1]!));
    }
    case arrow.Type.Bool:
      return vector.get(i) ? "t" : "f";
    case arrow.Type.Binary:
    case arrow.Type.LargeBinary:
      return hexText(vector.get(i) as Uint8Array);
    default: {
      const value: unknown = vector.get(i);
      return Object.is(value, -0) ? "-0" : String(value);
    }
  }
}

function hexText(bytes: Uint8Array): string {
  return `x${Buffer.from(bytes).toString("hex")}`;
}
