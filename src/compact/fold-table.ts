// Folds a table's changes up to a position into new copy files: DuckDB finds by the rule of `query` which rows of which
// files are the state there, and these are written as they are. No value is decoded, so none can change. Memory: DuckDB's
// limit, above which it spills, and where the values lie that rows take from others.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Compression } from "../base/compression.ts";
import { PgFloError } from "../base/errors.ts";
import type { Lsn } from "../base/lsn.ts";
import type { StorageConfig } from "../base/storage-config.ts";
import type { CompactedFile } from "../metadata/compactions.ts";
import type { ManifestFile } from "../metadata/files.ts";
import type { Manifest, ManifestTable } from "../metadata/status.ts";
import type { LeafBuffer } from "../parquet/leaf-buffer.ts";
import { type DuckDB, openDuckDB, rowBatches, type Value } from "../query/duckdb.ts";
import type { FileSource } from "../query/file-source.ts";
import { manifestTables } from "../query/manifest-tables.ts";
import { columnInVersion, type MirrorTable, type MirrorVersion, type ShownColumn } from "../query/mirror-table.ts";
import { placeOf, type StatePlaces, statePlaces } from "../query/state-places.ts";
import type { Storage } from "../storage/storage.ts";
import { makeSpillFolder } from "../stream/spill-file.ts";
import { BaseOutput, type MovedColumn, type PickedRows } from "./base-output.ts";
import { type FoldInput, fetchInputs, readInput, sameLeaves } from "./fold-inputs.ts";
import { MovedReader } from "./moved-reader.ts";
import { MovedValues } from "./moved-values.ts";
import type { FoldPlan } from "./plan.ts";

export interface FoldOptions {
  readonly manifest: Manifest;
  readonly entry: ManifestTable;
  readonly plan: FoldPlan;
  readonly storage: Storage;
  readonly storageConfig: StorageConfig;
  readonly pathOf: () => string;
  readonly fileBytes: number;
  readonly compression: Compression;
  /** For DuckDB and files of a bucket. */
  readonly temporaryFolder: string;
  readonly signal: AbortSignal;
}

export interface Fold {
  readonly base: Lsn;
  readonly removed: readonly ManifestFile[];
  /** Copy files all of whose rows are in the base: they stay as they are. */
  readonly kept: readonly ManifestFile[];
  readonly added: readonly CompactedFile[];
}

const DUCKDB_SETTINGS = { threads: "1", memory_limit: "512MiB", preserve_insertion_order: "false" };

/**
 * The base's files are durable and in no manifest. A failure may leave some: they go by age. Null: it has a column whose
 * name DuckDB needs, so its rows cannot be found.
 */
