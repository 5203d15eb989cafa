// Spilled changes in one file, in parts by bits of their routes, so that each part can be brought together alone. What is
// written at once is sorted by part first: a file is written in one go, and a part is read back in as many pieces as there were writes.
import { crc32 } from "../base/crc32.ts";
import { Arena } from "./arena.ts";
import { type SpillBlock, SpillFile } from "./spill-file.ts";

/** Routes have so many bits. */
const ROUTE_BITS = 32;

export class SpillParts {
  readonly file: SpillFile;
  readonly #bits: number;
  readonly #level: number;
  /** Of the bits that decide. */
  readonly #shift: number;
  readonly #mask: number;
  /** Per part; the last one is for changes that have no identity: they keep their order. */
  readonly #blocks: SpillBlock[][];

  private constructor(file: SpillFile, bits: number, level: number) {
    this.file = file;
    this.#bits = bits;
    this.#level = level;
    this.#shift = level * bits;
    this.#mask = 2 ** bits - 1;
    this.#blocks = Array.from({ length: 2 ** bits + 1 }, () => []);
  }

  /** `level`: how often what comes was split before; each time other bits of the routes decide. */
  static async create(folder: string, bits: number, level = 0): Promise<SpillParts> {
    return new SpillParts(await SpillFile.create(folder), bits, level);
  }

  get partCount(): number {
    return this.#blocks.length;
  }

  /** The part of changes without an identity. */
  get plain(): number {
    return this.#blocks.length - 1;
  }

  get level(): number {
    return this.#level;
  }

  /** Whether a part can be split again. */
  get divisible(): boolean {
    return (this.#level + 1) * this.#bits < ROUTE_BITS;
  }

  partOf(route: number): number {
    return (route >>> this.#shift) & this.#mask;
  }

  blocks(part: number): readonly SpillBlock[] {
    return this.#blocks[part]!;
  }

  /** Appends grouped records. */
  async write(groups: RecordGroups): Promise<void> {
    const position = await this.file.append(groups.bytes);
    groups.forEach((part, start, end, count) => {
      const crc = crc32(groups.buffer.bytes.subarray(start, end));
      this.#blocks[part]!.push({ position: position + start, sizeBytes: end - start, crc, count });
    });
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** Records to write, grouped by part: first each one's part and size is told, then each is given its place. */
export class RecordGroups {
  readonly buffer = new Arena();
  count = 0;
  sizeBytes = 0;
  #parts = new Int32Array(1024);
  #starts = new Int32Array(0);
  #ends = new Int32Array(0);
  #counts = new Int32Array(0);

  reset(partCount: number): void {
    this.buffer.reset();
    this.count = 0;
    this.sizeBytes = 0;
    if (this.#ends.length !== partCount) {
      this.#starts = new Int32Array(partCount);
      this.#ends = new Int32Array(partCount);
      this.#counts = new Int32Array(partCount);
    }
    this.#ends.fill(0);
    this.#counts.fill(0);
  }

  add(part: number, sizeBytes: number): void {
    if (this.count === this.#parts.length) {
      const parts = new Int32Array(this.count * 2);
      parts.set(this.#parts);
      this.#parts = parts;
    }
    this.#parts[this.count++] = part;
    this.#ends[part]! += sizeBytes;
    this.#counts[part]!++;
    this.sizeBytes += sizeBytes;
  }

  /** All are added; `position` follows. */
  layOut(): void {
    this.buffer.reserve(this.sizeBytes);
    let start = 0;
    for (let part = 0; part < this.#ends.length; part++) {
      const sizeBytes = this.#ends[part]!;
      this.#starts[part] = start;
      this.#ends[part] = start; // moves as records are placed
      start += sizeBytes;
    }
  }

  /** Where in the buffer the record belongs that was added as number `index`. Once for each, in order. */
  position(index: number, sizeBytes: number): number {
    const part = this.#parts[index]!;
    const position = this.#ends[part]!;
    this.#ends[part] = position + sizeBytes;
    return position;
  }

  get bytes(): Uint8Array {
    return this.buffer.bytes.subarray(0, this.sizeBytes);
  }

  forEach(each: (part: number, start: number, end: number, count: number) => void): void {
    for (let part = 0; part < this.#ends.length; part++) {
      if (this.#counts[part]! > 0) each(part, this.#starts[part]!, this.#ends[part]!, this.#counts[part]!);
    }
  }
}
