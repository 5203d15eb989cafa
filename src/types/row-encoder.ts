// Appends whole rows, given as cell positions per column, to a file: the table's columns, then `_pg_flo_exact`.

import type { ColumnLeaves } from "../parquet/file-writer.ts";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import type { ParquetColumn } from "../parquet/schema.ts";
import { type Cells, type EncodeColumn, InexactValues } from "./family.ts";
import { OWN_FIELD_ID } from "./registry.ts";

export const EXACT_COLUMN: ParquetColumn = {
  kind: "value",
  name: "_pg_flo_exact",
  fieldId: OWN_FIELD_ID + 9,
  type: { physical: "BYTE_ARRAY", logical: { kind: "string" } },
};

/** A column to fill: its encoder, and the name under which an inexact value of it is told. */
export interface EncodedColumn {
  readonly name: string;
  readonly leaves: ColumnLeaves;
  readonly encode: EncodeColumn;
}

/** Collects the exact texts of rows in which a column could not hold its value. */
export class ExactColumn {
  readonly #leaf: LeafBuffer;
  readonly #inexact = new InexactValues();
  readonly #rows = new Map<number, Map<string, string>>();
  /** Inexact values so far, by column name. */
  readonly counts = new Map<string, number>();

  constructor([leaf]: ColumnLeaves) {
    this.#leaf = leaf;
  }

  /** Encodes one column's cells and remembers what was inexact. */
  encode(column: EncodedColumn, cells: Cells): void {
    column.encode(column.leaves, cells, this.#inexact);
    const { indexes, texts } = this.#inexact;
    if (indexes.length === 0) return;
    indexes.forEach((row, k) => {
      const exact = this.#rows.get(row) ?? new Map<string, string>();
      exact.set(column.name, texts[k]!);
      this.#rows.set(row, exact);
    });
    this.counts.set(column.name, (this.counts.get(column.name) ?? 0) + indexes.length);
    this.#inexact.clear();
  }

  /** After every column: appends the `_pg_flo_exact` values of `count` rows. */
  endRows(count: number): void {
    if (this.#rows.size === 0) {
      appendNulls(this.#leaf, count);
      return;
    }
    for (let row = 0; row < count; row++) {
      const exact = this.#rows.get(row);
      if (exact) appendText(this.#leaf, JSON.stringify(Object.fromEntries(exact)));
      else appendNulls(this.#leaf, 1);
    }
    this.#rows.clear();
  }
}

/** Appends `count` NULLs to a flat column. */
export function appendNulls(leaf: LeafBuffer, count: number): void {
  leaf.reserveEntries(count);
  leaf.definitions.fill(leaf.present - 1, leaf.entryCount, leaf.entryCount + count);
  leaf.entryCount += count;
}

/** Appends one text to a flat STRING column. */
export function appendText(leaf: LeafBuffer, text: string): void {
  const maxBytes = text.length * 3;
  leaf.reserve(4 + maxBytes);
  leaf.reserveEntries(1);
  const { written } = utf8.encodeInto(text, leaf.bytes.subarray(leaf.end + 4));
  leaf.view.setUint32(leaf.end, written, true);
  leaf.end += 4 + written;
  leaf.definitions[leaf.entryCount++] = leaf.present;
  leaf.valueCount++;
}

const utf8 = new TextEncoder();
