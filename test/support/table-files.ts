// Writes a table's rows to a Parquet file in memory as COPY does: cells into columns, then `_pg_flo_exact`.
import { Compressor } from "../../src/parquet/compressor.ts";
import { ParquetFileWriter } from "../../src/parquet/file-writer.ts";
import { CELL_NULL } from "../../src/parquet/leaf-buffer.ts";
import type { PgType, SourceColumn } from "../../src/postgres/catalog.ts";
import type { Cells } from "../../src/types/family.ts";
import type { ColumnPlan } from "../../src/types/registry.ts";
import { EXACT_COLUMN, ExactColumn } from "../../src/types/row-encoder.ts";
import { MemorySink } from "./parquet-files.ts";

/** `wires`: by column, then row, the binary wire bytes; null for NULL. */
export async function writeTable(
  plans: readonly ColumnPlan[],
  wires: readonly (readonly (Uint8Array | null)[])[],
  keyValues: ReadonlyMap<string, string> = new Map(),
): Promise<Uint8Array> {
  const sink = new MemorySink();
  const columns = [...plans.map((plan) => plan.parquet), EXACT_COLUMN];
  const writer = new ParquetFileWriter(sink, columns, {
    rowGroupBytes: 1 << 20,
    createdBy: "pg-flo version 0.0.0 (build test)",
    compressor: new Compressor("zstd"),
  });
  const exact = new ExactColumn(writer.columns[plans.length]!);
  const rowCount = wires[0]!.length;
  for (const [index, plan] of plans.entries()) {
    const column = { name: plan.source.name, leaves: writer.columns[index]!, encode: plan.encode };
    exact.encode(column, cellsOf(wires[index]!));
  }
  exact.endRows(rowCount);
  await writer.endRows(rowCount);
  await writer.finish(keyValues);
  return sink.bytes();
}

/** Values behind each other with their lengths, as they lie in received data. */
export function cellsOf(wires: readonly (Uint8Array | null)[]): Cells {
  const bytes = new Uint8Array(wires.reduce((size, wire) => size + 4 + (wire?.length ?? 0), 0));
  const view = new DataView(bytes.buffer);
  const positions = new Int32Array(wires.length);
  let at = 0;
  for (const [row, wire] of wires.entries()) {
    positions[row] = wire ? at : CELL_NULL;
    view.setInt32(at, wire ? wire.length : -1);
    if (wire) bytes.set(wire, at + 4);
    at += 4 + (wire?.length ?? 0);
  }
  return { bytes, view, positions, count: wires.length };
}

export function sourceColumn(name: string, attnum: number, typeOid: number, typmod = -1): SourceColumn {
  return { name, attnum, typeOid, typmod, typeName: "", notNull: false, generated: "" };
}

/** A row of pg_type. */
export function pgType(oid: number, more: Partial<PgType> = {}): PgType {
  const name = `type ${oid}`;
  const base = { oid, name, schema: "pg_catalog", typname: name, kind: "b", elementOid: 0 } as const;
  return { ...base, baseOid: 0, baseTypmod: -1, hasSend: true, ...more };
}
