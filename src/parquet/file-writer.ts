// Writes one Parquet file: row groups as they fill up, then page index and footer.
// Source: https://github.com/apache/parquet-format#file-format
// A closed row group is compressed and written while the next one fills; memory is bounded by two row groups of
// compressed pages, one page per column, and the compressor's queue.
import { ColumnChunk, type FinishedPage, type SealedChunk } from "./column-chunk.ts";
import type { Compressor, Frame } from "./compressor.ts";
import { makePageIndex, type WrittenChunk, type WrittenRowGroup, writeFooter } from "./footer.ts";
import type { LeafBuffer } from "./leaf-buffer.ts";
import { leavesOf, type ParquetColumn } from "./schema.ts";

const MAX_ROW_GROUP_ROWS = 1024 * 1024;
/** Small pages are gathered to pieces of this size before they go to the sink … */
const PIECE_BYTES = 1024 * 1024;
/** … and from this size on they go as they are: another write costs less than the copy. */
const LARGE_BYTES = 256 * 1024;

const MAGIC = new TextEncoder().encode("PAR1");

/** Takes the file's bytes in order; the promise is the back-pressure, and the bytes are the writer's again after it. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

export interface FileWriterOptions {
  /** PLAIN bytes of a row group. */
  readonly rowGroupBytes: number;
  /** `application version X (build Y)`: parquet-java drops statistics when this does not parse. */
  readonly createdBy: string;
  readonly compressor: Compressor;
}

/** The leaves of one column, depth-first; most columns are one. Every leaf takes each row. */
export type ColumnLeaves = readonly [LeafBuffer, ...LeafBuffer[]];

export class ParquetFileWriter {
  /** In the order of the schema. Append the same rows to every column, then call `endRows`. */
  readonly columns: readonly ColumnLeaves[];
  readonly #chunks: readonly ColumnChunk[];
  readonly #schema: readonly ParquetColumn[];
  readonly #sink: ByteSink;
  readonly #options: FileWriterOptions;
  readonly #compressor: Compressor;
  readonly #rowGroups: WrittenRowGroup[] = [];
  #groupRows = 0;
  #rowCount = 0;
  #offset = 0;
  #sealedGroups = 0;
  #writing: Promise<void>;
  #pieces: Uint8Array[] = [];
  #piecesBytes = 0;
  /** Frames that are in `#pieces`, or written. */
  #frames: Frame[] = [];

  constructor(sink: ByteSink, columns: readonly ParquetColumn[], options: FileWriterOptions) {
    this.#sink = sink;
    this.#schema = columns;
    this.#options = options;
    this.#compressor = options.compressor;
    const chunks = columns.map((column) => leavesOf(column).map((leaf) => new ColumnChunk(leaf, options.compressor)));
    this.columns = chunks.map((ofColumn) => ofColumn.map((chunk) => chunk.buffer) as [LeafBuffer, ...LeafBuffer[]]);
    this.#chunks = chunks.flat();
    this.#writing = this.#emit(MAGIC);
  }

  get rowCount(): number {
    return this.#rowCount;
  }

  /** Bytes that are in the file so far, without the row group that is filling. */
  get writtenBytes(): number {
    return this.#offset;
  }

