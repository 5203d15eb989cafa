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
/** Blocks are small: one after the other, most of the time would be waiting. */
const READS_AT_ONCE = 16;

/**
 * Stores whose rows together are the transaction's, for relations that are accepted. Each is good until the next one is
 * asked for; its changes lie in `arena`. Aborted subtransactions and what came before a TRUNCATE are left out.
 */
export async function* replaySpilled(
  transaction: SpilledTransaction,
  arena: Arena,
  accepts: (relation: StreamRelation) => boolean,
): AsyncGenerator<TransactionStore, void, void> {
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

  async *run(): AsyncGenerator<TransactionStore, void, void> {
    const { parts } = this.#transaction;
    if (this.#placeTruncates()) yield this.#store;
    for (const block of parts.blocks(parts.plain)) {
      await this.#load(parts, [block]);
      yield this.#store;
    }
    for (let part = 0; part < parts.plain; part++) yield* this.#part(parts, part);
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

  /** `divisible`: whether its records have more than one route, as far as is known. */
  async *#part(parts: SpillParts, part: number, divisible = true): AsyncGenerator<TransactionStore, void, void> {
    const blocks = parts.blocks(part);
    const needed = blocks.reduce((sum, { sizeBytes, count }) => sum + sizeBytes + count * CHANGE_BYTES, 0);
    if (needed === 0) return;
    const count = blocks.reduce((sum, block) => sum + block.count, 0);
    // One record cannot be split, however large its values are.
    if (needed <= this.#transaction.options.memoryBytes || count === 1 || !divisible || !parts.divisible) {
      await this.#load(parts, blocks);
      yield this.#store;
      return;
    }
    const { folder, partBits } = this.#transaction.options;
    const split = await SpillParts.create(folder, partBits, parts.level + 1);
    try {
      const routes = await this.#split(parts, part, split);
      failpoint("spill.split");
      for (let inner = 0; inner < split.plain; inner++) yield* this.#part(split, inner, routes === "many");
    } finally {
      await split.close();
    }
  }

  async #load(parts: SpillParts, blocks: readonly SpillBlock[]): Promise<void> {
    this.#clear();
    const record = this.#record;
    for (const [at, end] of await this.#read(parts, blocks)) {
      for (let next = at; next < end; ) {
        next = readRecord(this.#arena.view, next, record);
        if (!this.#counts(record)) continue;
        const relation = this.#transaction.relations[record.relation]!;
        const newTuple = record.newEnd > record.newStart ? record.newStart : -1;
        const oldTuple = record.oldEnd > record.oldStart ? record.oldStart : -1;
        this.#store.place(record.operation, relation, newTuple, oldTuple, record.sequence);
      }
    }
    failpoint("spill.part-loaded");
  }

  /** Block by block: a part that is too large is not read at once. Gives how many routes its records have. */
  async #split(parts: SpillParts, part: number, split: SpillParts): Promise<"one" | "many"> {
    let lastRoute: number | null = null;
    let routes: "one" | "many" = "one";
    const groups = new RecordGroups();
    const record = this.#record;
    for (const block of parts.blocks(part)) {
      this.#clear();
      const [[at, end]] = (await this.#read(parts, [block])) as [[number, number]];
      const kept: number[] = [];
      groups.reset(split.partCount);
      for (let next = at; next < end; ) {
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

  /** Reads blocks into the arena and gives where each one starts and ends. */
  async #read(parts: SpillParts, blocks: readonly SpillBlock[]): Promise<[start: number, end: number][]> {
    const sizeBytes = blocks.reduce((sum, block) => sum + block.sizeBytes, 0);
    let at = this.#arena.reserve(sizeBytes);
    const { bytes } = this.#arena;
    const placed = blocks.map((block) => {
      at += block.sizeBytes;
      return { block, start: at - block.sizeBytes, end: at };
    });
    await inParallel(placed, READS_AT_ONCE, ({ block, start }) => parts.file.read(block, bytes, start));
    return placed.map(({ start, end }) => [start, end]);
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
