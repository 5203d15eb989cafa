// Reads a spilled transaction back in pieces that fit into memory, each complete for its identities.
import { failpoint } from "../base/failpoints.ts";
import { inParallel } from "../storage/lanes.ts";
import type { Arena } from "./arena.ts";
import type { SpillBlock } from "./spill-file.ts";
import { RecordGroups, SpillParts } from "./spill-parts.ts";
import { emptyRecord, readRecord, type SpillRecord } from "./spill-record.ts";
import type { SpilledTransaction } from "./spilled-transaction.ts";
import type { StreamRelation } from "./stream-table.ts";
import { OPERATION_TRUNCATE, TransactionStore } from "./transaction-store.ts";

/** What a change needs besides its record, in the store and while it is brought together with others. */
const CHANGE_BYTES = 80;
/** Parts lie next to each other in what was written at once, in thousands of small blocks: so much is read together. */
const PIECE_BYTES = 4 * 1024 * 1024;
const READS_AT_ONCE = 4;

/**
 * Pieces of a transaction, each a sequence of stores; the rows of all of them together are the transaction's, for
 * relations that are accepted. A store is good until the next one is asked for, and the tuples of a piece lie in `arena`
 * until the next piece is. Aborted subtransactions and what came before a TRUNCATE are left out.
 */
export async function* replaySpilled(
  transaction: SpilledTransaction,
  arena: Arena,
  accepts: (relation: StreamRelation) => boolean,
): AsyncGenerator<Iterable<TransactionStore>, void, void> {
  const replay = new SpillReplay(transaction, arena, accepts);
  yield* replay.run();
}

class SpillReplay {
  readonly #transaction: SpilledTransaction;
  readonly #arena: Arena;
  readonly #store: TransactionStore;
  readonly #accepted: readonly boolean[];
  /** By relation: the sequence number of the TRUNCATE that counts, or -1. */
  readonly #truncated: Float64Array;
  readonly #record = emptyRecord();

  constructor(transaction: SpilledTransaction, arena: Arena, accepts: (relation: StreamRelation) => boolean) {
    this.#transaction = transaction;
    this.#arena = arena;
    this.#store = TransactionStore.replayed(arena);
    this.#accepted = transaction.relations.map(accepts);
    this.#truncated = new Float64Array(transaction.relations.length).fill(-1);
    for (const { relation, sequence, xid } of transaction.truncates) {
      if (!transaction.aborted.has(xid >>> 0)) this.#truncated[relation] = sequence;
    }
  }

  async *run(): AsyncGenerator<Iterable<TransactionStore>, void, void> {
    const { parts } = this.#transaction;
    if (this.#placeTruncates()) yield [this.#store];
    for (const block of parts.blocks(parts.plain)) yield await this.#load(parts, [[block]]);
    yield* this.#pieces(parts, true);
    this.#clear();
  }

  #placeTruncates(): boolean {
    this.#clear();
    for (const [index, relation] of this.#transaction.relations.entries()) {
      const sequence = this.#truncated[index]!;
      if (sequence >= 0 && this.#accepted[index]) this.#store.place(OPERATION_TRUNCATE, relation, -1, -1, sequence);
    }
    return this.#store.count > 0;
  }

  /** `divisible`: whether records of a part have more than one route, as far as is known. */
  async *#pieces(parts: SpillParts, divisible: boolean): AsyncGenerator<Iterable<TransactionStore>, void, void> {
    const { memoryBytes } = this.#transaction.options;
    let piece: (readonly SpillBlock[])[] = [];
    let pieceBytes = 0;
    for (let part = 0; part < parts.plain; part++) {
      const blocks = parts.blocks(part);
      const needed = blocks.reduce((sum, { sizeBytes, count }) => sum + sizeBytes + count * CHANGE_BYTES, 0);
      if (needed === 0) continue;
      const count = blocks.reduce((sum, block) => sum + block.count, 0);
      // One record cannot be split, however large its values are.
      if (needed > memoryBytes && count > 1 && divisible && parts.divisible) {
        yield* this.#splitPart(parts, part);
        continue;
      }
      if (piece.length > 0 && pieceBytes + needed > Math.min(PIECE_BYTES, memoryBytes)) {
        yield await this.#load(parts, piece);
        piece = [];
        pieceBytes = 0;
      }
      piece.push(blocks);
      pieceBytes += needed;
    }
    if (piece.length > 0) yield await this.#load(parts, piece);
  }

