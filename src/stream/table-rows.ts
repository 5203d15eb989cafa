// Rows of one table that are waiting to be encoded, and the file of the open batch that they go into.

import { PgFloError } from "../base/errors.ts";
import { LSN_ZERO, type Lsn, lsn } from "../base/lsn.ts";
import { CELL_NULL } from "../parquet/leaf-buffer.ts";
import type { ParquetColumn } from "../parquet/schema.ts";
import { tupleKind } from "../postgres/tuple.ts";
import { textFamily } from "../types/bytes.ts";
import type { Cells } from "../types/family.ts";
import { InexactCounts } from "../types/inexact-counts.ts";
import { textOfBytes } from "../types/output-text.ts";
import { oldColumns } from "../types/registry.ts";
import { type EncodedColumn, EXACT_COLUMN, ExactColumn } from "../types/row-encoder.ts";
import type { TableFile } from "../types/table-file.ts";
import type { Arena } from "./arena.ts";
import {
  appendConstant,
  appendNames,
  appendNumbers,
  appendOfTransactions,
  appendOperations,
  type Halves,
  ownColumns,
} from "./own-columns.ts";
import type { StreamRelation, StreamTable } from "./stream-table.ts";
import { grown, OPERATION_DELETE } from "./transaction-store.ts";
import { columnValue, firstColumn, nextColumn } from "./tuple-reader.ts";

/** Rows that are encoded in one go. */
export const SLICE_ROWS = 4096;

/** What a row says of its transaction. */
export interface TransactionColumns {
  readonly lsn: Halves;
  readonly xid: Halves;
  readonly timestamp: Halves;
}

/** The columns of a table's stream files: its own, pg-flo's, `_pg_flo_exact`, then `_old_` twins. */
export function streamFileColumns(table: StreamTable): ParquetColumn[] {
  const old = oldColumns(oldPlanIndexes(table).map((index) => table.columns[index]!));
  return [...table.columns.map((plan) => plan.parquet), ...ownColumns, EXACT_COLUMN, ...old];
}

/** Indexes of the columns that have an `_old_` twin: the identity's, or all under REPLICA IDENTITY FULL. */
function oldPlanIndexes(table: StreamTable): number[] {
  const { identity, columns } = table;
  if (identity.kind === "none") return [];
  const keys = new Set(identity.columns);
  return columns.flatMap((plan, index) => (identity.kind === "full" || keys.has(plan.source.name) ? [index] : []));
}

/** Parallel arrays, one entry per row. Tuples are positions in the arena that `encode` is given. */
export class PendingRows {
  count = 0;
  operations = new Uint8Array(64);
  newTuples = new Int32Array(64);
  oldTuples = new Int32Array(64);
  transactions = new Int32Array(64);
  sequences = new Int32Array(64);

  add(operation: number, newTuple: number, oldTuple: number, transaction: number, sequence: number): void {
    const index = this.count;
    if (index === this.operations.length) this.#grow();
    this.operations[index] = operation;
    this.newTuples[index] = newTuple;
    this.oldTuples[index] = oldTuple;
    this.transactions[index] = transaction;
    this.sequences[index] = sequence;
    this.count = index + 1;
  }

  #grow(): void {
    const size = this.operations.length * 2;
    const operations = new Uint8Array(size);
    operations.set(this.operations);
    this.operations = operations;
    this.newTuples = grown(this.newTuples, size);
    this.oldTuples = grown(this.oldTuples, size);
    this.transactions = grown(this.transactions, size);
    this.sequences = grown(this.sequences, size);
  }
}

/**
 * Where the values of a slice's rows are: one array per column. Encoding is synchronous, so all tables of a thread share
 * them; one of its own for each of a thousand tables would be gigabytes.
 */
const scratch: Int32Array[] = [];

function scratchPositions(first: number, columnCount: number): readonly Int32Array[] {
  while (scratch.length < first + columnCount) scratch.push(new Int32Array(SLICE_ROWS));
  return scratch.slice(first, first + columnCount);
}

