// One leaf column of the row group that is being filled: closes pages as they fill up and sends them to the compressor.
import { BloomHashes } from "./bloom-filter.ts";
import type { Compressor, Frame } from "./compressor.ts";
import { DictionaryBuilder, type Indices } from "./dictionary.ts";
import { LeafBuffer } from "./leaf-buffer.ts";
import {
  dataPageHeader,
  dictionaryPageHeader,
  levelBytes,
  type PageFigures,
  pageFigures,
  plainBounds,
  plainPageBody,
} from "./page.ts";
import type { Leaf } from "./schema.ts";

const MAX_PAGE_BYTES = 1024 * 1024;
const MAX_PAGE_ROWS = 20_000;
/** Lists of NULLs have levels but no bytes: without this a page of them has no end. */
const MAX_PAGE_ENTRIES = 1024 * 1024;

/** A page ready to be written: its header and its compressed body. */
export interface FinishedPage {
  readonly header: Uint8Array;
  readonly body: Frame;
  readonly uncompressedSize: number;
}

export interface DataPage {
  readonly figures: PageFigures;
  readonly finished: Promise<FinishedPage>;
}

export interface SealedChunk {
  readonly leaf: Leaf;
  readonly dictionary: Promise<FinishedPage> | null;
  readonly pages: readonly DataPage[];
  readonly bloomFilter: Uint8Array | null;
}

/** A closed page of a chunk that is still in dictionary encoding: what is needed to write it PLAIN after all. */
interface DictionaryPage extends DataPage {
  readonly levels: Uint8Array;
  readonly indices: Indices;
}

export class ColumnChunk {
  /** The page that is being filled. */
  readonly buffer: LeafBuffer;
  readonly #leaf: Leaf;
  readonly #compressor: Compressor;
  #pages: DataPage[] = [];
  #dictionaryPages: DictionaryPage[] = [];
  #dictionary: DictionaryBuilder | null;
  readonly #bloom: BloomHashes | null;
  #closedBytes = 0;

  constructor(leaf: Leaf, compressor: Compressor) {
    this.#leaf = leaf;
    this.buffer = new LeafBuffer(leaf, compressor.buffers);
    this.#compressor = compressor;
    this.#dictionary = DictionaryBuilder.for(leaf.type);
    this.#bloom = leaf.bloomFilter ? new BloomHashes(leaf.type) : null;
  }

  /** Uncompressed bytes of the chunk so far. */
  get sizeBytes(): number {
    return this.#closedBytes + this.buffer.valueBytes;
  }

  /** To be called after values were appended. */
  closePageIfFull(): void {
    const { valueBytes, rowCount, entryCount } = this.buffer;
    if (valueBytes >= MAX_PAGE_BYTES || rowCount >= MAX_PAGE_ROWS || entryCount >= MAX_PAGE_ENTRIES) this.#closePage();
  }

  /** Ends the chunk; the next values belong to the next row group. */
  seal(): SealedChunk {
    if (this.buffer.rowCount > 0) this.#closePage();
    // A chunk of NULLs alone: some readers trip over an empty dictionary page.
    if (this.#dictionary?.valueCount === 0) this.#leaveDictionary(this.#dictionary);
    const builder = this.#dictionaryPages.length > 0 ? this.#dictionary : null;
    if (builder) this.#bloom?.addValues(builder.values());
    const sealed: SealedChunk = {
      leaf: this.#leaf,
      dictionary: builder && this.#finishDictionary(builder),
      pages: builder ? this.#dictionaryPages : this.#pages,
      bloomFilter: this.#bloom?.finish() ?? null,
    };
    this.#pages = [];
    this.#dictionaryPages = [];
    this.#dictionary = DictionaryBuilder.for(this.#leaf.type);
    this.#closedBytes = 0;
    return sealed;
  }

  #closePage(): void {
    const { buffer } = this;
    const { type } = this.#leaf;
    this.#closedBytes += buffer.valueBytes;
    if (this.#dictionary) {
      const indices = this.#dictionary.indices(buffer);
      if (indices) {
        this.#addDictionaryPage(this.#dictionary, indices);
        return;
      }
      this.#leaveDictionary(this.#dictionary);
    }
    const figures = pageFigures(buffer, plainBounds(type, buffer));
    this.#bloom?.addPage(buffer); // before the page's values are packed or handed over
    const body = plainPageBody(type, buffer);
    this.#pages.push({ figures, finished: this.#finish(figures, "plain", body) });
    if (body.buffer === buffer.bytes.buffer) this.#handOver();
    else buffer.restart();
  }

  // The compressor reads the page's buffer: the next page goes into another one.
  #handOver(): void {
    const { buffers } = this.#compressor;
    const used = this.buffer.bytes;
    const free = (): void => buffers.give(used);
    this.#pages.at(-1)!.finished.then(free, free);
    this.buffer.restart(buffers.take(this.buffer.nextLength));
  }

  #addDictionaryPage(builder: DictionaryBuilder, indices: Indices): void {
    const figures = pageFigures(this.buffer, builder.bounds(this.#leaf.type, indices));
    const levels = levelBytes(this.buffer);
    const body = builder.pageBody(levels, indices);
    this.#dictionaryPages.push({ figures, levels, indices, finished: this.#finish(figures, "dictionary", body) });
    this.buffer.restart();
  }

  // All or nothing: pages that went out with indices are made again from them.
  #leaveDictionary(builder: DictionaryBuilder): void {
    if (this.#dictionaryPages.length > 0) this.#bloom?.addValues(builder.values());
    for (const page of this.#dictionaryPages) {
      const body = builder.plainPageBody(page.levels, page.indices);
      this.#pages.push({ figures: page.figures, finished: this.#finish(page.figures, "plain", body) });
      page.finished.then(
        (dropped) => this.#compressor.release(dropped.body),
        () => {}, // what the plain page meets, too
      );
    }
    this.#dictionaryPages = [];
    this.#dictionary = null;
  }

  #finish(figures: PageFigures, encoding: "plain" | "dictionary", body: Uint8Array): Promise<FinishedPage> {
    const finished = this.#compressor.compress(body).then((compressed) => ({
      header: dataPageHeader(figures, encoding, body.length, compressed),
      body: compressed,
      uncompressedSize: body.length,
    }));
    finished.catch(() => {}); // awaited when the row group is written; until then a failure must not end the process
    return finished;
  }

  async #finishDictionary(builder: DictionaryBuilder): Promise<FinishedPage> {
    const values = builder.values();
    const compressed = await this.#compressor.compress(values);
    return {
      header: dictionaryPageHeader(builder.valueCount, values.length, compressed),
      body: compressed,
      uncompressedSize: values.length,
    };
  }
}
