// The manifest: the rows of _pg_flo.files, a public contract. A file counts if and only if it is listed there.
// Rows are only ever added together with what makes them true: a stream's position, or a range that is done.
import type { Lsn } from "../base/lsn.ts";
import { type Queryable, rows } from "./queryable.ts";

export interface NewFile {
  readonly tableId: number;
  /** The generation of the table that it was written for (`Table.generation`). */
  readonly generation: number;
  /** Relative to the storage's root; never used twice. */
  readonly path: string;
  readonly schemaVersion: number;
  readonly rowCount: number;
  readonly sizeBytes: number;
  /** Commit LSN of its first and last transaction; of a copy file both are the LSN of the snapshot it was read under. */
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  /** `crc32:<8 hex digits>` over the whole file. */
  readonly checksum: string;
}

export interface ManifestFile {
  readonly fileId: number;
  readonly kind: "copy" | "stream";
  readonly stream: number | null;
  readonly batchId: bigint | null;
  readonly path: string;
  readonly schemaVersion: number;
  readonly rowCount: number;
  readonly sizeBytes: number;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  readonly checksum: string;
  readonly createdAt: Date;
}

/** The shape of `filesParameter` in SQL. */
export const filesRecord = `new_file(table_id bigint, generation int, path text, schema_version int, row_count bigint,
  size_bytes bigint, lsn_start bigint, lsn_end bigint, checksum text)`;

/** Any number of files as one jsonb parameter: one round trip. bigints travel as text. */
export function filesParameter(files: readonly NewFile[]): string {
  return JSON.stringify(
    files.map((file) => ({
      table_id: file.tableId,
      generation: file.generation,
      path: file.path,
      schema_version: file.schemaVersion,
      row_count: file.rowCount,
      size_bytes: file.sizeBytes,
      lsn_start: file.lsnStart.toString(),
      lsn_end: file.lsnEnd.toString(),
      checksum: file.checksum,
    })),
  );
}

/** Takes every file of the tables out of the manifest. Gives their paths, for the caller to delete after the commit. */
export async function removeFiles(transaction: Queryable, tableIds: readonly number[]): Promise<string[]> {
  const removed = await rows<{ path: string }>(
    transaction,
    `delete from _pg_flo.files f using _pg_flo.tables t
     where t.table_id = any($1::bigint[]) and f.group_name = t.group_name
       and f.schema_name = t.schema_name and f.table_name = t.table_name
     returning f.path`,
    [tableIds],
  );
  return removed.map((file) => file.path);
}
