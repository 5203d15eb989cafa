// A log written by hand: pgoutput messages, and what comes out of them, for pure tests of the stream. Tuples are arrays of
// texts or bytes; null is NULL, UNCHANGED a TOASTed value that the log does not carry.
import { LSN_ZERO, type Lsn, lsn } from "../../src/base/lsn.ts";
import type { PgType, ReplicaIdentity, SourceColumn } from "../../src/postgres/catalog.ts";
import { tupleKind } from "../../src/postgres/tuple.ts";
import { Arena } from "../../src/stream/arena.ts";
import type { ChangeReader } from "../../src/stream/change-reader.ts";
import type { CommittedTransaction } from "../../src/stream/committed-transaction.ts";
import { type ConsolidatedRows, Consolidator } from "../../src/stream/consolidate.ts";
import { replaySpilled } from "../../src/stream/spill-replay.ts";
import type { StreamRelation, StreamTable, TableCut } from "../../src/stream/stream-table.ts";
import type { TransactionStore } from "../../src/stream/transaction-store.ts";
import { columnValue, firstColumn, nextColumn } from "../../src/stream/tuple-reader.ts";
import { planColumns } from "../../src/types/registry.ts";
import { sourceColumn } from "./table-files.ts";

export const UNCHANGED = Symbol("unchanged");
/** A text comes as text, bytes as binary. */
export type Cell = string | Uint8Array | null | typeof UNCHANGED;
export type Tuple = readonly Cell[];

const TEXT_OID = 25;
const START_TIME_US = 800_000_000_000_000n;

/** A mirrored table of text columns. */
export function textTable(
  oid: number,
  columns: readonly string[],
  identity: ReplicaIdentity,
  cut: TableCut = LSN_ZERO,
): StreamTable {
  const source = columns.map((name, index) => sourceColumn(name, index + 1, TEXT_OID));
  return { ...tableOf(oid, source, identity), cut };
}

/** A mirrored table of columns of any built-in type. */
export function tableOf(
  oid: number,
  columns: readonly SourceColumn[],
  identity: ReplicaIdentity,
  types: ReadonlyMap<number, PgType> = new Map(),
): StreamTable {
  const base = { tableId: oid, generation: 1, schemaVersion: 1, oid, schema: "public", name: `t${oid}` };
  const wants = (column: string): boolean => columns.some(({ name }) => name === column);
  return { ...base, ...{ wants }, identity, columns: planColumns(columns, types), cut: LSN_ZERO };
}

/** The Relation message of a table as it is registered. */
export function relationOf({ oid, columns, identity }: StreamTable): number[] {
  return message.relation({
    oid,
    columns: columns.map(({ source }) => source.name),
    replicaIdentity: identity.kind === "full" ? "f" : identity.kind === "key" ? "d" : "n",
    types: new Map(columns.map(({ source }) => [source.name, source])),
  });
}

const int16 = (value: number): number[] => [(value >> 8) & 255, value & 255];
const int32 = (value: number): number[] => [...int16(value >>> 16), ...int16(value & 0xffff)];
const int64 = (value: bigint): number[] => [
  ...int32(Number((value >> 32n) & 0xffffffffn)),
  ...int32(Number(value & 0xffffffffn)),
];
const text = (value: string): number[] => [...Buffer.from(value), 0];

export interface SentRelation {
  readonly oid: number;
  readonly columns: readonly string[];
  readonly replicaIdentity: "d" | "n" | "f" | "i";
  /** By column name; text where it is missing. */
  readonly types?: ReadonlyMap<string, { readonly typeOid: number; readonly typmod: number }>;
}

export const message = {
  begin: (commitLsn: bigint, xid = 7): number[] => [0x42, ...int64(commitLsn), ...int64(START_TIME_US), ...int32(xid)],
  commit: (commitLsn: bigint): number[] => [
    ...[0x43, 0, ...int64(commitLsn), ...int64(commitLsn + 5n)],
    ...int64(START_TIME_US),
  ],
  relation: ({ oid, columns, replicaIdentity, types = new Map() }: SentRelation): number[] => [
    ...[0x52, ...int32(oid), ...text("public"), ...text(`t${oid}`), replicaIdentity.charCodeAt(0)],
    ...int16(columns.length),
    ...columns.flatMap((name) => {
      const { typeOid, typmod } = types.get(name) ?? { typeOid: TEXT_OID, typmod: -1 };
      return [0, ...text(name), ...int32(typeOid), ...int32(typmod)];
    }),
  ],
  insert: (oid: number, row: Tuple): number[] => [0x49, ...int32(oid), 0x4e, ...tupleBytes(row)],
  /** `old`: K for the identity, O for the whole row, or none. */
  update: (oid: number, row: Tuple, old?: { readonly kind: "K" | "O"; readonly tuple: Tuple }): number[] => [
    ...[0x55, ...int32(oid)],
    ...(old ? [old.kind.charCodeAt(0), ...tupleBytes(old.tuple)] : []),
    ...[0x4e, ...tupleBytes(row)],
  ],
  delete: (oid: number, kind: "K" | "O", tuple: Tuple): number[] => [
    ...[0x44, ...int32(oid), kind.charCodeAt(0)],
    ...tupleBytes(tuple),
  ],
  streamStart: (xid: number, first: boolean): number[] => [0x53, ...int32(xid), first ? 1 : 0],
  streamStop: (): number[] => [0x45],
  streamCommit: (xid: number, commitLsn: bigint): number[] => [
    ...[0x63, ...int32(xid), 0, ...int64(commitLsn), ...int64(commitLsn + 5n)],
    ...int64(START_TIME_US),
  ],
  streamAbort: (xid: number, subXid: number): number[] => [0x41, ...int32(xid), ...int32(subXid)],
  /** A change or relation as it comes in a stream block. */
  streamed: (xid: number, body: readonly number[]): number[] => [body[0]!, ...int32(xid), ...body.slice(1)],
  truncate: (...oids: number[]): number[] => [0x54, ...int32(oids.length), 0, ...oids.flatMap(int32)],
};