export async function foldTable(options: FoldOptions): Promise<Fold | null> {
  const { entry } = options;
  const folder = await makeSpillFolder(options.temporaryFolder);
  try {
    return await foldIn(folder, options);
  } catch (error) {
    options.signal.throwIfAborted(); // it interrupts DuckDB, which tells that as an error of its own
    throw error instanceof PgFloError ? error : foldError(entry, error);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** DuckDB's messages may quote values: only what kind of error it is, and the system's code, is told. */
function foldError({ table }: ManifestTable, error: unknown): PgFloError {
  const kind = error instanceof Error ? /^[A-Z][A-Za-z ]* Error(?=:)/.exec(error.message)?.[0] : undefined;
  const reason = (error as NodeJS.ErrnoException).code ?? kind ?? "unknown error";
  return new PgFloError("TABLE_FAILED", `fold ${table.schema}.${table.name}, failed (${reason})`, {
    fix: "look whether stream.spill_folder has room for it; nothing was changed",
    cause: error,
  });
}

async function foldIn(folder: string, options: FoldOptions): Promise<Fold | null> {
  const { plan, entry, storage } = options;
  const manifest = { ...options.manifest, tables: [{ ...entry, files: plan.files }] };
  const source = await fetchInputs(manifest, storage, options.storageConfig, folder);
  const [table] = await manifestTables(manifest, { files: source, readTypes: async () => null });
  const places = statePlaces(table!, plan.base);
  if (places === null) return null;
  const duckdb = await openDuckDB({ ...DUCKDB_SETTINGS, temp_directory: join(folder, "spill") });
  const interrupt = (): void => duckdb.connection.interrupt();
  options.signal.addEventListener("abort", interrupt, { once: true });
  try {
    options.signal.throwIfAborted();
    const inputs = await readInputs(plan, source, places);
    return await new Folding(options, folder, duckdb.connection, table!, places, inputs).run();
  } finally {
    options.signal.removeEventListener("abort", interrupt);
    duckdb.close();
  }
}

async function readInputs(plan: FoldPlan, source: FileSource, { files }: StatePlaces): Promise<FoldInput[]> {
  const byPath = new Map(plan.files.map((file) => [source.pathOf(file.path), file]));
  const inputs: FoldInput[] = [];
  for (const { path } of files) inputs.push(await readInput(byPath.get(path)!, path));
  return inputs;
}

class Folding {
  readonly #options: FoldOptions;
  readonly #folder: string;
  readonly #duckdb: DuckDB;
  readonly #versions: ReadonlyMap<number, MirrorVersion>;
  readonly #places: StatePlaces;
  readonly #inputs: readonly FoldInput[];

  constructor(
    options: FoldOptions,
    folder: string,
    duckdb: DuckDB,
    table: MirrorTable,
    places: StatePlaces,
    inputs: readonly FoldInput[],
  ) {
    this.#options = options;
    this.#folder = folder;
    this.#duckdb = duckdb;
    this.#versions = new Map(table.versions.map((version) => [version.schemaVersion, version]));
    this.#places = places;
    this.#inputs = inputs;
  }

  async run(): Promise<Fold> {
    const { plan, entry, storage, pathOf, fileBytes, compression } = this.#options;
    await this.#duckdb.run(`CREATE TABLE picked AS ${this.#places.sql}`);
    const kept = await this.#untouchedCopies();
    using values = new MovedValues(join(this.#folder, "moved-values"));
    await this.#collectMoved(values);
    const { base } = plan;
    const { versions, table } = entry;
    const { stream } = table;
    await using output = new BaseOutput({ storage, pathOf, fileBytes, compression, base, stream, versions });
    await this.#writeRows(output, values, kept);
    const added = await output.finish();
    const stay = new Set([...plan.spanning, ...kept]);
    return { base, kept: [...kept], removed: plan.files.filter((file) => !stay.has(file)), added };
  }

  async #untouchedCopies(): Promise<ReadonlySet<ManifestFile>> {
    const reader = await this.#duckdb.runAndReadAll(
      "SELECT place // 4294967296, count(*) FROM picked WHERE others IS NULL GROUP BY 1",
    );
    const kept = reader.getRows().flatMap(([file, count]) => {
      const input = this.#inputs[Number(file)]!;
      return input.file.kind === "copy" && input.file.rowCount === Number(count) ? [input.file] : [];
    });
    return new Set(kept);
  }

  /** Reads each value that a row takes from another one, in the order of the files. */
  async #collectMoved(values: MovedValues): Promise<void> {
    const result = await this.#duckdb.stream(`SELECT DISTINCT other, nth FROM (
        SELECT place, unnest(others) AS other, generate_subscripts(others, 1) AS nth FROM picked WHERE others IS NOT NULL)
      WHERE other IS NOT NULL AND other <> place ORDER BY other, nth`);
    let reader: MovedReader | null = null;
    try {
      for await (const batch of rowBatches(result)) {
        this.#options.signal.throwIfAborted();
        for (const [at, position] of batch) {
          const input = this.#inputs[placeOf(Number(at)).file]!;
          if (reader?.input !== input) {
            await reader?.[Symbol.asyncDispose]();
            reader = await MovedReader.open(
              input,
              this.#versions.get(input.file.schemaVersion)!,
              this.#places.unchanged,
            );
          }
          await reader.read(Number(at), Number(position) - 1, values);
        }
      }
    } finally {
      await reader?.[Symbol.asyncDispose]();
    }
    values.seal();
  }

  async #writeRows(output: BaseOutput, values: MovedValues, kept: ReadonlySet<ManifestFile>): Promise<void> {
    const result = await this.#duckdb.stream("SELECT place, others FROM picked ORDER BY place");
    let version: number | null = null;
    for await (const batch of rowBatches(result)) {
      this.#options.signal.throwIfAborted();
      for (const picked of this.#segments(batch, values)) {
        const { file } = picked.input;
        if (kept.has(file)) continue;
        if (file.schemaVersion !== version) {
          version = file.schemaVersion;
          await output.beginVersion(this.#inputs.filter((input) => input.file.schemaVersion === version));
        }
        await output.take(picked);
      }
    }
  }

  *#segments(batch: readonly (readonly Value[])[], values: MovedValues): Generator<PickedRows> {
    let open: { input: FoldInput; row: number; count: number; moved: null } | null = null;
    for (const [at, others] of batch) {
      const place = Number(at);
      const { file, row } = placeOf(place);
      const input = this.#inputs[file]!;
      if (others === null) {
        if (open !== null && open.input === input && open.row + open.count === row) open.count++;
        else {
          if (open !== null) yield open;
          open = { input, row, count: 1, moved: null };
        }
        continue;
      }
      if (open !== null) yield open;
      open = null;
      const list = (others as { readonly items: readonly (bigint | null)[] }).items;
      yield { input, row, count: 1, moved: this.#movedColumns(input, place, list, values) };
    }
    if (open !== null) yield open;
  }

  #movedColumns(
    input: FoldInput,
    place: number,
    others: readonly (bigint | null)[],
    values: MovedValues,
  ): MovedColumn[] {
    const version = this.#versions.get(input.file.schemaVersion)!;
    return this.#places.unchanged.flatMap((column, position): MovedColumn[] => {
      const other = others[position]!;
      if (other !== null && Number(other) === place) return [];
      const there = columnInVersion(column, version);
      if (there === undefined) return []; // the row's version has no such column, whoever has a value for it
      const { name, fileName } = there;
      if (other === null) return [{ name, fileName, append: appendNothing }];
      const target = input.columns.find((each) => each.name === fileName);
      this.#refuseOtherShape(Number(other), column, target);
      return [{ name, fileName, append: (leaves) => values.append(Number(other), position, leaves) }];
    });
  }

  #refuseOtherShape(place: number, column: ShownColumn, target: FoldInput["columns"][number] | undefined): void {
    const input = this.#inputs[placeOf(place).file]!;
    const there = columnInVersion(column, this.#versions.get(input.file.schemaVersion)!);
    const source = input.columns.find((each) => each.name === there?.fileName);
    if (source && target && sameLeaves(source, target)) return;
    throw new PgFloError(
      "INTERNAL",
      `fold ${input.file.path}, column ${column.name} is another one than in its row's file`,
    );
  }
}

/** A value that no row has: of an UPDATE of a row that the mirror never had. */
function appendNothing(leaves: readonly LeafBuffer[]): null {
  for (const leaf of leaves) {
    leaf.reserveEntries(1);
    if (leaf.maxRepetition > 0) leaf.repetitions[leaf.entryCount] = 0;
    leaf.definitions[leaf.entryCount++] = 0;
  }
  return null;
}