  async *#splitPart(parts: SpillParts, part: number): AsyncGenerator<Iterable<TransactionStore>, void, void> {
    const { folder, partBits } = this.#transaction.options;
    const split = await SpillParts.create(folder, partBits, parts.level + 1);
    try {
      const routes = await this.#split(parts, part, split);
      failpoint("spill.split");
      yield* this.#pieces(split, routes === "many");
    } finally {
      await split.close();
    }
  }

  /** Reads the parts (of each its blocks) and gives the store of each. */
  async #load(parts: SpillParts, piece: readonly (readonly SpillBlock[])[]): Promise<Iterable<TransactionStore>> {
    this.#clear();
    const starts = await this.#read(parts, piece.flat());
    return this.#stores(piece, starts);
  }

  *#stores(
    piece: readonly (readonly SpillBlock[])[],
    starts: ReadonlyMap<SpillBlock, number>,
  ): Generator<TransactionStore, void, void> {
    const record = this.#record;
    for (const blocks of piece) {
      this.#store.clear();
      for (const block of blocks) {
        const start = starts.get(block)!;
        for (let next = start; next < start + block.sizeBytes; ) {
          next = readRecord(this.#arena.view, next, record);
          if (!this.#counts(record)) continue;
          const relation = this.#transaction.relations[record.relation]!;
          const newTuple = record.newEnd > record.newStart ? record.newStart : -1;
          const oldTuple = record.newStart > record.oldStart ? record.oldStart : -1;
          this.#store.place(record.operation, relation, newTuple, oldTuple, record.sequence);
        }
      }
      failpoint("spill.part-loaded");
      yield this.#store;
    }
  }

  /** Block by block: a part that is too large is not read at once. Gives how many routes its records have. */
  async #split(parts: SpillParts, part: number, split: SpillParts): Promise<"one" | "many"> {
    let lastRoute: number | null = null;
    let routes: "one" | "many" = "one";
    const groups = new RecordGroups();
    const record = this.#record;
    for (const block of parts.blocks(part)) {
      this.#clear();
      const at = (await this.#read(parts, [block])).get(block)!;
      const kept: number[] = [];
      groups.reset(split.partCount);
      for (let next = at; next < at + block.sizeBytes; ) {
        const start = next;
        next = readRecord(this.#arena.view, next, record);
        if (!this.#counts(record)) continue;
        if (lastRoute !== null && record.route !== lastRoute) routes = "many";
        lastRoute = record.route;
        groups.add(split.partOf(record.route), next - start);
        kept.push(start);
      }
      groups.layOut();
      for (const [index, start] of kept.entries()) {
        const next = readRecord(this.#arena.view, start, record);
        groups.buffer.write(groups.position(index, next - start), this.#arena.bytes, start, next);
      }
      if (groups.count > 0) await split.write(groups);
    }
    return routes;
  }

  /** Reads blocks into the arena and gives where each one starts. Those that are neighbours in the file are read in one go. */
  async #read(parts: SpillParts, blocks: readonly SpillBlock[]): Promise<ReadonlyMap<SpillBlock, number>> {
    const sizeBytes = blocks.reduce((sum, block) => sum + block.sizeBytes, 0);
    let at = this.#arena.reserve(sizeBytes);
    const { bytes } = this.#arena;
    const starts = new Map<SpillBlock, number>();
    const runs: { readonly start: number; readonly blocks: SpillBlock[] }[] = [];
    let runEnd = -1;
    for (const block of blocks.toSorted((left, right) => left.position - right.position)) {
      if (block.position === runEnd) runs.at(-1)!.blocks.push(block);
      else runs.push({ start: at, blocks: [block] });
      runEnd = block.position + block.sizeBytes;
      starts.set(block, at);
      at += block.sizeBytes;
    }
    await inParallel(runs, READS_AT_ONCE, (run) => parts.file.read(run.blocks, bytes, run.start));
    return starts;
  }

  #counts({ relation, sequence, xid }: SpillRecord): boolean {
    const { aborted } = this.#transaction;
    if (!this.#accepted[relation] || sequence < this.#truncated[relation]!) return false;
    return aborted.size === 0 || !aborted.has(xid >>> 0);
  }

  #clear(): void {
    this.#store.clear();
    this.#arena.reset();
  }
}
