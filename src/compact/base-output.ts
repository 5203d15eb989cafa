// The copy files of a new base: rows of other files, picked in the order of the files, as they are. A row keeps the schema
// version that it was written with.
import { isDeepStrictEqual } from "node:util";
import type { Compression } from "../base/compression.ts";
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import type { CompactedFile } from "../metadata/compactions.ts";
import type { TableColumn } from "../metadata/tables.ts";
import type { FileRows } from "../parquet/file-reader.ts";
import { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { leavesOf, type ParquetColumn } from "../parquet/schema.ts";
import type { Storage } from "../storage/storage.ts";
import { appendNulls, appendText, EXACT_COLUMN } from "../types/row-encoder.ts";
import { TableFile } from "../types/table-file.ts";
import { type FoldInput, type LocalFile, leavesNamed, openRows } from "./fold-inputs.ts";
import { compactedKeyValues } from "./footer-facts.ts";

export interface BaseOptions {
  readonly storage: Storage;
  /** The path of the next file. */
  readonly pathOf: () => string;
  readonly fileBytes: number;
  readonly compression: Compression;
  readonly base: Lsn;
  readonly stream: number | null;
  readonly versions: ReadonlyMap<number, readonly TableColumn[]>;
}

/** Rows of one input that follow each other. */
export interface PickedRows {
  readonly input: FoldInput;
  readonly row: number;
  readonly count: number;
  /** Of a single row: columns, by their names at the source, that others have the values of. Null: none. */
  readonly moved: readonly MovedColumn[] | null;
}

export interface MovedColumn {
  readonly name: string;
  readonly fileName: string;
  /** Appends the value to the column's leaves and gives its exact text. */
  readonly append: (leaves: readonly LeafBuffer[]) => string | null;
}

interface OpenOutput {
  readonly file: TableFile;
  readonly leaves: readonly LeafBuffer[];
  readonly exact: LeafBuffer;
  readonly newest: { createdAt: Date };
}

interface OpenSource {
  readonly input: FoldInput;
  readonly file: LocalFile;
  readonly rows: FileRows;
  /** The source's names of its columns. */
  readonly names: ReadonlySet<string>;
  at: number;
}

export class BaseOutput implements AsyncDisposable {
  readonly #options: BaseOptions;
  readonly #added: CompactedFile[] = [];
  readonly #scratch = new LeafBuffer({ maxDefinition: 1, maxRepetition: 0 });
  /** Of the open version. */
  #version: readonly FoldInput[] = [];
  #columns: readonly ParquetColumn[] = [];
  #output: OpenOutput | null = null;
  #source: OpenSource | null = null;
  rowCount = 0;

  constructor(options: BaseOptions) {
    this.#options = options;
  }

  /** The rows that come are of these files, which have one schema version. */
  async beginVersion(inputs: readonly FoldInput[]): Promise<void> {
    await this.#finishFile();
    this.#version = inputs;
    this.#columns = inputs.at(-1)!.columns;
    for (const { file, columns } of inputs) {
      if (isDeepStrictEqual(withoutFilters(columns), withoutFilters(this.#columns))) continue;
      throw new PgFloError("INTERNAL", `fold ${file.path}, its columns are not those of its schema version`);
    }
  }

  /** In the order of files and rows. */
  async take(picked: PickedRows): Promise<void> {
    const source = await this.#sourceOf(picked.input);
    if (picked.row < source.at) throw new PgFloError("INTERNAL", `fold ${picked.input.file.path}, a row twice`);
    while (source.at < picked.row) {
      const rows = await source.rows.ready(picked.row - source.at);
      if (rows === 0) throw rowMissing(picked);
      source.rows.skip(rows);
      source.at += rows;
    }
    for (const end = picked.row + picked.count; source.at < end; ) {
      const rows = await source.rows.ready(end - source.at);
      if (rows === 0) throw rowMissing(picked);
      await this.#takeRows(source, rows, picked.moved);
      source.at += rows;
    }
  }

  /** Every file is durable. */
  async finish(): Promise<CompactedFile[]> {
    await this.#finishFile();
    return this.#added;
  }

  /** Drops what is open; finished files stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source?.file[Symbol.asyncDispose]();
    await this.#output?.file.abort();
  }

  async #takeRows({ input, rows, names }: OpenSource, count: number, moved: PickedRows["moved"]): Promise<void> {
    this.#output ??= this.#open();
    const output = this.#output;
    const asItIs = moved === null && input.file.kind === "copy";
    const targets: (LeafBuffer | null)[] = [...output.leaves, asItIs ? output.exact : this.#scratch];
    const places = (moved ?? []).map(({ fileName }) => leavesNamed(input, fileName)!);
    for (const { first, count: leaves } of places) targets.fill(null, first, first + leaves);
    rows.take(count, targets);
    const texts = (moved ?? []).map(({ name, append }, index): [string, string | null] => {
      const { first, count: leaves } = places[index]!;
      return [name, append(output.leaves.slice(first, first + leaves))];
    });
    if (!asItIs) this.#appendExact(output.exact, names, texts);
    if (input.file.createdAt > output.newest.createdAt) output.newest.createdAt = input.file.createdAt;
    this.rowCount += count;
    await output.file.writer.endRows(count);
    if (output.file.writer.writtenBytes >= this.#options.fileBytes) await this.#finishFile();
  }

  /** Exact texts of a stream file's row are those of its `_old_` values too, which a base has not. */
  #appendExact(target: LeafBuffer, names: ReadonlySet<string>, moved: readonly [string, string | null][]): void {
    const { entryCount, definitions, present, view, bytes } = this.#scratch;
    let at = this.#scratch.end - this.#scratch.valueBytes;
    for (let row = 0; row < entryCount; row++) {
      const texts = new Map<string, string>();
      if (definitions[row] === present) {
        const end = at + 4 + view.getUint32(at, true);
        const all = JSON.parse(Buffer.from(bytes.subarray(at + 4, end)).toString("utf8")) as Record<string, string>;
        for (const [name, text] of Object.entries(all)) if (names.has(name)) texts.set(name, text);
        at = end;
      }
      for (const [name, text] of moved) {
        if (text === null) texts.delete(name);
        else texts.set(name, text);
      }
      if (texts.size === 0) appendNulls(target, 1);
      else appendText(target, JSON.stringify(Object.fromEntries(texts)));
    }
    this.#scratch.restart();
  }

  async #sourceOf(input: FoldInput): Promise<OpenSource> {
    if (this.#source?.input === input) return this.#source;
    await this.#source?.file[Symbol.asyncDispose]();
    this.#source = null;
    const own = this.#columns.flatMap(leavesOf).map((_, leaf) => leaf);
    const { file, rows } = await openRows(input, [...own, leavesNamed(input, EXACT_COLUMN.name)!.first]);
    const columns = this.#options.versions.get(input.file.schemaVersion) ?? [];
    this.#source = { input, file, rows, names: new Set(columns.map(({ name }) => name)), at: 0 };
    return this.#source;
  }

  #open(): OpenOutput {
    const { storage, pathOf, compression } = this.#options;
    const file = new TableFile(storage, pathOf(), [...this.#columns, EXACT_COLUMN], compression);
    const leaves = file.writer.columns.flat();
    const exact = leaves.pop()!;
    return { file, leaves, exact, newest: { createdAt: new Date(0) } };
  }

  async #finishFile(): Promise<void> {
    const output = this.#output;
    if (output === null) return;
    const { base, stream } = this.#options;
    const facts = { kind: "copy", lsnStart: base, lsnEnd: base } as const;
    const { schemaVersion } = this.#version[0]!.file;
    const keyValues = this.#version.map(({ footer }) => footer.keyValues);
    const written = await output.file.finishAs(compactedKeyValues(keyValues, facts));
    this.#output = null;
    failpoint("compact.folded");
    const { createdAt } = output.newest;
    this.#added.push({ ...facts, stream, batchId: null, schemaVersion, createdAt, ...written });
  }
}

function withoutFilters(columns: readonly ParquetColumn[]): unknown {
  return JSON.parse(JSON.stringify(columns, (key, value: unknown) => (key === "bloomFilter" ? undefined : value)));
}

function rowMissing({ input, row }: PickedRows): PgFloError {
  return new PgFloError("INTERNAL", `fold ${input.file.path}, it has no row ${row}`);
}