/** Encodes rows of one table into one file. */
export class TableRowEncoder {
  readonly file: TableFile;
  /** Commit LSNs of the first and the last row. */
  lsnStart: Lsn = LSN_ZERO;
  lsnEnd: Lsn = LSN_ZERO;
  readonly #relation: StreamRelation;
  readonly #exact: ExactColumn;
  readonly #columns: readonly EncodedColumn[];
  readonly #oldColumns: readonly EncodedColumn[];
  readonly #positions: readonly Int32Array[];
  /** Per column of the table; null for one without an `_old_` twin. */
  readonly #oldPositions: readonly (Int32Array | null)[];
  /** Per column of the table: the kind byte of values that are encoded as they come. */
  readonly #kinds: Uint8Array;
  /** Columns whose binary form is their text. */
  readonly #sameAsText: readonly boolean[];
  readonly #identityColumns: ReadonlySet<number> | null;
  readonly #unchanged = new Map<number, string[]>();
  readonly #schemaName: Uint8Array;
  readonly #tableName: Uint8Array;

  constructor(relation: StreamRelation, file: TableFile) {
    const { table } = relation;
    this.file = file;
    this.#relation = relation;
    const oldPlans = oldPlanIndexes(table);
    const { columns: leaves } = file.writer;
    const exactIndex = table.columns.length + ownColumns.length;
    this.#exact = new ExactColumn(leaves[exactIndex]!);
    this.#columns = table.columns.map((plan, index) => ({
      name: plan.source.name,
      leaves: leaves[index]!,
      encode: plan.encode,
    }));
    this.#oldColumns = oldPlans.map((planIndex, index) => ({
      name: `_old_${table.columns[planIndex]!.source.name}`,
      leaves: leaves[exactIndex + 1 + index]!,
      encode: table.columns[planIndex]!.encode,
    }));
    this.#positions = scratchPositions(0, table.columns.length);
    const old = scratchPositions(table.columns.length, oldPlans.length);
    this.#oldPositions = table.columns.map((_, index) => old[oldPlans.indexOf(index)] ?? null);
    this.#kinds = Uint8Array.from(table.columns, ({ binary }) => (binary ? tupleKind.binary : tupleKind.text));
    this.#sameAsText = table.columns.map(
      ({ binary, tree: { shape } }) => binary && shape.kind === "value" && shape.family.parse === textFamily.parse,
    );
    // Without a key the whole row is the identity.
    this.#identityColumns = relation.consolidation === "identity" ? new Set(relation.keyColumns) : null;
    this.#schemaName = new TextEncoder().encode(table.schema);
    this.#tableName = new TextEncoder().encode(table.name);
  }

  /** Inexact values so far, by column. */
  get inexactCounts(): ReadonlyMap<string, number> {
    return this.#exact.counts;
  }

  /** Throws TABLE_FAILED when there are any. */
  refuseInexact(): void {
    if (this.#exact.counts.size === 0) return;
    const { schema, name } = this.#relation.table;
    const counts = new InexactCounts();
    counts.add(this.#exact.counts);
    counts.refuse(`table ${schema}.${name}, stream`);
  }

  /** Encodes rows[from, to), at most SLICE_ROWS; a promise means that the file wants the caller to wait. */
  encode(
    rows: PendingRows,
    from: number,
    to: number,
    transactions: TransactionColumns,
    arena: Arena,
  ): Promise<void> | undefined {
    const count = to - from;
    const oldPositions = this.#oldPositions.filter((positions) => positions !== null);
    for (const positions of this.#positions) positions.fill(CELL_NULL, 0, count);
    for (const positions of oldPositions) positions.fill(CELL_NULL, 0, count);
    for (let row = 0; row < count; row++) this.#locate(rows, from + row, row, arena);
    // Only now: locating may have moved the arena's bytes.
    const cells: Cells = { bytes: arena.bytes, view: arena.view, positions: new Int32Array(0), count };
    for (let index = 0; index < this.#columns.length; index++) {
      cells.positions = this.#positions[index]!;
      this.#exact.encode(this.#columns[index]!, cells);
    }
    for (let index = 0; index < this.#oldColumns.length; index++) {
      cells.positions = oldPositions[index]!;
      this.#exact.encode(this.#oldColumns[index]!, cells);
    }
    this.#appendOwn(rows, from, to, transactions);
    this.#exact.endRows(count);
    // Rows come in commit order.
    if (this.file.writer.rowCount === 0) this.lsnStart = lsnOf(transactions, rows.transactions[from]!);
    this.lsnEnd = lsnOf(transactions, rows.transactions[to - 1]!);
    return this.file.writer.endRows(count);
  }

  #locate(rows: PendingRows, index: number, row: number, arena: Arena): void {
    const newTuple = rows.newTuples[index]!;
    const oldTuple = rows.oldTuples[index]!;
    if (newTuple >= 0) {
      this.#locateTuple(newTuple, row, arena, this.#positions, null);
    } else if (rows.operations[index] === OPERATION_DELETE) {
      // The identity stands in the table's own columns too.
      this.#locateTuple(oldTuple, row, arena, this.#positions, this.#identityColumns);
    }
    if (oldTuple >= 0) this.#locateTuple(oldTuple, row, arena, this.#oldPositions, null);
  }

  /** Notes where each column's value is; `only`: columns to take, null for all. */
  #locateTuple(
    tuple: number,
    row: number,
    arena: Arena,
    positions: readonly (Int32Array | null)[],
    only: ReadonlySet<number> | null,
  ): void {
    let { view } = arena;
    let at = firstColumn(tuple);
    for (let column = 0; column < positions.length; column++) {
      const end = nextColumn(view, at);
      const target = positions[column]!;
      if (target !== null && (only === null || only.has(column))) {
        if (view.getUint8(at) === this.#kinds[column]) target[row] = at + 1;
        else {
          target[row] = this.#locateValue(column, row, columnValue(view, at), arena);
          view = arena.view; // it may have grown
        }
      }
      at = end;
    }
  }

  /** The position of the value at its kind byte, whatever it is. A value that came as text and has a family becomes binary. */
  #locateValue(column: number, row: number, at: number, arena: Arena): number {
    const kind = arena.view.getUint8(at);
    if (kind === tupleKind.null) return CELL_NULL;
    const { table } = this.#relation;
    const { source, binary, parse } = table.columns[column]!;
    if (kind === tupleKind.unchanged) {
      const names = this.#unchanged.get(row);
      if (names) names.push(source.name);
      else this.#unchanged.set(row, [source.name]);
      return CELL_NULL;
    }
    if (kind === this.#kinds[column] || this.#sameAsText[column]) return at + 1;
    if (!binary) {
      throw new PgFloError(
        "NEEDS_TEXT",
        `stream, ${table.schema}.${table.name}, column ${source.name} of type ${source.typeName} came in binary`,
      );
    }
    const length = arena.view.getInt32(at + 1);
    const parsed = parse(textOfBytes(arena.bytes.subarray(at + 5, at + 5 + length)));
    const position = arena.reserve(4 + parsed.length);
    arena.view.setInt32(position, parsed.length);
    arena.bytes.set(parsed, position + 4);
    return position;
  }

  #appendOwn(rows: PendingRows, from: number, to: number, transactions: TransactionColumns): void {
    const first = this.#relation.table.columns.length;
    const leaf = (index: number) => this.file.writer.columns[first + index]![0];
    appendOperations(leaf(0), rows.operations, from, to);
    appendOfTransactions(leaf(1), transactions.lsn, rows.transactions, from, to);
    appendNumbers(leaf(2), rows.sequences, from, to);
    appendOfTransactions(leaf(3), transactions.xid, rows.transactions, from, to);
    appendOfTransactions(leaf(4), transactions.timestamp, rows.transactions, from, to);
    appendConstant(leaf(5), this.#schemaName, to - from);
    appendConstant(leaf(6), this.#tableName, to - from);
    for (let row = 0; row < to - from; row++) appendNames(leaf(7), this.#unchanged.get(row));
    this.#unchanged.clear();
  }
}

function lsnOf({ lsn: { high, low } }: TransactionColumns, transaction: number): Lsn {
  return lsn((BigInt(high[transaction]! >>> 0) << 32n) | BigInt(low[transaction]! >>> 0));
}
