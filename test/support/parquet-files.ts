// Writes Parquet files from comparable values (parquet-readers.ts), for tests of the writer without any encoder.
import type { Compression } from "../../src/base/compression.ts";
import { Compressor } from "../../src/parquet/compressor.ts";
import { type ByteSink, ParquetFileWriter } from "../../src/parquet/file-writer.ts";
import type { LeafBuffer } from "../../src/parquet/leaf-buffer.ts";
import type { ParquetColumn, ValueType } from "../../src/parquet/schema.ts";
import type { Value } from "./parquet-readers.ts";

export class MemorySink implements ByteSink {
  readonly #pieces: Uint8Array[] = [];

  async write(bytes: Uint8Array): Promise<void> {
    this.#pieces.push(bytes.slice());
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#pieces));
  }
}

export interface FileContent {
  readonly columns: readonly ParquetColumn[];
  /** By column, then row. */
  readonly values: readonly (readonly Value[])[];
  readonly rowGroupBytes?: number;
  /** Rows between two calls of `endRows`: pages can only end there. */
  readonly rowsPerCall?: number;
  readonly keyValues?: ReadonlyMap<string, string>;
  readonly compression?: Compression;
}

export async function writeParquet(content: FileContent): Promise<Uint8Array> {
  const sink = new MemorySink();
  const { columns, values, rowGroupBytes = 64 << 20, rowsPerCall = 1000, compression = "zstd" } = content;
  const compressor = new Compressor(compression);
  const options = { rowGroupBytes, createdBy: "pg-flo version 0.0.0 (build test)", compressor };
  const writer = new ParquetFileWriter(sink, columns, options);
  const rowCount = values[0]?.length ?? 0;
  for (let from = 0; from < rowCount; from += rowsPerCall) {
    const to = Math.min(rowCount, from + rowsPerCall);
    for (const [index, column] of columns.entries()) {
      for (let row = from; row < to; row++) appendCell(writer.columns[index]!, column, values[index]![row]!);
    }
    await writer.endRows(to - from);
  }
  await writer.finish(content.keyValues ?? new Map());
  return sink.bytes();
}

export function column(name: string, fieldId: number, type: ValueType, list = false): ParquetColumn {
  const value = { kind: "value", name, fieldId, type } as const;
  return list
    ? { kind: "list", name, fieldId, element: { ...value, name: "element", fieldId: 10_000 + fieldId } }
    : value;
}

export const types = {
  bool: { physical: "BOOLEAN", logical: { kind: "none" } },
  int32: { physical: "INT32", logical: { kind: "none" } },
  int64: { physical: "INT64", logical: { kind: "none" } },
  float: { physical: "FLOAT", logical: { kind: "none" } },
  double: { physical: "DOUBLE", logical: { kind: "none" } },
  bytes: { physical: "BYTE_ARRAY", logical: { kind: "none" } },
  string: { physical: "BYTE_ARRAY", logical: { kind: "string" } },
  date: { physical: "INT32", logical: { kind: "date" } },
  timestamp: { physical: "INT64", logical: { kind: "timestamp", utc: false } },
  timestamptz: { physical: "INT64", logical: { kind: "timestamp", utc: true } },
  decimal9: { physical: "INT32", logical: { kind: "decimal", precision: 9, scale: 2 } },
  decimal18: { physical: "INT64", logical: { kind: "decimal", precision: 18, scale: 4 } },
  decimal38: {
    physical: "FIXED_LEN_BYTE_ARRAY",
    lengthBytes: 16,
    logical: { kind: "decimal", precision: 38, scale: 18 },
  },
} as const satisfies Record<string, ValueType>;

function appendCell(leaves: readonly LeafBuffer[], column: ParquetColumn, value: Value): void {
  appendNode(leaves, { leaf: 0 }, column, value, null, 0, 0);
}

/**
 * `level`: the definition level at which an entry ended above this node, null for one that goes on. Entries are appended
 * as the definition of levels reads: https://github.com/apache/parquet-format#nested-encoding
 */
function appendNode(
  leaves: readonly LeafBuffer[],
  next: { leaf: number },
  column: ParquetColumn,
  value: Value,
  ended: number | null,
  definition: number,
  repetition: number,
  depth = 0,
  required = false,
): void {
  const here = required ? definition : definition + 1;
  const level = ended ?? (value === null ? definition : null);
  if (column.kind === "value") {
    appendEntry(leaves[next.leaf++]!, column.type, level === null ? value : null, level ?? here, repetition);
  } else if (column.kind === "struct") {
    const fields = level === null ? (value as readonly Value[]) : null;
    for (const [k, field] of column.fields.entries()) {
      appendNode(leaves, next, field, fields?.[k] ?? null, level, here, repetition, depth);
    }
  } else {
    const items = level === null ? (value as readonly Value[]) : [null];
    const endedHere = level ?? (items.length === 0 ? here : null);
    const first = next.leaf;
    for (const [k, item] of (endedHere === null ? items : [null]).entries()) {
      next.leaf = first;
      const repeated = k === 0 ? repetition : depth + 1;
      if (column.kind === "list") {
        appendNode(leaves, next, column.element, item, endedHere, here + 1, repeated, depth + 1);
      } else {
        const [key, mapped] = (item ?? [null, null]) as readonly Value[];
        appendNode(leaves, next, column.key, key!, endedHere, here + 1, repeated, depth + 1, true);
        appendNode(leaves, next, column.value, mapped!, endedHere, here + 1, repeated, depth + 1);
      }
    }
  }
}

function appendEntry(leaf: LeafBuffer, type: ValueType, value: Value, definition: number, repetition: number): void {
  leaf.reserveEntries(1);
  if (leaf.maxRepetition > 0) leaf.repetitions[leaf.entryCount] = repetition;
  leaf.definitions[leaf.entryCount++] = definition;
  if (value === null) return;
  const bytes = plainBytes(type, value as string);
  leaf.reserve(bytes.length);
  leaf.bytes.set(bytes, leaf.end);
  leaf.end += bytes.length;
  leaf.valueCount++;
}

/** PLAIN bytes of a value (a BOOLEAN as one byte). */
export function plainBytes(type: ValueType, value: string): Uint8Array {
  const bytes = Buffer.alloc(8);
  switch (type.physical) {
    case "BOOLEAN":
      return Uint8Array.of(value === "t" ? 1 : 0);
    case "INT32":
      bytes.writeInt32LE(Number(value));
      return bytes.subarray(0, 4);
    case "INT64":
      bytes.writeBigInt64LE(BigInt(value));
      return bytes;
    case "FLOAT":
      bytes.writeFloatLE(Number(value));
      return bytes.subarray(0, 4);
    case "DOUBLE":
      bytes.writeDoubleLE(Number(value));
      return bytes;
    case "FIXED_LEN_BYTE_ARRAY": {
      const unsigned = BigInt.asUintN(type.lengthBytes! * 8, BigInt(value));
      return Buffer.from(unsigned.toString(16).padStart(type.lengthBytes! * 2, "0"), "hex");
    }
    case "BYTE_ARRAY": {
      const content = ["string", "json"].includes(type.logical.kind)
        ? Buffer.from(value)
        : Buffer.from(value.slice(1), "hex");
      bytes.writeUInt32LE(content.length);
      return Buffer.concat([bytes.subarray(0, 4), content]);
    }
  }
}
