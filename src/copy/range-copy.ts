// Copies one range of heap blocks: COPY binary from the server, values into column pages in place, one file or more.

import { randomBytes } from "node:crypto";
import type { Compression } from "../base/compression.ts";

import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import { quoteIdentifier } from "../postgres/quote.ts";
import type { RawConnection } from "../postgres/raw-connection.ts";
import { copyFilePath } from "../storage/paths.ts";
import type { Storage } from "../storage/storage.ts";
import type { Cells } from "../types/family.ts";
import { InexactCounts } from "../types/inexact-counts.ts";
import type { ColumnPlan } from "../types/registry.ts";
import { type EncodedColumn, EXACT_COLUMN, ExactColumn } from "../types/row-encoder.ts";
import { TableFile, type TableFileResult } from "../types/table-file.ts";
import { CopyDecoder } from "./copy-decoder.ts";

export interface RangeCopy {
  readonly group: string;
  /** The mirrored table, whose name the file's path has. */
  readonly schema: string;
  readonly table: string;
  /** The relation that is read: the table, or a leaf of it. */
  readonly heapSchema: string;
  readonly heapName: string;
  readonly rangeNumber: number;
  readonly blockFrom: number;
  /** Null: to the end of the table. */
  readonly blockTo: number | null;
  readonly columns: readonly ColumnPlan[];
  /** A value that its column cannot hold exactly makes it fail with TABLE_FAILED. */
  readonly exactOnly?: boolean;
  readonly schemaVersion: number;
  /** The consistent point of the snapshot that is read. */
  readonly snapshotLsn: Lsn;
  readonly fileSizeBytes: number;
  readonly compression: Compression;
}

export interface RangeResult {
  readonly files: readonly TableFileResult[];
  readonly rowCount: number;
  /** Bytes of COPY data. */
  readonly sizeBytes: number;
  /** Values that are inexact in their columns, by column. */
  readonly inexact: Readonly<Record<string, number>>;
}

/** What has come so far; read by whoever shows progress. */
export interface CopyProgress {
  rowCount: number;
  sizeBytes: number;
}

/** A range that is read; its last file is not finished yet, and nothing is in the manifest. */
export interface ReadRange {
  /** Makes the files durable. A failure leaves none behind. */
  finish(): Promise<RangeResult>;
  /** Drops them. */
  abort(): Promise<void>;
}

const NO_BYTES = new Uint8Array(0);
const NO_VIEW = new DataView(NO_BYTES.buffer);

/**
 * Reads the range into files. A failure leaves none behind. `pace` is told how much came, and gives a promise of when more
 * may be read.
 */
export async function copyRange(
  connection: RawConnection,
  storage: Storage,
  range: RangeCopy,
  progress: CopyProgress,
  pace: (byteCount: number) => Promise<void> | undefined = () => undefined,
): Promise<ReadRange> {
  const output = new RangeOutput(storage, range);
  const decoder = new CopyDecoder(range.columns.length);
  let sizeBytes = 0;
  let pacedBytes = 0;
  let rowBytes: Uint8Array = NO_BYTES;
  let rowView: DataView = NO_VIEW;
  try {
    await connection.copyOut(rangeSql(range), {
      row: (bytes, view, start, end) => {
        decoder.row(bytes, view, start, end);
        sizeBytes += end - start;
        progress.sizeBytes += end - start;
        rowBytes = bytes;
        rowView = view;
        if (decoder.full) progress.rowCount += output.append(bytes, view, decoder);
      },
      chunk: () => {
        progress.rowCount += output.append(rowBytes, rowView, decoder);
        rowBytes = NO_BYTES; // of a huge value, while reading waits for the compressor
        rowView = NO_VIEW;
        const pause = pace(sizeBytes - pacedBytes);
        pacedBytes = sizeBytes;
        const pressure = output.pressure();
        return pause ? Promise.all([pause, pressure]).then(() => {}) : pressure;
      },
    });
    if (!decoder.complete)
      throw new PgFloError("PROTOCOL_VIOLATION", `${rangeName(range)}, COPY, ended without its end`);
    failpoint("copy.range-read");
  } catch (error) {
    await output.abort();
    throw error;
  }
  return {
    finish: async () => {
      try {
        return { ...(await output.finish()), sizeBytes };
      } catch (error) {
        await output.abort();
        throw error;
      }
    },
    abort: () => output.abort(),
  };
}

function rangeName(range: RangeCopy): string {
  return `copy range ${range.rangeNumber} of ${range.schema}.${range.table}`;
}

