// What people and readers see of a group: each function shows one moment, however much goes on meanwhile.
// Lag and retained WAL are not known here: they come from the source.
import { PgFloError } from "../base/errors.ts";
import { type Lsn, lsn } from "../base/lsn.ts";
import { readRunningProgress, readWaitingWork, type WaitingWork } from "./capacity.ts";
import type { GroupEvent } from "./events.ts";
import { readEvents } from "./events.ts";
import type { ManifestFile } from "./files.ts";
import { type Queryable, row, rows, transaction } from "./queryable.ts";
import { readStreams, type Stream } from "./streams.ts";
import { nameKey } from "./table-name.ts";
import { readVersions } from "./table-versions.ts";
import { readTables, type Table, type TableColumn } from "./tables.ts";
import { readVerifications, type TableVerification } from "./verifications.ts";
import { readWorkers, type WorkerInfo } from "./workers.ts";

const eventsShown = 20;

export interface GroupStatus {
  readonly group: string;
  /** Up to where every active stream is durable: the lowest position. Null before the first stream is active. */
  readonly position: Lsn | null;
  readonly tables: readonly Table[];
  readonly streams: readonly Stream[];
  readonly workers: readonly WorkerInfo[];
  /** The newest, newest first. */
  readonly events: readonly GroupEvent[];
  readonly files: { readonly count: number; readonly sizeBytes: number };
  /** What has been read of ranges that are not done, by table id. */
  readonly reading: ReadonlyMap<number, { readonly rows: number; readonly bytes: number }>;
  readonly waiting: WaitingWork;
  /** The newest of each table that has one, by table. */
  readonly verifications: ReadonlyMap<number, TableVerification>;
}

/** What `status` shows. `readGroup` comes first: it tells a missing group and a damaged schema. */
export async function readStatus(db: Queryable, group: string): Promise<GroupStatus> {
  return transaction(
    db,
    async (snapshot) => {
      const streams = await readStreams(snapshot, group);
      const tables = await readTables(snapshot, group);
      return {
        group,
        position: lowestPosition(streams),
        tables,
        streams,
        workers: await readWorkers(snapshot, group),
        reading: await readRunningProgress(snapshot, group),
        waiting: await readWaitingWork(snapshot, group),
        verifications: await readVerifications(snapshot, group),
        events: await readEvents(snapshot, group, eventsShown),
        files: {
          count: tables.reduce((sum, table) => sum + table.fileCount, 0),
          sizeBytes: tables.reduce((sum, table) => sum + table.fileBytes, 0),
        },
      };
    },
    { isolation: "snapshot" },
  );
}

export interface ManifestTable {
  readonly table: Table;
  /** Columns by schema version, for every version that a file may have. */
  readonly versions: ReadonlyMap<number, readonly TableColumn[]>;
  /** Of the table's stream: rows of stream files count up to it (all that are in the manifest do). Null: no stream yet. */
  readonly position: Lsn | null;
  /** Copy files, then stream files by their first LSN. */
  readonly files: readonly ManifestFile[];
}

export interface Manifest {
  readonly group: string;
  readonly storageUrl: string;
  readonly tables: readonly ManifestTable[];
}

/**
 * What readers need to show the tables' state: copy rows, then the stream's. Removed and failed tables are in it with
 * the files that they have; a table that is still copied has only part of its rows (see `Table.state`).
 * `tableId`: only this one. GROUP_MISSING: no such group.
 */
export async function readManifest(db: Queryable, group: string, tableId?: number): Promise<Manifest> {
  return transaction(
    db,
    async (snapshot) => {
      const made = await row<{ storage_url: string }>(
        snapshot,
        "select storage_url from _pg_flo.groups where name = $1",
        [group],
      );
      if (!made) throw new PgFloError("GROUP_MISSING", `group ${group}, not known to the metadata database, 0 rows`);
      const positions = new Map((await readStreams(snapshot, group)).map((each) => [each.stream, each.position]));
      const versions = await readVersions(snapshot, group);
      const known = (await readTables(snapshot, group)).filter(
        (table) => tableId === undefined || table.tableId === tableId,
      );
      const files = await readFiles(snapshot, group, tableId === undefined ? undefined : known[0]);
      const tables = known.map((table) => ({
        table,
        versions: versions.get(table.tableId) ?? new Map(),
        position: table.stream === null ? null : (positions.get(table.stream) ?? null),
        files: files.get(nameKey(table)) ?? [],
      }));
      return { group, storageUrl: made.storage_url, tables };
    },
    { isolation: "snapshot" },
  );
}

function lowestPosition(streams: readonly Stream[]): Lsn | null {
  const positions = streams.flatMap((stream) => (stream.position === null ? [] : [stream.position]));
  const [lowest] = positions.sort((left, right) => Number(left - right));
  return lowest ?? null;
}

interface FileRow {
  readonly schema_name: string;
  readonly table_name: string;
  readonly file_id: string;
  readonly kind: "copy" | "stream";
  readonly stream: number | null;
  readonly batch_id: string | null;
  readonly path: string;
  readonly schema_version: number;
  readonly row_count: string;
  readonly size_bytes: string;
  readonly lsn_start: string;
  readonly lsn_end: string;
  readonly checksum: string;
  readonly created_at: Date;
}

async function readFiles(db: Queryable, group: string, only?: Table): Promise<Map<string, ManifestFile[]>> {
  const found = await rows<FileRow>(
    db,
    `select schema_name, table_name, file_id, kind, stream, batch_id, path, schema_version, row_count, size_bytes,
       lsn_start, lsn_end, checksum, created_at
     from _pg_flo.files where group_name = $1 and ($2::text is null or (schema_name = $2 and table_name = $3))
     order by schema_name, table_name, kind, lsn_start, file_id`,
    [group, only?.schema ?? null, only?.name ?? null],
  );
  const byTable = new Map<string, ManifestFile[]>();
  for (const file of found) {
    const key = nameKey({ schema: file.schema_name, name: file.table_name });
    const files = byTable.get(key);
    if (files) files.push(toManifestFile(file));
    else byTable.set(key, [toManifestFile(file)]);
  }
  return byTable;
}

function toManifestFile(found: FileRow): ManifestFile {
  return {
    fileId: Number(found.file_id),
    kind: found.kind,
    stream: found.stream,
    batchId: found.batch_id === null ? null : BigInt(found.batch_id),
    path: found.path,
    schemaVersion: found.schema_version,
    rowCount: Number(found.row_count),
    sizeBytes: Number(found.size_bytes),
    lsnStart: lsn(BigInt(found.lsn_start)),
    lsnEnd: lsn(BigInt(found.lsn_end)),
    checksum: found.checksum,
    createdAt: found.created_at,
  };
}
