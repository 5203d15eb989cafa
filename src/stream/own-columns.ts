// The columns that stream files have after the table's own, and how they are filled.
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { ParquetColumn, ValueType } from "../parquet/schema.ts";
import { OWN_FIELD_ID } from "../types/registry.ts";
import { appendText } from "../types/row-encoder.ts";

const string: ValueType = { physical: "BYTE_ARRAY", logical: { kind: "string" } };
const int64: ValueType = { physical: "INT64", logical: { kind: "none" } };
const timestamp: ValueType = { physical: "INT64", logical: { kind: "timestamp", utc: true } };

function column(name: string, number: number, type: ValueType): ParquetColumn {
  return { kind: "value", name, fieldId: OWN_FIELD_ID + number, type };
}

/** In file order; `_pg_flo_exact` comes after them. */
export const ownColumns: readonly ParquetColumn[] = [
  column("_pg_flo_operation", 1, string),
  column("_pg_flo_lsn", 2, int64),
  column("_pg_flo_sequence", 3, int64),
  column("_pg_flo_xid", 4, int64),
  column("_pg_flo_timestamp", 5, timestamp),
  column("_pg_flo_schema", 6, string),
  column("_pg_flo_table", 7, string),
  { kind: "list", name: "_pg_flo_unchanged", fieldId: OWN_FIELD_ID + 8, element: column("element", 18, string) },
];

/** 64-bit values as halves, indexed by transaction: a bigint per row would be an allocation per row. */
export interface Halves {
  readonly high: Int32Array;
  readonly low: Int32Array;
}

const operationNames = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"].map((name) => new TextEncoder().encode(name));

/** Appends the names of operations[from, to). */
export function appendOperations(leaf: LeafBuffer, operations: Uint8Array, from: number, to: number): void {
  leaf.reserveEntries(to - from);
  leaf.reserve((to - from) * (4 + 8)); // TRUNCATE is the longest
  for (let i = from; i < to; i++) appendBytes(leaf, operationNames[operations[i]!]!);
}

/** Appends the same text `count` times. */
export function appendConstant(leaf: LeafBuffer, text: Uint8Array, count: number): void {
  const { entryCount, end } = leaf;
  const size = count * (4 + text.length);
  leaf.reserveEntries(count);
  leaf.reserve(size);
  appendBytes(leaf, text);
  // The first one, then as many again as are there.
  for (let done = 4 + text.length; done < size; done *= 2) {
    leaf.bytes.copyWithin(end + done, end, end + Math.min(done, size - done));
  }
  leaf.end = end + size;
  leaf.definitions.fill(leaf.present, entryCount, entryCount + count);
  leaf.entryCount = entryCount + count;
  leaf.valueCount += count - 1;
}

/** Appends the values of the transactions that rows[from, to) belong to. */
export function appendOfTransactions(
  leaf: LeafBuffer,
  values: Halves,
  transactions: Int32Array,
  from: number,
  to: number,
): void {
  leaf.reserveEntries(to - from);
  leaf.reserve((to - from) * 8);
  for (let i = from; i < to; i++) {
    const transaction = transactions[i]!;
    appendHalves(leaf, values.high[transaction]!, values.low[transaction]!);
  }
}

/** Appends numbers below 2^31. */
export function appendNumbers(leaf: LeafBuffer, values: Int32Array, from: number, to: number): void {
  leaf.reserveEntries(to - from);
  leaf.reserve((to - from) * 8);
  for (let i = from; i < to; i++) appendHalves(leaf, 0, values[i]!);
}

/** Appends a list of names, or NULL for none. */
export function appendNames(leaf: LeafBuffer, names: readonly string[] | undefined): void {
  const count = names?.length ?? 0;
  leaf.reserveEntries(Math.max(1, count));
  leaf.repetitions.fill(1, leaf.entryCount, leaf.entryCount + count);
  leaf.repetitions[leaf.entryCount] = 0;
  if (!names) {
    leaf.definitions[leaf.entryCount++] = 0;
    return;
  }
  for (const name of names) appendText(leaf, name);
}

function appendBytes(leaf: LeafBuffer, text: Uint8Array): void {
  const { bytes } = leaf;
  leaf.view.setUint32(leaf.end, text.length, true);
  for (let k = 0; k < text.length; k++) bytes[leaf.end + 4 + k] = text[k]!;
  leaf.end += 4 + text.length;
  leaf.definitions[leaf.entryCount++] = leaf.present;
  leaf.valueCount++;
}

function appendHalves(leaf: LeafBuffer, high: number, low: number): void {
  leaf.view.setInt32(leaf.end, low, true);
  leaf.view.setInt32(leaf.end + 4, high, true);
  leaf.end += 8;
  leaf.definitions[leaf.entryCount++] = leaf.present;
  leaf.valueCount++;
}