function tupleBytes(cells: Tuple): number[] {
  return [
    ...int16(cells.length),
    ...cells.flatMap((cell) => {
      if (cell === null) return [tupleKind.null];
      if (cell === UNCHANGED) return [tupleKind.unchanged];
      const kind = typeof cell === "string" ? tupleKind.text : tupleKind.binary;
      return [kind, ...int32(Buffer.byteLength(cell)), ...Buffer.from(cell as string)];
    }),
  ];
}

/** Parses each message into the reader, as the stream does: each lies somewhere in a larger buffer. */
export function feed(reader: ChangeReader, messages: readonly (readonly number[])[]): void {
  for (const body of messages) {
    const bytes = Uint8Array.from([1, 2, 3, ...body, 4, 5]);
    reader.parse(bytes, new DataView(bytes.buffer), 3, 3 + body.length);
  }
}

/** A row as consolidation gives it. */
export interface NetRow {
  readonly table: StreamTable;
  readonly operation: "INSERT" | "UPDATE" | "DELETE" | "TRUNCATE";
  readonly row: Tuple | null;
  readonly old: Tuple | null;
  readonly sequence: number;
}

const operations = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"] as const;

/** The consolidated rows of a transaction. */
export function netRows(store: TransactionStore, consolidator = new Consolidator()): NetRow[] {
  const rows: NetRow[] = [];
  const output: ConsolidatedRows = {
    row({ table }: StreamRelation, operation, newTuple, oldTuple, sequence) {
      const cells = (tuple: number): Tuple | null => (tuple < 0 ? null : readTuple(store.arena, tuple));
      rows.push({ table, operation: operations[operation]!, row: cells(newTuple), old: cells(oldTuple), sequence });
    },
  };
  consolidator.consolidate(store, output);
  return rows;
}

/** All rows of a transaction, spilled or not. */
export async function committedRows(transaction: CommittedTransaction): Promise<NetRow[]> {
  const { store, spilled, relations } = transaction;
  if (spilled === null) return netRows(store);
  await spilled.add(store);
  const rows: NetRow[] = [];
  const accepts = (relation: StreamRelation) => relations.has(relation);
  for await (const stores of replaySpilled(spilled, new Arena(64), accepts)) {
    for (const store of stores) rows.push(...netRows(store));
  }
  await spilled.release();
  return rows;
}

export function readTuple({ bytes, view }: Arena, tuple: number): Tuple {
  let at = firstColumn(tuple);
  return Array.from({ length: view.getUint16(tuple) }, () => {
    const value = columnValue(view, at);
    at = nextColumn(view, at);
    const kind = view.getUint8(value);
    if (kind === tupleKind.null) return null;
    if (kind === tupleKind.unchanged) return UNCHANGED;
    return Buffer.from(bytes.subarray(value + 5, value + 5 + view.getInt32(value + 1))).toString();
  });
}

/** Rows of a table: by identity where it has one, else as they were put in. */
export type TableState = Map<string, Tuple>;

/** Applies one transaction's rows for one table by the rule of design.md, "The state of a table at position P". */
export function applyNetRows(table: StreamTable, state: TableState, rows: readonly NetRow[]): TableState {
  const { identity, columns } = table;
  const keys = identity.kind === "none" ? [] : identity.columns;
  if (keys.length === 0) return applyInOrder(state, rows);
  const keyIndexes = columns.flatMap(({ source }, index) => (keys.includes(source.name) ? [index] : []));
  const keyOf = (tuple: Tuple): string => JSON.stringify(keyIndexes.map((index) => tuple[index]));
  const result: TableState = rows.some(({ operation }) => operation === "TRUNCATE") ? new Map() : new Map(state);
  for (const { old } of rows) if (old) result.delete(keyOf(old));
  for (const { row, old } of rows) {
    if (!row) continue;
    const before = state.get(keyOf(old ?? row));
    const image = row.map((cell, index) => {
      if (cell !== UNCHANGED) return cell;
      if (!before) throw new Error("an unchanged value of a row that was not there");
      return before[index]!;
    });
    result.set(keyOf(image), image);
  }
  return result;
}

// Rows are told apart by nothing but their values: keys are made up here.
function applyInOrder(state: TableState, rows: readonly NetRow[]): TableState {
  const all = [...state.values()];
  for (const { operation, row, old } of [...rows].sort((a, b) => a.sequence - b.sequence)) {
    if (operation === "TRUNCATE") all.length = 0;
    const gone = operation === "INSERT" ? null : old;
    if (gone) {
      const at = all.findIndex((each) => JSON.stringify(each) === JSON.stringify(gone));
      if (at < 0) throw new Error(`${operation} of a row that was not there`);
      all.splice(at, 1);
    }
    if (row) all.push(row);
  }
  return new Map(all.map((row, index) => [String(index), row]));
}

/** The rows of a state in one order, for comparison. */
export function sortedRows(state: TableState): string[] {
  return [...state.values()].map((row) => JSON.stringify(row)).sort();
}

export const lsnOf = (value: number): Lsn => lsn(BigInt(value));
