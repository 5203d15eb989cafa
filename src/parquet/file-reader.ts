// Reads files that file-writer.ts wrote: their footer, and their rows into a writer's buffers. Not a reader for Parquet of
// others: what our writer never makes is refused.
// Source: https://github.com/apache/parquet-format#file-format
import { decompressorOf } from "./codec.ts";
import type { LeafBuffer } from "./leaf-buffer.ts";
import { LeafReader } from "./leaf-reader.ts";
import { type Leaf, leavesOf, type ParquetColumn } from "./schema.ts";
import { readSchema } from "./schema-reader.ts";
import { malformedFile, readThrift, type ThriftStruct, type ThriftValue } from "./thrift-reader.ts";

const TAIL_BYTES = 8; // footer length and PAR1
/** Rows that are handed over at once, as when they were written first. */
const SLICE_ROWS = 4096;

/** Any part of a finished file. */
export interface FileBytes {
  readonly sizeBytes: number;
  /** Exactly these bytes; nobody changes them. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

interface ChunkPlace {
  readonly codec: number;
  readonly start: number;
  readonly size: number;
}

interface RowGroup {
  readonly rowCount: number;
  readonly chunks: readonly ChunkPlace[];
}

export interface FileFooter {
  /** With bloom filters where the file has any. */
  readonly columns: readonly ParquetColumn[];
  readonly rowCount: number;
  readonly keyValues: ReadonlyMap<string, string>;
  readonly rowGroups: readonly RowGroup[];
}

export async function readFooter(file: FileBytes): Promise<FileFooter> {
  const tail = await file.read(Math.max(0, file.sizeBytes - TAIL_BYTES), Math.min(TAIL_BYTES, file.sizeBytes));
  if (tail.length < TAIL_BYTES || Buffer.from(tail.subarray(4)).toString("latin1") !== "PAR1") {
    throw malformedFile("it does not end as a Parquet file does");
  }
  const length = new DataView(tail.buffer, tail.byteOffset).getUint32(0, true);
  if (length > file.sizeBytes - TAIL_BYTES) throw malformedFile("its footer is longer than the file");
  const { struct } = readThrift(await file.read(file.sizeBytes - TAIL_BYTES - length, length), 0);
  const groups = structs(struct.get(4));
  const filtered = new Set<number>();
  for (const group of groups) {
    structs(group.get(1)).forEach((chunk, leaf) => {
      if (metadataOf(chunk).has(14)) filtered.add(leaf);
    });
  }
  return {
    columns: readSchema(structs(struct.get(2)), filtered),
    rowCount: numberOf(struct.get(3)),
    keyValues: new Map(structs(struct.get(5)).map((pair) => [textOf(pair.get(1)), textOf(pair.get(2))])),
    rowGroups: groups.map((group) => ({
      rowCount: numberOf(group.get(3)),
      chunks: structs(group.get(1)).map(chunkPlace),
    })),
  };
}

// The dictionary page, if there is one, comes first.
function chunkPlace(chunk: ThriftStruct): ChunkPlace {
  const metadata = metadataOf(chunk);
  const dictionary = metadata.get(11);
  return {
    codec: numberOf(metadata.get(4)),
    start: numberOf(dictionary ?? metadata.get(9)),
    size: numberOf(metadata.get(7)),
  };
}

/** The rows of one file, in order. Holds the compressed pages of one row group. */
export class FileRows {
  readonly footer: FileFooter;
  readonly #file: FileBytes;
  readonly #leaves: readonly Leaf[];
  readonly #wanted: readonly number[];
  #nextGroup = 0;
  #groupRowsLeft = 0;
  #readers: readonly LeafReader[] = [];

  /** `wanted`: the leaves that are read, by their number in the file; null for all. */
  constructor(file: FileBytes, footer: FileFooter, wanted: readonly number[] | null = null) {
    this.#file = file;
    this.footer = footer;
    this.#leaves = footer.columns.flatMap(leavesOf);
    this.#wanted = wanted ?? this.#leaves.map((_, leaf) => leaf);
  }

  /** Makes the next rows ready. Gives how many `take` or `skip` may take at once, no more than `limit`; 0 at the end. */
  async ready(limit = Number.POSITIVE_INFINITY): Promise<number> {
    while (this.#groupRowsLeft === 0) {
      const group = this.footer.rowGroups[this.#nextGroup];
      if (!group) return 0;
      this.#nextGroup++;
      this.#readers = await this.#openGroup(group);
      this.#groupRowsLeft = group.rowCount;
    }
    let rows = Math.min(limit, SLICE_ROWS, this.#groupRowsLeft);
    for (const reader of this.#readers) rows = Math.min(rows, reader.pageRows);
    if (rows === 0) throw malformedFile("a column chunk has fewer rows than its row group");
    return rows;
  }

  /** Passes over rows that `ready` gave. */
  skip(rows: number): void {
    for (const reader of this.#readers) reader.skip(rows);
    this.#groupRowsLeft -= rows;
  }

  /** Appends rows that `ready` gave, each wanted leaf to its target; null passes over it. */
  take(rows: number, targets: readonly (LeafBuffer | null)[]): void {
    this.#readers.forEach((reader, index) => {
      const target = targets[index];
      if (target) reader.take(rows, target);
      else reader.skip(rows);
    });
    this.#groupRowsLeft -= rows;
  }

  async #openGroup({ chunks }: RowGroup): Promise<LeafReader[]> {
    const readers: LeafReader[] = [];
    for (const leaf of this.#wanted) {
      const { start, size, codec } = chunks[leaf]!;
      const bytes = await this.#file.read(start, size);
      readers.push(new LeafReader(this.#leaves[leaf]!, bytes, await decompressorOf(codec)));
    }
    return readers;
  }
}

function metadataOf(chunk: ThriftStruct): ThriftStruct {
  const metadata = chunk.get(3);
  if (!(metadata instanceof Map)) throw malformedFile("a column chunk without metadata");
  return metadata as ThriftStruct;
}

function structs(value: ThriftValue | undefined): readonly ThriftStruct[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw malformedFile("a list is missing in its footer");
  return value as readonly ThriftStruct[];
}

function numberOf(value: ThriftValue | undefined): number {
  if (typeof value !== "number") throw malformedFile("a number is missing in its footer");
  return value;
}

function textOf(value: ThriftValue | undefined): string {
  if (!(value instanceof Uint8Array)) throw malformedFile("a text is missing in its footer");
  return Buffer.from(value).toString("utf8");
}
