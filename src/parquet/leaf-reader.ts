// One leaf's column chunk, read page by page into the buffers of a writer: levels and PLAIN values as they are, so that
// what is written again is the same to the bit, whatever its type. Only what our own writer makes: data pages V1, PLAIN
// or RLE_DICTIONARY.
// Source: https://github.com/apache/parquet-format#data-pages
import type { Decompress } from "./codec.ts";
import type { LeafBuffer } from "./leaf-buffer.ts";
import { ENCODING_RLE_DICTIONARY } from "./page.ts";
import { readRle } from "./rle-reader.ts";
import type { Leaf, ValueType } from "./schema.ts";
import { malformedFile, readThrift, type ThriftStruct } from "./thrift-reader.ts";

const PAGE_DATA = 0;
const PAGE_DICTIONARY = 2;

interface Dictionary {
  readonly bytes: Uint8Array;
  /** Where each value starts, and behind the last one the end. */
  readonly starts: Int32Array;
}

/** A page that is not needed row by row is never decompressed. */
interface Page {
  readonly entryCount: number;
  readonly dictionary: boolean;
  readonly compressed: Uint8Array;
  rowCount: number;
  rowsDone: number;
  body: PageBody | null;
}

interface PageBody {
  readonly definitions: Uint8Array;
  readonly repetitions: Uint8Array | null;
  readonly valueCount: number;
  /** PLAIN values from `at` on; of BOOLEAN one byte each. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly indices: Uint16Array | null;
  at: number;
  entriesDone: number;
  valuesDone: number;
}

export class LeafReader {
  readonly #leaf: Leaf;
  readonly #width: number;
  readonly #chunk: Uint8Array;
  readonly #decompress: Decompress;
  #at = 0;
  #dictionary: Dictionary | null = null;
  #page: Page | null = null;

  /** `chunk`: the whole column chunk, from its first page's header on. */
  constructor(leaf: Leaf, chunk: Uint8Array, decompress: Decompress) {
    this.#leaf = leaf;
    this.#width = valueWidth(leaf.type);
    this.#chunk = chunk;
    this.#decompress = decompress;
  }

  /** Rows that are left in the page, or are in the next one; 0 at the end. */
  get pageRows(): number {
    if (this.#page !== null && this.#page.rowsDone < this.#page.rowCount) {
      return this.#page.rowCount - this.#page.rowsDone;
    }
    this.#page = this.#nextPage();
    return this.#page?.rowCount ?? 0;
  }

  /** Passes over rows, no more than `pageRows`. */
  skip(rows: number): void {
    const page = this.#currentPage(rows);
    if (rows < page.rowCount || page.body !== null) {
      const body = this.#bodyOf(page);
      const entries = entriesOf(body, rows);
      const values = valuesIn(body, entries, this.#leaf.maxDefinition);
      if (body.indices === null) body.at = this.#endOf(body, values);
      body.valuesDone += values;
      body.entriesDone += entries;
    }
    page.rowsDone += rows;
  }

  /** Appends rows, no more than `pageRows`, to a page that is being written. The caller counts its rows. */
  take(rows: number, target: LeafBuffer): void {
    const page = this.#currentPage(rows);
    const body = this.#bodyOf(page);
    const entries = entriesOf(body, rows);
    const values = valuesIn(body, entries, this.#leaf.maxDefinition);
    const { entriesDone } = body;
    target.reserveEntries(entries);
    target.definitions.set(body.definitions.subarray(entriesDone, entriesDone + entries), target.entryCount);
    if (body.repetitions !== null) {
      target.repetitions.set(body.repetitions.subarray(entriesDone, entriesDone + entries), target.entryCount);
    }
    target.entryCount += entries;
    if (body.indices === null) this.#copyPlain(body, values, target);
    else copyIndexed(body, values, this.#dictionary!, target);
    target.valueCount += values;
    body.valuesDone += values;
    body.entriesDone += entries;
    page.rowsDone += rows;
  }

  #currentPage(rows: number): Page {
    if (rows > this.pageRows || this.#page === null) throw new Error(`${rows} rows are not in the page`);
    return this.#page;
  }

  #copyPlain(body: PageBody, values: number, target: LeafBuffer): void {
    const end = this.#endOf(body, values);
    const size = end - body.at;
    target.reserve(size);
    target.bytes.set(body.bytes.subarray(body.at, end), target.end);
    target.end += size;
    body.at = end;
  }

  /** Where the next `values` PLAIN values end. */
  #endOf(body: PageBody, values: number): number {
    let end = body.at + values * this.#width;
    if (this.#width === 0) for (let k = 0; k < values; k++) end += 4 + body.view.getUint32(end, true);
    if (end > body.bytes.length) throw malformedFile("a page's values end too early");
    return end;
  }

  #nextPage(): Page | null {
    while (this.#at < this.#chunk.length) {
      const { struct, end } = readThrift(this.#chunk, this.#at);
      const compressed = this.#chunk.subarray(end, end + numberIn(struct, 3));
      this.#at = end + compressed.length;
      const type = numberIn(struct, 1);
      if (type === PAGE_DICTIONARY) {
        this.#dictionary = this.#readDictionary(numberIn(structIn(struct, 7), 1), this.#decompress(compressed));
      } else if (type === PAGE_DATA) return this.#openPage(structIn(struct, 5), compressed);
      else throw malformedFile(`a page of type ${type}`);
    }
    return null;
  }

  #openPage(header: ThriftStruct, compressed: Uint8Array): Page {
    const entryCount = numberIn(header, 1);
    const dictionary = numberIn(header, 2) === ENCODING_RLE_DICTIONARY;
    const page: Page = { entryCount, dictionary, compressed, rowCount: entryCount, rowsDone: 0, body: null };
    if (this.#leaf.maxRepetition > 0) {
      let rowCount = 0;
      for (const repetition of this.#bodyOf(page).repetitions!) if (repetition === 0) rowCount++;
      page.rowCount = rowCount;
    }
    return page;
  }

  #bodyOf(page: Page): PageBody {
    page.body ??= this.#decode(page);
    return page.body;
  }

  #decode({ compressed, entryCount, dictionary }: Page): PageBody {
    const bytes = this.#decompress(compressed);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const { maxDefinition, maxRepetition, type } = this.#leaf;
    let at = 0;
    const levels = (maxLevel: number): Uint8Array => {
      const values = new Uint8Array(entryCount);
      const end = at + 4 + view.getUint32(at, true);
      readRle(values, bytes, at + 4, end, 32 - Math.clz32(maxLevel));
      at = end;
      return values;
    };
    const repetitions = maxRepetition > 0 ? levels(maxRepetition) : null;
    const definitions = levels(maxDefinition);
    let valueCount = 0;
    for (const definition of definitions) if (definition === maxDefinition) valueCount++;
    const body = { definitions, repetitions, valueCount, bytes, view, indices: null, at };
    const none = { entriesDone: 0, valuesDone: 0 };
    if (dictionary) {
      const indices = new Uint16Array(valueCount);
      if (valueCount > 0) readRle(indices, bytes, at + 1, bytes.length, bytes[at]!);
      return { ...body, ...none, indices };
    }
    if (type.physical !== "BOOLEAN") return { ...body, ...none };
    const unpacked = new Uint8Array(valueCount);
    for (let i = 0; i < valueCount; i++) unpacked[i] = (bytes[at + (i >> 3)]! >> (i & 7)) & 1;
    return { ...body, ...none, bytes: unpacked, view: new DataView(unpacked.buffer), at: 0 };
  }

