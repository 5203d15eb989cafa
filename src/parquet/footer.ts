// What comes after the row groups: column and offset indexes, and FileMetaData.
// Sources: parquet.thrift and https://github.com/apache/parquet-format/blob/master/PageIndex.md
import { ENCODING_RLE_DICTIONARY, type PageFigures } from "./page.ts";
import { type Leaf, leavesOf, type ParquetColumn, physicalTypeId, writeSchema } from "./schema.ts";
import { compareBounds, mergeBounds, type PageBounds } from "./statistics.ts";
import { ThriftWriter } from "./thrift.ts";
import { writableMax, writableMin } from "./written-bounds.ts";

const ENCODING_PLAIN = 0;
const ENCODING_RLE = 3;
const PAGE_DATA = 0;
const PAGE_DICTIONARY = 2;

export interface PageLocation {
  readonly offset: number;
  readonly size: number;
  readonly firstRow: number;
}

export interface WrittenChunk {
  readonly leaf: Leaf;
  readonly codec: number;
  readonly figures: readonly PageFigures[];
  readonly locations: readonly PageLocation[];
  readonly dictionaryOffset: number | null;
  readonly dataOffset: number;
  readonly uncompressedSize: number;
  readonly compressedSize: number;
  readonly bloomFilter: Uint8Array | null;
}

export interface WrittenRowGroup {
  readonly fileOffset: number;
  readonly rowCount: number;
  readonly chunks: readonly WrittenChunk[];
}

interface IndexPlace {
  readonly offset: number;
  readonly length: number;
}

/** Where the filters and indexes of each chunk lie; a chunk without bounds for every page has no column index. */
export interface PageIndex {
  readonly pieces: readonly Uint8Array[];
  readonly bloomFilters: ReadonlyMap<WrittenChunk, IndexPlace>;
  readonly columnIndexes: ReadonlyMap<WrittenChunk, IndexPlace>;
  readonly offsetIndexes: ReadonlyMap<WrittenChunk, IndexPlace>;
}

/** What is to be written from `offset` on: all bloom filters, then all column indexes, then all offset indexes. */
export function makePageIndex(rowGroups: readonly WrittenRowGroup[], offset: number): PageIndex {
  const pieces: Uint8Array[] = [];
  let at = offset;
  const place = (bytes: Uint8Array): IndexPlace => {
    pieces.push(bytes);
    at += bytes.length;
    return { offset: at - bytes.length, length: bytes.length };
  };
  const chunks = rowGroups.flatMap((group) => group.chunks);
  const bloomFilters = new Map<WrittenChunk, IndexPlace>();
  for (const chunk of chunks) if (chunk.bloomFilter) bloomFilters.set(chunk, place(chunk.bloomFilter));
  const columnIndexes = new Map<WrittenChunk, IndexPlace>();
  for (const chunk of chunks) {
    const bytes = columnIndex(chunk);
    if (bytes) columnIndexes.set(chunk, place(bytes));
  }
  const offsetIndexes = new Map(chunks.map((chunk) => [chunk, place(offsetIndex(chunk))]));
  return { pieces, bloomFilters, columnIndexes, offsetIndexes };
}

/** FileMetaData. */
export function writeFooter(
  columns: readonly ParquetColumn[],
  rowGroups: readonly WrittenRowGroup[],
  pageIndex: PageIndex,
  rowCount: number,
  keyValues: ReadonlyMap<string, string>,
  createdBy: string,
): Uint8Array {
  const thrift = new ThriftWriter();
  thrift.i32(1, 1);
  writeSchema(thrift, columns);
  thrift.i64(3, rowCount);
  thrift.structList(4, rowGroups, (group) => writeRowGroup(thrift, group, pageIndex));
  thrift.structList(5, [...keyValues], ([key, value]) => {
    thrift.binary(1, key);
    thrift.binary(2, value);
  });
  thrift.binary(6, createdBy);
  // Without TYPE_ORDER for every leaf, min_value and max_value are undefined.
  thrift.structList(7, columns.flatMap(leavesOf), () => {
    thrift.struct(1);
    thrift.end();
  });
  return thrift.finish();
}

// Null when some page has no bounds that may be told: the index is for all pages or none.
function columnIndex(chunk: WrittenChunk): Uint8Array | null {
  const { type } = chunk.leaf;
  const none = new Uint8Array(0);
  const mins: Uint8Array[] = [];
  const maxes: Uint8Array[] = [];
  for (const { bounds } of chunk.figures) {
    if (bounds === "unordered") return null;
    const max = bounds === "none" ? { bytes: none } : writableMax(type, bounds.max);
    if (!max) return null;
    mins.push(bounds === "none" ? none : writableMin(type, bounds.min).bytes);
    maxes.push(max.bytes);
  }
  const thrift = new ThriftWriter();
  thrift.boolList(
    1,
    chunk.figures.map(({ bounds }) => bounds === "none"),
  );
  thrift.binaryList(2, mins);
  thrift.binaryList(3, maxes);
  thrift.i32(4, boundaryOrder(chunk, mins, maxes));
  thrift.i64List(
    5,
    chunk.figures.map((figures) => figures.nullCount),
  );
  return thrift.finish();
}

