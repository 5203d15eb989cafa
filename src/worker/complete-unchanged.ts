// Makes one moment of a copy whose ranges were read under several snapshots, the first of them at the table's cut C.
//
// The stream's changes from C on are applied over all ranges, so at any position from the newest snapshot on every row
// is right that the stream has whole, and so is every row that nobody touched: it stayed where it was. What is missing is
// the base of a TOASTed value that an update between C and that snapshot did not touch: the update may have moved its row
// from a range that was not read yet into one that was, or to another key. So the rows whose newest image before the
// snapshot lacks such a value are read from the source, in a snapshot S not older than that of any range, and written as
// one more transaction of the stream at S - 1. No other one can be there: records of the log begin at multiples of 8, and
// so do the points of snapshots. By the rule of docs/files.md it replaces what was before, and later changes build on it.
//
// The table leaves `copying` with those files, in one transaction, and only when the stream's position has reached S - 1.
// A crash repeats all of it, under a later snapshot.
import { randomInt } from "node:crypto";
import { failpoint } from "../base/failpoints.ts";
import type { Log } from "../base/log.ts";
import { formatLsn, type Lsn, lsn } from "../base/lsn.ts";
import type { Config } from "../config/config.ts";
import { inSnapshot } from "../copy/snapshot-connection.ts";
import { completeCopy } from "../metadata/copy-completion.ts";
import type { Queryable } from "../metadata/queryable.ts";
import { readStream } from "../metadata/streams.ts";
import type { Table } from "../metadata/tables.ts";
import type { HeapRelation, PgType } from "../postgres/catalog.ts";
import { applicationName } from "../postgres/connect.ts";
import type { RawConnection } from "../postgres/raw-connection.ts";
import type { Storage } from "../storage/storage.ts";
import { Batch } from "../stream/batch.ts";
import { streamRelation } from "../stream/stream-table.ts";
import { InexactCounts } from "../types/inexact-counts.ts";
import type { StoredHeap } from "./copy-plan.ts";
import { streamTables } from "./discovery.ts";
import { findRows, readImages } from "./row-images.ts";
import type { HeldSnapshot } from "./snapshot.ts";
import { unchangedRows } from "./unchanged-rows.ts";

export interface CompletionOptions {
  readonly config: Config;
  readonly db: Queryable;
  readonly storage: Storage;
  readonly types: ReadonlyMap<number, PgType>;
  readonly log: Log;
}

/** A table that awaits its completion, and its heaps now and as they were planned. */
export interface CopiedTable {
  readonly table: Table;
  readonly heaps: readonly HeapRelation[];
  readonly planned: readonly StoredHeap[];
}

const POSTGRES_EPOCH_US = 946_684_800_000_000n;

/** Whether everything that the snapshot sees is durable in the table's stream. */
export async function streamHasReached(db: Queryable, table: Table, snapshotLsn: Lsn): Promise<boolean> {
  const stream = await readStream(db, { group: table.group, stream: table.stream! });
  return stream?.position !== undefined && stream.position !== null && stream.position >= snapshotLsn - 1n;
}

/**
 * Completes a table whose stream has reached the snapshot. Errors: TABLE_CHANGED when the copy
 * must begin anew, SNAPSHOT_LOST, and whatever fails the table or is tried again. Nothing is stored then.
 */
export async function completeTable(
  options: CompletionOptions,
  copied: CopiedTable,
  snapshot: Pick<HeldSnapshot, "name" | "lsn">,
  signal: AbortSignal,
): Promise<void> {
  const { db, log } = options;
  const { table } = copied;
  const stream = await readStream(db, { group: table.group, stream: table.stream! });
  if (!stream) return; // the group was dropped
  const batch = openBatch(options, table, stream.epoch, snapshot.lsn);
  let asked = false;
  try {
    const rowCount = await readRows(options, copied, snapshot, batch, signal);
    const files = await batch.finish();
    for (const [, error] of batch.failedTables) throw error;
    failpoint("completion.files-durable");
    const { tableId, generation, schemaVersion } = table;
    const inexact = new InexactCounts();
    for (const file of files) inexact.add(file.inexact);
    asked = true;
    const completion = await completeCopy(db, {
      stream,
      ...{ tableId, generation },
      snapshotLsn: snapshot.lsn,
      files: files.map(({ path, rowCount: rows, sizeBytes, checksum, lsnStart, lsnEnd }) => {
        return { tableId, generation, schemaVersion, path, rowCount: rows, sizeBytes, checksum, lsnStart, lsnEnd };
      }),
      rows: rowCount,
      inexactColumns: inexact.byColumn,
    });
    failpoint("completion.committed");
    const name = `${table.schema}.${table.name}`;
    if (completion.result === "done") {
      log.info("table copied, under several snapshots", {
        table: name,
        at: formatLsn(snapshot.lsn),
        rowsReadAgain: rowCount,
      });
    }
  } catch (error) {
    // Files of a commit whose outcome is not known must stay: they may be in the manifest. Orphans go by age.
    if (!asked) await batch.abort();
    throw error;
  }
}

/** Its files are named as the stream's own, so that they are orphans when its epoch has gone up, and not before. */
function openBatch({ config, storage }: CompletionOptions, table: Table, epoch: bigint, snapshotLsn: Lsn): Batch {
  const unique = `${snapshotLsn}${String(randomInt(1e9)).padStart(9, "0")}`;
  return new Batch({
    group: config.group,
    name: `${table.stream}-${epoch}-${unique}`,
    storage,
    fileSizeBytes: config.stream.fileSizeBytes,
    compression: config.compression,
  });
}

/** Gives the number of rows that were read again. */
async function readRows(
  options: CompletionOptions,
  { table, heaps, planned }: CopiedTable,
  snapshot: Pick<HeldSnapshot, "name" | "lsn">,
  batch: Batch,
  signal: AbortSignal,
): Promise<number> {
  const { config, db, storage, types } = options;
  if (!heaps.some(({ hasToast }) => hasToast)) return 0;
  const keys = unchangedRows({
    ...{ db, table, types, storage },
    before: snapshot.lsn,
    storageConfig: config.storage,
    folder: config.stream.spillFolder,
  });
  const first = await keys.next();
  if (first.done) return 0;
  failpoint("completion.keys-found");
  const name = applicationName(config.group, "complete");
  const opened = { source: config.source, applicationName: name, snapshot: snapshot.name };
  try {
    return await inSnapshot(opened, signal, async (connection) => {
      const relation = streamRelation(
        streamTables([table], types, config.schemas, table.stream!).get(table.relationOid)!,
      );
      const source = { connection, relation, heaps, planned };
      const places = await findRows(source, continued(first.value, keys));
      const timeUs = await transactionTimeUs(connection);
      const at = lsn(snapshot.lsn - 1n);
      return readImages(source, places, batch, () => batch.beginTransaction(at, 0, timeUs));
    });
  } finally {
    await keys.return(undefined);
  }
}

async function* continued<T>(first: T, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  yield first;
  yield* rest;
}

/** Of the source, in microseconds since 2000-01-01. */
export async function transactionTimeUs(connection: RawConnection): Promise<bigint> {
  const [row] = await connection.query("select (extract(epoch from now()) * 1000000)::bigint");
  return BigInt(row![0]!) - POSTGRES_EPOCH_US;
}
