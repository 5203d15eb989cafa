// A transaction whose COMMIT was not read yet: its changes, in memory or spilled, its aborted subtransactions, and what
// it was told of relations. The server streams large ones while they run, many of them interleaved.
import { Arena } from "./arena.ts";
import type { Misfit } from "./change-events.ts";
import type { ToldRelation } from "./relation-mappings.ts";
import { SpilledTransaction, type SpillOptions } from "./spilled-transaction.ts";
import type { StreamTable } from "./stream-table.ts";
import { TransactionStore } from "./transaction-store.ts";

/** Hundreds can be open at once, most of them small. */
const FIRST_BYTES = 4096;
const FIRST_CHANGES = 64;

export class OpenTransaction {
  readonly xid: number;
  store: TransactionStore;
  spilled: SpilledTransaction | null = null;
  readonly aborted = new Set<number>();
  /**
   * Relations as they were told inside of the transaction, which may have changed them itself. Others see them so when
   * it has committed, and so does the server: it tells them again only to those that it did not tell.
   */
  readonly told = new Map<number, ToldRelation>();
  /** By table and subtransaction: why changes do not fit. */
  readonly misfits = new Map<StreamTable, Map<number, Misfit>>();
  /** What the reader has added up for it. */
  countedBytes = 0;

  constructor(xid: number) {
    this.xid = xid;
    this.store = newStore();
  }

  get memoryBytes(): number {
    return this.store.memoryBytes;
  }

  abort(subXid: number): void {
    this.aborted.add(subXid);
    this.spilled?.undoAborted();
    // The server tells all of them again: it cannot know which ones were told in what is aborted.
    this.told.clear();
  }

  misfit(subXid: number, misfit: Misfit): void {
    const ofTable = this.misfits.get(misfit.table) ?? new Map<number, Misfit>();
    this.misfits.set(misfit.table, ofTable.set(subXid, misfit));
  }

  /** Why a table's changes do not fit, of those that are not aborted. */
  *livingMisfits(): Generator<Misfit> {
    for (const ofTable of this.misfits.values()) {
      for (const [subXid, misfit] of ofTable) if (!this.aborted.has(subXid)) yield misfit;
    }
  }

  /** Moves all changes that are in memory to the transaction's file. `goesOn`: their memory is soon needed again. */
  async spill(options: SpillOptions, goesOn: boolean): Promise<void> {
    this.spilled ??= await SpilledTransaction.create(options, this.aborted);
    await this.spilled.add(this.store);
    if (goesOn) {
      this.store.arena.reset();
      this.store.clear();
    } else this.store = newStore();
    this.store.firstSequence = this.spilled.nextSequence;
  }
}

function newStore(): TransactionStore {
  return TransactionStore.streamed(new Arena(FIRST_BYTES), FIRST_CHANGES);
}