/** The values of a row as they are copied; those without a binary decoder come as text. */
export function valuesSql(columns: readonly ColumnPlan[]): string {
  const values = columns.map(({ source, binary }) => {
    const name = quoteIdentifier(source.name);
    // As the type's output function prints it, which is what the stream carries: a cast may print something else
    // (inet shows a full mask), and format makes '' of NULL.
    return binary ? name : `case when ${name} is null then null else pg_catalog.format('%s', ${name}) end`;
  });
  return values.join(", ");
}

/** `ctid` bounds make a TID range scan (PostgreSQL 14+). */
export function rangeSql(range: RangeCopy): string {
  const bounds = [`ctid >= '(${range.blockFrom},0)'::tid`];
  if (range.blockTo !== null) bounds.push(`ctid < '(${range.blockTo},0)'::tid`);
  const heap = `${quoteIdentifier(range.heapSchema)}.${quoteIdentifier(range.heapName)}`;
  return `copy (select ${valuesSql(range.columns)} from only ${heap} where ${bounds.join(" and ")}) to stdout (format binary)`;
}

/** The files of one range: rows go into the open one, which is exchanged for the next when it is large enough. */
class RangeOutput {
  readonly #storage: Storage;
  readonly #range: RangeCopy;
  readonly #finished: TableFileResult[] = [];
  readonly #inexact = new InexactCounts();
  #file: TableFile | null = null;
  #columns: EncodedColumn[] = [];
  #exact: ExactColumn | null = null;
  #rowCount = 0;
  #wait: Promise<void> | undefined;

  constructor(storage: Storage, range: RangeCopy) {
    this.#storage = storage;
    this.#range = range;
    this.#open();
  }

  #open(): void {
    const { group, schema, table, rangeNumber, columns, compression } = this.#range;
    const path = copyFilePath(group, schema, table, rangeNumber, randomBytes(6).toString("hex"));
    const fileColumns = [...columns.map((plan) => plan.parquet), EXACT_COLUMN];
    this.#file = new TableFile(this.#storage, path, fileColumns, compression);
    const { columns: leaves } = this.#file.writer;
    this.#columns = columns.map((plan, index) => ({
      name: plan.source.name,
      leaves: leaves[index]!,
      encode: plan.encode,
    }));
    this.#exact = new ExactColumn(leaves[columns.length]!);
  }

  /** Encodes the collected rows, whose bytes these are, and gives how many there were. */
  append(bytes: Uint8Array, view: DataView, decoder: CopyDecoder): number {
    const count = decoder.rowCount;
    if (count === 0) return 0;
    const cells: Cells = { bytes, view, positions: decoder.positions[0]!, count };
    const exact = this.#exact!;
    for (let column = 0; column < this.#columns.length; column++) {
      cells.positions = decoder.positions[column]!;
      exact.encode(this.#columns[column]!, cells);
    }
    exact.endRows(count);
    decoder.rowCount = 0;
    this.#rowCount += count;
    this.#wait = this.#file!.writer.endRows(count) ?? this.#wait;
    return count;
  }

  /** A promise while the writer is behind, or while a full file is exchanged. */
  pressure(): Promise<void> | undefined {
    if (this.#file!.writer.writtenBytes >= this.#range.fileSizeBytes) return this.#exchange();
    const wait = this.#wait;
    this.#wait = undefined;
    return wait;
  }

  async finish(): Promise<Omit<RangeResult, "sizeBytes">> {
    if (this.#file!.writer.rowCount > 0) await this.#close();
    else await this.#dropOpen(); // nothing came since the last file was full
    const written = this.#finished.reduce((sum, file) => sum + file.rowCount, 0);
    if (written !== this.#rowCount) {
      throw new PgFloError(
        "INTERNAL",
        `${rangeName(this.#range)}, ${this.#rowCount} rows read, ${written} in its files`,
      );
    }
    if (this.#range.exactOnly) this.#inexact.refuse(rangeName(this.#range));
    return { files: this.#finished, rowCount: this.#rowCount, inexact: this.#inexact.byColumn };
  }

  async abort(): Promise<void> {
    await this.#dropOpen();
    for (const file of this.#finished.splice(0)) await this.#storage.remove(file.path);
  }

  async #dropOpen(): Promise<void> {
    await this.#file?.abort();
    this.#file = null;
  }

  async #exchange(): Promise<void> {
    await this.#close();
    this.#open();
  }

  async #close(): Promise<void> {
    const { snapshotLsn, schemaVersion, columns } = this.#range;
    this.#inexact.add(this.#exact!.counts);
    const facts = { kind: "copy", schemaVersion, lsnStart: snapshotLsn, lsnEnd: snapshotLsn, columns } as const;
    const file = this.#file!;
    this.#finished.push(await file.finish(facts));
    failpoint("copy.file-durable");
    this.#file = null;
  }
}
