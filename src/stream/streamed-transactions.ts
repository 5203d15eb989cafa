// The transactions that the server streams while they run: any number of them, one block at a time.
import { OpenTransaction } from "./open-transaction.ts";
import type { ToldRelation } from "./relation-mappings.ts";
import type { SpilledTransaction, SpillOptions } from "./spilled-transaction.ts";

export class StreamedTransactions {
  readonly #open = new Map<number, OpenTransaction>();
  /** The one whose block is being read. */
  block: OpenTransaction | null = null;
  /** Of those, what was added up at the end of each block. */
  #countedBytes = 0;

  get count(): number {
    return this.#open.size;
  }

  get memoryBytes(): number {
    return this.#countedBytes + (this.block ? this.block.memoryBytes - this.block.countedBytes : 0);
  }

  startBlock(xid: number): void {
    let transaction = this.#open.get(xid);
    if (!transaction) {
      transaction = new OpenTransaction(xid);
      this.#open.set(xid, transaction);
    }
    this.block = transaction;
  }

  endBlock(): void {
    if (this.block) this.#count(this.block);
    this.block = null;
  }

  get(xid: number): OpenTransaction | undefined {
    return this.#open.get(xid);
  }

  remove(transaction: OpenTransaction): void {
    this.#open.delete(transaction.xid);
    this.#countedBytes -= transaction.countedBytes;
  }

  /** The one that holds most memory with changes, if any. */
  largest(): OpenTransaction | null {
    let largest: OpenTransaction | null = null;
    for (const each of this.#open.values()) {
      if (each.store.count > 0 && each.memoryBytes > (largest?.memoryBytes ?? 0)) largest = each;
    }
    return largest;
  }

  /** Relations as only they were told. */
  *told(): Generator<ToldRelation> {
    for (const { told } of this.#open.values()) yield* told.values();
  }

  async spill(transaction: OpenTransaction, options: SpillOptions, goesOn: boolean): Promise<void> {
    await transaction.spill(options, goesOn);
    this.#count(transaction);
  }

  /** Forgets all of them and gives their files. */
  clear(): SpilledTransaction[] {
    const files = [...this.#open.values()].flatMap(({ spilled }) => (spilled ? [spilled] : []));
    this.#open.clear();
    this.#countedBytes = 0;
    this.block = null;
    return files;
  }

  #count(transaction: OpenTransaction): void {
    this.#countedBytes += transaction.memoryBytes - transaction.countedBytes;
    transaction.countedBytes = transaction.memoryBytes;
  }
}
