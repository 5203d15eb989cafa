// What the manifest lists, checked against the files themselves, and the positions that its batches made durable.
import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { Client } from "pg";

export interface ManifestRow {
  readonly kind: "copy" | "stream";
  readonly batch: bigint | null;
  readonly schema: string;
  readonly table: string;
  readonly path: string;
  readonly schemaVersion: number;
  readonly rowCount: number;
  readonly sizeBytes: number;
  readonly lsnStart: bigint;
  readonly lsnEnd: bigint;
  readonly checksum: string;
}

/** No file twice, every one there with its size and checksum, and no transaction of a table in two batches. */
export async function assertManifest(files: readonly ManifestRow[], root: string): Promise<void> {
  assert.equal(new Set(files.map((file) => file.path)).size, files.length, "a file is in the manifest twice");
  for (const file of files) {
    const path = join(root, file.path);
    assert.equal((await stat(path)).size, file.sizeBytes, `size of ${path}`);
    const crc = crc32(await readFile(path))
      .toString(16)
      .padStart(8, "0");
    assert.equal(`crc32:${crc}`, file.checksum, `checksum of ${path}`);
  }
  // Table by table: changes of one whose cut was waited for come in a batch after those of the others.
  for (const [table, own] of Map.groupBy(files, (file) => `${file.schema}.${file.table}`)) {
    const batches = batchPositions(own);
    for (let at = 1; at < batches.length; at++) {
      const [before, now] = [batches[at - 1]!, batches[at]!];
      assert.ok(now.lsnStart > before.lsnEnd, `${table}: batch ${now.batch} begins inside of batch ${before.batch}`);
    }
  }
}

/**
 * Whether it completes a copy that went on under another snapshot: its transaction is where no commit record can begin,
 * and it is listed late.
 */
export function completesCopy({ kind, lsnStart, lsnEnd }: ManifestRow): boolean {
  return kind === "stream" && lsnStart === lsnEnd && lsnStart % 8n === 7n;
}

/** The batches in order, each with its first and last transaction. */
export function batchPositions(
  files: readonly ManifestRow[],
): { readonly batch: bigint; readonly lsnStart: bigint; readonly lsnEnd: bigint }[] {
  const stream = files.filter((file) => file.kind === "stream" && !completesCopy(file));
  return [...Map.groupBy(stream, (file) => file.batch!)]
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([batch, group]) => ({
      batch,
      lsnStart: group.map((file) => file.lsnStart).reduce((a, b) => (a < b ? a : b)),
      lsnEnd: group.map((file) => file.lsnEnd).reduce((a, b) => (a > b ? a : b)),
    }));
}

/** Copies of an earlier snapshot are right from this position on. */
export function copiedFrom(files: readonly ManifestRow[]): bigint {
  return files.filter((file) => file.kind === "copy").reduce((most, { lsnEnd }) => (lsnEnd > most ? lsnEnd : most), 0n);
}

/** The files that the manifest lists for the group, in the order in which they came. */
export async function readManifest(metadata: Client, group: string): Promise<ManifestRow[]> {
  const { rows } = await metadata.query(
    `select kind, batch_id, schema_name, table_name, path, schema_version, row_count, size_bytes, lsn_start, lsn_end, checksum
     from _pg_flo.files where group_name = $1 order by file_id`,
    [group],
  );
  return rows.map((row) => ({
    kind: row.kind,
    batch: row.batch_id === null ? null : BigInt(row.batch_id),
    schema: row.schema_name,
    table: row.table_name,
    path: row.path,
    schemaVersion: row.schema_version,
    rowCount: Number(row.row_count),
    sizeBytes: Number(row.size_bytes),
    lsnStart: BigInt(row.lsn_start),
    lsnEnd: BigInt(row.lsn_end),
    checksum: row.checksum,
  }));
}
