// The page that a column is filling: PLAIN values and their levels, appended in place by the encoders of src/types.
// Fields are public on purpose: encoders write straight into them, once per value.
// PLAIN: https://github.com/apache/parquet-format/blob/master/Encodings.md#plain-plain--0

import { viewedBytes } from "../base/viewed-bytes.ts";
import { MAX_BUFFER_BYTES, PageBuffers } from "./page-buffers.ts";
import type { Leaf } from "./schema.ts";

const FIRST_VALUE_BYTES = 16 * 1024;
const FIRST_LEVELS = 1024;
const MAX_KEPT_LEVELS = 1024 * 1024;

/** Room in front of the values for the definition levels of a flat page, so that both are compressed as one piece. */
export const LEVEL_HEADROOM_BYTES = 8 * 1024;

/**
 * Position codes of cells. Any other position is a value's. A code is the definition level at which the entry ends,
 * counted down from that of a value: -1 a NULL; in a list also -2 an empty list and -3 a NULL list; and so on, one for
 * each optional or repeated node above.
 */
export const CELL_NULL = -1;

export class LeafBuffer {
  /** Values start at LEVEL_HEADROOM_BYTES and end at `end`. BOOLEAN keeps one byte per value until the page is closed. */
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  end = LEVEL_HEADROOM_BYTES;
  valueCount = 0;

  /** One definition level per entry; an entry is a value, or where something above or itself is NULL or empty. */
  definitions = new Uint8Array(FIRST_LEVELS);
  /** One repetition level per entry, only kept inside of lists and maps. */
  repetitions = new Uint8Array(0);
  entryCount = 0;
  rowCount = 0;

  /** Definition level of a value; a cell code c < 0 has level `present + c`. */
  readonly present: number;
  readonly maxRepetition: number;

  readonly #buffers: PageBuffers;

  constructor(leaf: Pick<Leaf, "maxDefinition" | "maxRepetition">, buffers = new PageBuffers()) {
    this.#buffers = buffers;
    this.bytes = buffers.take(LEVEL_HEADROOM_BYTES + FIRST_VALUE_BYTES);
    this.view = new DataView(this.bytes.buffer);
    this.present = leaf.maxDefinition;
    this.maxRepetition = leaf.maxRepetition;
  }

  get valueBytes(): number {
    return this.end - LEVEL_HEADROOM_BYTES;
  }

  /** Makes room for `size` more value bytes. Encoders call it before they write. */
  reserve(size: number): void {
    if (this.end + size <= this.bytes.length) return;
    const outgrown = this.bytes;
    const grown = this.#buffers.take(grownLength(outgrown.length, this.end + size));
    grown.set(outgrown.subarray(0, this.end));
    this.#use(grown);
    this.#buffers.give(outgrown);
  }

  /** Makes room for `count` more entries. Levels behind `entryCount` that were written before are lost. */
  reserveEntries(count: number): void {
    const needed = this.entryCount + count;
    if (needed > this.definitions.length) {
      const grown = new Uint8Array(Math.max(this.definitions.length * 2, needed));
      grown.set(this.definitions.subarray(0, this.entryCount));
      this.definitions = grown;
    }
    if (this.maxRepetition > 0 && needed > this.repetitions.length) {
      const grown = new Uint8Array(Math.max(this.repetitions.length * 2, needed));
      grown.set(this.repetitions.subarray(0, this.entryCount));
      this.repetitions = grown;
    }
  }

  /** Length of the buffer for the next page. */
  get nextLength(): number {
    return Math.min(this.bytes.length, MAX_BUFFER_BYTES);
  }

  /** Starts the next page: in `next` while the compressor still reads the closed page's buffer, else in the same one. */
  restart(next?: Uint8Array<ArrayBuffer>): void {
    if (next) this.#use(next);
    else if (this.bytes.length > MAX_BUFFER_BYTES) this.#use(viewedBytes(MAX_BUFFER_BYTES));
    if (this.definitions.length > MAX_KEPT_LEVELS) {
      this.definitions = new Uint8Array(FIRST_LEVELS);
      this.repetitions = new Uint8Array(0);
    }
    this.end = LEVEL_HEADROOM_BYTES;
    this.valueCount = 0;
    this.entryCount = 0;
    this.rowCount = 0;
  }

  /** The last page is closed: its buffer is somebody else's from now on. */
  release(): void {
    this.#buffers.give(this.bytes);
    this.#use(new Uint8Array(0));
  }

  #use(bytes: Uint8Array<ArrayBuffer>): void {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}

/** Few different lengths, so that buffers fit others' needs, too; a huge value gets what it needs. */
function grownLength(length: number, needed: number): number {
  let grown = Math.max(length, FIRST_VALUE_BYTES) * 2;
  while (grown < needed && grown < MAX_BUFFER_BYTES) grown *= 2;
  return Math.max(grown, needed);
}