  /** PLAIN bytes of the row group that is filling. */
  get bufferedBytes(): number {
    let size = 0;
    for (const chunk of this.#chunks) size += chunk.sizeBytes;
    return size;
  }

  /**
   * `count` rows have been appended to every column. Gives a promise when the caller should wait before it appends
   * more: the disk or the compressor is behind.
   */
  endRows(count: number): Promise<void> | undefined {
    this.#rowCount += count;
    this.#groupRows += count;
    for (const chunk of this.#chunks) {
      chunk.buffer.rowCount += count;
      chunk.closePageIfFull();
    }
    if (this.bufferedBytes >= this.#options.rowGroupBytes || this.#groupRows >= MAX_ROW_GROUP_ROWS) this.#endRowGroup();
    if (this.#sealedGroups > 1) return this.#writing;
    return this.#compressor.room();
  }

  /** Writes what is left, the page index and the footer. The sink is the caller's to finish. */
  async finish(keyValues: ReadonlyMap<string, string>): Promise<void> {
    if (this.#groupRows > 0) this.#endRowGroup();
    for (const { buffer } of this.#chunks) buffer.release();
    await this.#writing;
    const pageIndex = makePageIndex(this.#rowGroups, this.#offset);
    for (const bytes of pageIndex.pieces) await this.#emit(bytes);
    const { createdBy } = this.#options;
    const footer = writeFooter(this.#schema, this.#rowGroups, pageIndex, this.#rowCount, keyValues, createdBy);
    const tail = new Uint8Array(footer.length + 8);
    tail.set(footer);
    new DataView(tail.buffer).setUint32(footer.length, footer.length, true);
    tail.set(MAGIC, footer.length + 4);
    await this.#emit(tail);
    await this.#flush();
  }

  #endRowGroup(): void {
    const sealed = this.#chunks.map((chunk) => chunk.seal());
    const rowCount = this.#groupRows;
    this.#groupRows = 0;
    this.#sealedGroups++;
    this.#writing = this.#writing.then(async () => {
      await this.#writeRowGroup(sealed, rowCount);
      this.#sealedGroups--;
    });
    this.#writing.catch(() => {}); // awaited by the next endRows that waits, or by finish
  }

  async #writeRowGroup(sealed: readonly SealedChunk[], rowCount: number): Promise<void> {
    const fileOffset = this.#offset;
    const chunks: WrittenChunk[] = [];
    for (const chunk of sealed) chunks.push(await this.#writeChunk(chunk));
    this.#rowGroups.push({ fileOffset, rowCount, chunks });
  }

  async #writeChunk(sealed: SealedChunk): Promise<WrittenChunk> {
    const start = this.#offset;
    let uncompressedSize = 0;
    if (sealed.dictionary) {
      const page = await sealed.dictionary;
      uncompressedSize += page.header.length + page.uncompressedSize;
      await this.#emitPage(page);
    }
    const dataOffset = this.#offset;
    const locations = [];
    let firstRow = 0;
    for (const { figures, finished } of sealed.pages) {
      const page = await finished;
      locations.push({ offset: this.#offset, size: page.header.length + page.body.sizeBytes, firstRow });
      firstRow += figures.rowCount;
      uncompressedSize += page.header.length + page.uncompressedSize;
      await this.#emitPage(page);
    }
    return {
      leaf: sealed.leaf,
      codec: this.#compressor.codec,
      figures: sealed.pages.map((page) => page.figures),
      locations,
      dictionaryOffset: sealed.dictionary ? start : null,
      dataOffset,
      uncompressedSize,
      compressedSize: this.#offset - start,
      bloomFilter: sealed.bloomFilter,
    };
  }

  async #emitPage(page: FinishedPage): Promise<void> {
    await this.#emit(page.header);
    for (const piece of page.body.pieces) await this.#emit(piece);
    this.#frames.push(page.body);
  }

  async #emit(bytes: Uint8Array): Promise<void> {
    this.#offset += bytes.length;
    if (bytes.length >= LARGE_BYTES) {
      await this.#flush();
      return this.#sink.write(bytes);
    }
    if (this.#piecesBytes + bytes.length > PIECE_BYTES) await this.#flush();
    this.#pieces.push(bytes);
    this.#piecesBytes += bytes.length;
  }

  async #flush(): Promise<void> {
    const { buffers } = this.#compressor;
    const pieces = this.#pieces;
    const frames = this.#frames;
    const size = this.#piecesBytes;
    this.#pieces = [];
    this.#frames = [];
    this.#piecesBytes = 0;
    if (pieces.length === 1) await this.#sink.write(pieces[0]!);
    else if (pieces.length > 1) {
      const gathered = buffers.take(PIECE_BYTES);
      let at = 0;
      for (const piece of pieces) {
        gathered.set(piece, at);
        at += piece.length;
      }
      await this.#sink.write(gathered.subarray(0, size));
      buffers.give(gathered);
    }
    for (const frame of frames) this.#compressor.release(frame);
  }
}
