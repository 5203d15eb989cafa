// Single rows of one file, of the columns whose values other rows may take.
import { PgFloError } from "../base/errors.ts";
import { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { leavesOf } from "../parquet/schema.ts";
import { columnInVersion, type MirrorVersion, type ShownColumn } from "../query/mirror-table.ts";
import { placeOf } from "../query/state-places.ts";
import { type FoldInput, leavesNamed, openRows } from "./fold-inputs.ts";
import type { MovedValues } from "./moved-values.ts";

export class MovedReader implements AsyncDisposable {
  readonly input: FoldInput;
  readonly #opened: Awaited<ReturnType<typeof openRows>>;
  readonly #scratch: readonly LeafBuffer[];
  /** By position in the unchanged columns: the scratch leaves of the value, and of the `_old_` one. */
  readonly #columns: readonly { readonly own: LeafBuffer[]; readonly old: LeafBuffer[]; readonly name: string }[];
  readonly #exact: LeafBuffer;
  #row = -1;
  #next = 0;

  private constructor(
    input: FoldInput,
    opened: Awaited<ReturnType<typeof openRows>>,
    scratch: readonly LeafBuffer[],
    columns: readonly { readonly own: LeafBuffer[]; readonly old: LeafBuffer[]; readonly name: string }[],
  ) {
    this.input = input;
    this.#opened = opened;
    this.#scratch = scratch;
    this.#columns = columns;
    this.#exact = scratch.at(-1)!;
  }

  static async open(input: FoldInput, version: MirrorVersion, unchanged: readonly ShownColumn[]): Promise<MovedReader> {
    const leaves = input.footer.columns.flatMap(leavesOf);
    const wanted: number[] = [];
    const scratch: LeafBuffer[] = [];
    const want = (name: string): LeafBuffer[] => {
      const place = leavesNamed(input, name);
      if (place === null) return [];
      const made = leaves.slice(place.first, place.first + place.count).map((leaf) => new LeafBuffer(leaf));
      wanted.push(...made.map((_, k) => place.first + k));
      scratch.push(...made);
      return made;
    };
    const columns = unchanged.map((column) => {
      const there = columnInVersion(column, version);
      if (there === undefined) return { own: [], old: [], name: "" };
      return { own: want(there.fileName), old: want(`_old_${there.fileName}`), name: there.name };
    });
    want("_pg_flo_exact");
    return new MovedReader(input, await openRows(input, wanted), scratch, columns);
  }

  async read(place: number, position: number, values: MovedValues): Promise<void> {
    const { row, old } = placeOf(place);
    if (row !== this.#row) await this.#moveTo(row);
    const column = this.#columns[position]!;
    const leaves = old ? column.old : column.own;
    if (leaves.length === 0) {
      throw new PgFloError(
        "INTERNAL",
        `fold ${this.input.file.path}, it has no column for a value that is taken from it`,
      );
    }
    values.put(place, position, leaves, this.#exactText(`${old ? "_old_" : ""}${column.name}`));
  }

  #exactText(name: string): string | null {
    const { valueCount, bytes, end, valueBytes } = this.#exact;
    if (valueCount === 0) return null;
    const text = Buffer.from(bytes.subarray(end - valueBytes + 4, end)).toString("utf8");
    const texts = JSON.parse(text) as Readonly<Record<string, string>>;
    return Object.hasOwn(texts, name) ? texts[name]! : null;
  }

  async #moveTo(row: number): Promise<void> {
    const { rows } = this.#opened;
    while (this.#next < row) {
      const count = await rows.ready(row - this.#next);
      if (count === 0) break;
      rows.skip(count);
      this.#next += count;
    }
    if ((await rows.ready(1)) !== 1)
      throw new PgFloError("INTERNAL", `fold ${this.input.file.path}, it has no row ${row}`);
    for (const leaf of this.#scratch) leaf.restart();
    rows.take(1, this.#scratch);
    this.#next++;
    this.#row = row;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#opened.file[Symbol.asyncDispose]();
  }
}
