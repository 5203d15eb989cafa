// One Parquet file of one table: opened at its path, filled by encoders, finished with the footer that readers rely on.

import type { Compression } from "../base/compression.ts";
import type { Lsn } from "../base/lsn.ts";
import { createdBy } from "../base/version.ts";
import { Compressor } from "../parquet/compressor.ts";
import { type ColumnLeaves, ParquetFileWriter } from "../parquet/file-writer.ts";
import type { ParquetColumn } from "../parquet/schema.ts";
import type { FileSink, Storage, StoredFile } from "../storage/storage.ts";
import { geoMetadata } from "./postgis.ts";
import type { ColumnPlan } from "./registry.ts";

/** PLAIN bytes of a row group. Compressed pages of up to two of them are held in memory. */
const ROW_GROUP_BYTES = 64 * 1024 * 1024;

/** All files of a thread share its lanes. */
const compressors = new Map<Compression, Compressor>();

/** A file that is durable and not yet in the manifest. */
export interface TableFileResult extends StoredFile {
  readonly rowCount: number;
}

export interface TableFileFacts {
  readonly kind: "copy" | "stream";
  readonly schemaVersion: number;
  readonly lsnStart: Lsn;
  readonly lsnEnd: Lsn;
  readonly columns: readonly ColumnPlan[];
}

/** The file is created at the storage with its first bytes: a small one needs no handle until it is finished. */
export class TableFile {
  readonly writer: ParquetFileWriter;
  readonly path: string;
  readonly #storage: Storage;
  #sink: Promise<FileSink> | null = null;
  #dropped = false;

  constructor(storage: Storage, path: string, columns: readonly ParquetColumn[], compression: Compression) {
    this.#storage = storage;
    this.path = path;
    const sink = { write: async (bytes: Uint8Array) => (await this.#open()).write(bytes) };
    const compressor = compressorOf(compression);
    this.writer = new ParquetFileWriter(sink, columns, { rowGroupBytes: ROW_GROUP_BYTES, createdBy, compressor });
  }

  /** Writes the rest and the footer and makes the file durable. */
  finish(facts: TableFileFacts): Promise<TableFileResult> {
    return this.finishAs(footerKeyValues(facts, this.writer.columns));
  }

  /** The same with a footer that is made of other files'. */
  async finishAs(keyValues: ReadonlyMap<string, string>): Promise<TableFileResult> {
    await this.writer.finish(keyValues);
    const stored = await (await this.#open()).finish();
    return { ...stored, rowCount: this.writer.rowCount };
  }

  /** Drops the file, in whatever state it is. */
  async abort(): Promise<void> {
    this.#dropped = true;
    const [opened] = await Promise.allSettled([this.#sink]); // one that could not be created left nothing to drop
    if (opened.status === "fulfilled") await opened.value?.abort();
  }

  #open(): Promise<FileSink> {
    // A row group that was on its way to the file would make it anew.
    if (this.#dropped && this.#sink === null) return Promise.reject(new Error(`${this.path} was dropped`));
    this.#sink ??= this.#storage.create(this.path);
    return this.#sink;
  }
}

function compressorOf(compression: Compression): Compressor {
  const compressor = compressors.get(compression) ?? new Compressor(compression);
  compressors.set(compression, compressor);
  return compressor;
}

/** The footer's key-value metadata, a public contract (docs/files.md). `leaves`: of the file's columns, which it was filled by. */
export function footerKeyValues(facts: TableFileFacts, leaves: readonly ColumnLeaves[]): Map<string, string> {
  const columns = facts.columns.map(({ source, fileName }) => ({
    name: source.name,
    file_name: fileName,
    attnum: source.attnum,
    type: source.typeName,
    type_oid: source.typeOid,
    typmod: source.typmod,
    nullable: !source.notNull,
    ...(source.missing !== undefined && { missing: source.missing }),
  }));
  return new Map([
    ["pg_flo.kind", facts.kind],
    ["pg_flo.schema_version", String(facts.schemaVersion)],
    ["pg_flo.lsn_start", String(facts.lsnStart)],
    ["pg_flo.lsn_end", String(facts.lsnEnd)],
    ["pg_flo.columns", JSON.stringify(columns)],
    ...geoKeyValue(facts.columns, leaves),
  ]);
}

/** GeoParquet's own key, in files with geometries. */
function geoKeyValue(columns: readonly ColumnPlan[], leaves: readonly ColumnLeaves[]): [string, string][] {
  const geo = geoMetadata(
    columns.map(({ fileName, tree: { shape } }, index) => ({
      fileName,
      family: shape.kind === "value" ? shape.family : null,
      leaf: leaves[index]![0],
    })),
  );
  return geo === null ? [] : [["geo", geo]];
}