  #readDictionary(count: number, bytes: Uint8Array): Dictionary {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const starts = new Int32Array(count + 1);
    for (let index = 0, at = 0; index < count; index++) {
      at += this.#width === 0 ? 4 + view.getUint32(at, true) : this.#width;
      starts[index + 1] = at;
    }
    if (starts[count] !== bytes.length) throw malformedFile("a dictionary has another size than its values");
    return { bytes, starts };
  }
}

/** Bytes of one PLAIN value (a BOOLEAN's as in LeafBuffer); 0 for BYTE_ARRAY, whose values carry a length. */
function valueWidth(type: ValueType): number {
  switch (type.physical) {
    case "BOOLEAN":
      return 1;
    case "INT32":
    case "FLOAT":
      return 4;
    case "INT64":
    case "DOUBLE":
      return 8;
    case "FIXED_LEN_BYTE_ARRAY":
      return type.lengthBytes!;
    case "BYTE_ARRAY":
      return 0;
  }
}

/** Entries of the next rows: a row begins where the repetition level is 0. */
function entriesOf({ repetitions, entriesDone }: PageBody, rows: number): number {
  if (repetitions === null) return rows;
  let at = entriesDone;
  for (let left = rows; left > 0; left--) {
    at++;
    while (at < repetitions.length && repetitions[at] !== 0) at++;
  }
  return at - entriesDone;
}

function valuesIn({ definitions, valueCount, entriesDone }: PageBody, entries: number, present: number): number {
  if (valueCount === definitions.length) return entries;
  let values = 0;
  for (let i = entriesDone; i < entriesDone + entries; i++) if (definitions[i] === present) values++;
  return values;
}

function copyIndexed(body: PageBody, values: number, { bytes, starts }: Dictionary, target: LeafBuffer): void {
  const { valuesDone } = body;
  const indices = body.indices!;
  for (let i = valuesDone; i < valuesDone + values; i++) {
    const from = starts[indices[i]!]!;
    const to = starts[indices[i]! + 1]!;
    target.reserve(to - from);
    target.bytes.set(bytes.subarray(from, to), target.end);
    target.end += to - from;
  }
}

function numberIn(struct: ThriftStruct, id: number): number {
  const value = struct.get(id);
  if (typeof value !== "number") throw malformedFile(`a page header without field ${id}`);
  return value;
}

function structIn(struct: ThriftStruct, id: number): ThriftStruct {
  const value = struct.get(id);
  if (!(value instanceof Map)) throw malformedFile(`a page header without field ${id}`);
  return value as ThriftStruct;
}
