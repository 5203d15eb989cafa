// Makes a table of the mirror right again: the rows that a verification found different are read from the source in the
// verification's own snapshot, at C, and written as one more transaction of the stream at C - 1, whose rows replace what
// was before and on which later changes build (see complete-unchanged.ts). Rows that the source lacks become DELETEs.
// Refuses tables whose rows cannot be asked for by their key: they can only be copied again.
import { randomInt } from "node:crypto";
import { failpoint } from "../base/failpoints.ts";
import { formatLsn, type Lsn, lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { inSnapshot } from "../copy/snapshot-connection.ts";
import type { NewFile } from "../metadata/files.ts";
import type { InexactColumns } from "../metadata/inexact-columns.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { commitRepair } from "../metadata/repairs.ts";
import { readStream } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import type { HeapRelation, PgType } from "../postgres/catalog.ts";
import { applicationName } from "../postgres/connect.ts";
import { tupleKind } from "../postgres/tuple.ts";
import type { Storage } from "../storage/storage.ts";
import { Arena } from "../stream/arena.ts";
import { Batch } from "../stream/batch.ts";
import { type StreamRelation, streamRelation } from "../stream/stream-table.ts";
import { OPERATION_DELETE } from "../stream/transaction-store.ts";
import { InexactCounts } from "../types/inexact-counts.ts";
import type { DifferingRow, TablePlan } from "../verify/table-checksums.ts";
import { transactionTimeUs } from "./complete-unchanged.ts";
import { streamTables } from "./discovery.ts";
import { findRows, readImages } from "./row-images.ts";
import type { HeldSnapshot } from "./snapshot.ts";

/** Keys that are looked up, or deleted, at once. */
const KEYS_AT_ONCE = 1000;

export interface RepairSource {
  readonly config: Config;
  readonly storage: Storage;
  readonly types: ReadonlyMap<number, PgType>;
  readonly snapshot: Pick<HeldSnapshot, "name" | "lsn">;
  /** The table's heaps as they are in the snapshot. */
  readonly heaps: readonly HeapRelation[];
}

export interface RepairRows {
  /** Durable, in no manifest. */
  readonly files: readonly NewFile[];
  readonly rowsRead: number;
  readonly rowsDeleted: number;
  readonly inexactColumns: InexactColumns;
}

/** Why the table cannot be repaired row by row, or null. */
export function notRepairable({ key, entry }: TablePlan): string | null {
  const { identity } = entry.table;
  if (identity.kind === "none" || identity.columns.length === 0) return "its rows have no key: copy it again";
  if (key.length === 0) return "its key cannot be compared: copy it again";
  const odd = key.find(({ input }) => input === null);
  return odd ? `rows cannot be asked for by a ${odd.column.typeName}: copy it again` : null;
}

/** Reads the rows and makes their files durable. `epoch`: of the table's stream, which the commit must still find. */
export async function writeRepair(
  source: RepairSource,
  table: Table,
  epoch: bigint,
  rows: readonly DifferingRow[],
  signal: AbortSignal,
): Promise<RepairRows> {
  const { config, storage, types, snapshot } = source;
  const relation = streamRelation(streamTables([table], types, config.schemas, table.stream!).get(table.relationOid)!);
  const unique = `${snapshot.lsn}${String(randomInt(1e9)).padStart(9, "0")}`;
  const batch = new Batch({
    group: config.group,
    name: `${table.stream}-${epoch}-${unique}`,
    storage,
    fileSizeBytes: config.stream.fileSizeBytes,
    compression: config.compression,
  });
  try {
    const rowsRead = await readRows(source, relation, rows, batch, signal);
    const files = await batch.finish();
    for (const [, error] of batch.failedTables) throw error;
    failpoint("repair.files-durable");
    const inexact = new InexactCounts();
    for (const file of files) inexact.add(file.inexact);
    const { tableId, generation, schemaVersion } = table;
    return {
      files: files.map(({ path, rowCount, sizeBytes, checksum, lsnStart, lsnEnd }) => {
        return { tableId, generation, schemaVersion, path, rowCount, sizeBytes, checksum, lsnStart, lsnEnd };
      }),
      rowsRead,
      rowsDeleted: rows.filter(({ kind }) => kind === "extra").length,
      inexactColumns: inexact.byColumn,
    };
  } catch (error) {
    await batch.abort();
    throw error;
  }
}

/** Gives the number of rows that were read. */
async function readRows(
  { config, snapshot, heaps }: RepairSource,
  relation: StreamRelation,
  rows: readonly DifferingRow[],
  batch: Batch,
  signal: AbortSignal,
): Promise<number> {
  const name = applicationName(config.group, "repair");
  const opened = { source: config.source, applicationName: name, snapshot: snapshot.name };
  return inSnapshot(opened, signal, async (connection) => {
    const at: Lsn = lsn(snapshot.lsn - 1n);
    const timeUs = await transactionTimeUs(connection);
    const begin = (): void => batch.beginTransaction(at, 0, timeUs);
    const source = { connection, relation, heaps, planned: heaps };
    const there = rows.filter(({ kind }) => kind !== "extra").map(({ key }) => key);
    const places = await findRows(source, inPieces(there));
    const rowCount = await readImages(source, places, batch, begin);
    const gone = rows.filter(({ kind }) => kind === "extra").map(({ key }) => key);
    await deleteRows(relation, gone, batch, begin, rowCount);
    return rowCount;
  });
}

async function* inPieces(keys: readonly (readonly string[])[]): AsyncGenerator<readonly (readonly string[])[]> {
  for (let from = 0; from < keys.length; from += KEYS_AT_ONCE) yield keys.slice(from, from + KEYS_AT_ONCE);
}

/** DELETEs by the keys' texts, which are parsed as those of a stream are that comes as text. */
async function deleteRows(
  relation: StreamRelation,
  keys: readonly (readonly string[])[],
  batch: Batch,
  begin: () => void,
  firstSequence: number,
): Promise<void> {
  const { identity, columns } = relation.table;
  const names = identity.kind === "none" ? [] : identity.columns;
  const positions = new Map(names.map((name, at) => [columns.findIndex(({ source }) => source.name === name), at]));
  const arena = new Arena();
  let sequence = firstSequence;
  for await (const piece of inPieces(keys)) {
    for (const key of piece) {
      if (batch.pendingRows === 0) begin();
      batch.row(relation, OPERATION_DELETE, -1, appendKey(arena, columns.length, positions, key), ++sequence);
    }
    await batch.encodePending(arena);
    arena.reset();
  }
}

function appendKey(
  arena: Arena,
  columnCount: number,
  positions: ReadonlyMap<number, number>,
  key: readonly string[],
): number {
  const tuple = arena.reserve(2);
  arena.view.setUint16(tuple, columnCount);
  for (let column = 0; column < columnCount; column++) {
    const at = positions.get(column);
    const kind = arena.reserve(1);
    if (at === undefined) {
      arena.bytes[kind] = tupleKind.null;
      continue;
    }
    arena.bytes[kind] = tupleKind.text;
    const text = Buffer.from(key[at]!);
    const size = arena.reserve(4);
    arena.view.setInt32(size, text.length);
    arena.append(text, 0, text.length);
  }
  return tuple;
}

export interface RepairDone extends Pick<RepairRows, "rowsRead" | "rowsDeleted"> {
  /** Paths that left the manifest. */
  readonly removedFiles: readonly string[];
}

const ATTEMPTS = 3;

/**
 * Repairs a table and makes that durable. Begins again when its stream was taken by another worker meanwhile; null: the
 * table changed, nothing was stored.
 */
export async function repairTable(
  db: Queryable,
  source: RepairSource,
  table: Table,
  rows: readonly DifferingRow[],
  damaged: readonly string[],
  signal: AbortSignal,
): Promise<RepairDone | null> {
  const at = lsn(source.snapshot.lsn - 1n);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const stream = await readStream(db, { group: table.group, stream: table.stream! });
    if (!stream) return null;
    const written = await writeRepair(source, table, stream.epoch, rows, signal);
    const { tableId, generation, schemaVersion } = table;
    const message = repairMessage(written, damaged.length, at);
    failpoint("repair.before-commit");
    const result = await commitRepair(db, {
      ...{ stream, tableId, generation, schemaVersion, lsn: at, damaged },
      files: written.files,
      rows: written.rowsRead + written.rowsDeleted,
      inexactColumns: written.inexactColumns,
      event: { severity: "warning", code: "REPAIRED", subject: `${table.schema}.${table.name}`, message },
    });
    failpoint("repair.committed");
    if (result === "repaired") return { ...written, removedFiles: damaged };
    for (const { path } of written.files) await source.storage.remove(path); // a commit that answered, so nobody lists them
  }
  return null;
}

/** For the event and the log: never a value. */
function repairMessage(
  { rowsRead, rowsDeleted }: Pick<RepairRows, "rowsRead" | "rowsDeleted">,
  damagedFiles: number,
  at: Lsn,
): string {
  const files = damagedFiles === 0 ? "" : `, ${damagedFiles} damaged file(s) left the manifest`;
  return `repaired at ${formatLsn(at)}: ${rowsRead} row(s) read again, ${rowsDeleted} deleted${files}`;
}