const UNORDERED = 0;
const ASCENDING = 1;
const DESCENDING = 2;

function boundaryOrder(chunk: WrittenChunk, mins: readonly Uint8Array[], maxes: readonly Uint8Array[]): number {
  const { type } = chunk.leaf;
  const withValues = chunk.figures.flatMap(({ bounds }, page) => (bounds === "none" ? [] : [page]));
  let ascending = true;
  let descending = true;
  for (let i = 1; i < withValues.length; i++) {
    const [before, page] = [withValues[i - 1]!, withValues[i]!];
    const byMin = compareBounds(type, mins[before]!, mins[page]!);
    const byMax = compareBounds(type, maxes[before]!, maxes[page]!);
    if (byMin > 0 || byMax > 0) ascending = false;
    if (byMin < 0 || byMax < 0) descending = false;
  }
  return ascending ? ASCENDING : descending ? DESCENDING : UNORDERED;
}

function offsetIndex(chunk: WrittenChunk): Uint8Array {
  const thrift = new ThriftWriter();
  thrift.structList(1, chunk.locations, (location) => {
    thrift.i64(1, location.offset);
    thrift.i32(2, location.size);
    thrift.i64(3, location.firstRow);
  });
  return thrift.finish();
}

function writeRowGroup(thrift: ThriftWriter, group: WrittenRowGroup, pageIndex: PageIndex): void {
  const sum = (size: (chunk: WrittenChunk) => number): number =>
    group.chunks.reduce((total, chunk) => total + size(chunk), 0);
  thrift.structList(1, group.chunks, (chunk) => writeColumnChunk(thrift, chunk, pageIndex));
  thrift.i64(
    2,
    sum((chunk) => chunk.uncompressedSize),
  );
  thrift.i64(3, group.rowCount);
  thrift.i64(5, group.fileOffset);
  thrift.i64(
    6,
    sum((chunk) => chunk.compressedSize),
  );
}

function writeColumnChunk(thrift: ThriftWriter, chunk: WrittenChunk, pageIndex: PageIndex): void {
  thrift.i64(2, 0); // file_offset: deprecated, the spec says to write 0
  thrift.struct(3);
  writeColumnMetadata(thrift, chunk, pageIndex.bloomFilters.get(chunk));
  thrift.end();
  const offsets = pageIndex.offsetIndexes.get(chunk);
  if (offsets) {
    thrift.i64(4, offsets.offset);
    thrift.i32(5, offsets.length);
  }
  const bounds = pageIndex.columnIndexes.get(chunk);
  if (bounds) {
    thrift.i64(6, bounds.offset);
    thrift.i32(7, bounds.length);
  }
}

function writeColumnMetadata(thrift: ThriftWriter, chunk: WrittenChunk, bloomFilter: IndexPlace | undefined): void {
  const valueEncoding = chunk.dictionaryOffset === null ? ENCODING_PLAIN : ENCODING_RLE_DICTIONARY;
  const encodings = chunk.dictionaryOffset === null ? [ENCODING_PLAIN] : [ENCODING_PLAIN, ENCODING_RLE_DICTIONARY];
  thrift.i32(1, physicalTypeId(chunk.leaf.type));
  thrift.i32List(2, [...encodings, ENCODING_RLE]);
  thrift.binaryList(3, chunk.leaf.path);
  thrift.i32(4, chunk.codec);
  thrift.i64(
    5,
    chunk.figures.reduce((total, figures) => total + figures.entryCount, 0),
  );
  thrift.i64(6, chunk.uncompressedSize);
  thrift.i64(7, chunk.compressedSize);
  thrift.i64(9, chunk.dataOffset);
  if (chunk.dictionaryOffset !== null) thrift.i64(11, chunk.dictionaryOffset);
  thrift.struct(12);
  writeStatistics(thrift, chunk);
  thrift.end();
  // PageEncodingStats: lets readers know that every data page uses the dictionary.
  const pages = [{ pageType: PAGE_DATA, encoding: valueEncoding, count: chunk.figures.length }];
  if (chunk.dictionaryOffset !== null) pages.unshift({ pageType: PAGE_DICTIONARY, encoding: ENCODING_PLAIN, count: 1 });
  thrift.structList(13, pages, (page) => {
    thrift.i32(1, page.pageType);
    thrift.i32(2, page.encoding);
    thrift.i32(3, page.count);
  });
  if (!bloomFilter) return;
  thrift.i64(14, bloomFilter.offset);
  thrift.i32(15, bloomFilter.length);
}

function writeStatistics(thrift: ThriftWriter, chunk: WrittenChunk): void {
  const { type } = chunk.leaf;
  thrift.i64(
    3,
    chunk.figures.reduce((total, figures) => total + figures.nullCount, 0),
  );
  const bounds = chunk.figures.reduce<PageBounds>((all, figures) => mergeBounds(type, all, figures.bounds), "none");
  if (bounds === "none" || bounds === "unordered") return;
  const max = writableMax(type, bounds.max);
  const min = writableMin(type, bounds.min);
  if (max) thrift.binary(5, max.bytes);
  thrift.binary(6, min.bytes);
  if (max) thrift.bool(7, max.exact);
  thrift.bool(8, min.exact);
}
