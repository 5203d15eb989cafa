// Brings committed transactions into a batch, and counts what came of them.
import { noteSize } from "../base/size-histogram.ts";
import { Arena } from "./arena.ts";
import type { Batch } from "./batch.ts";
import { countChanges } from "./change-counts.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import { Consolidator } from "./consolidate.ts";
import { replaySpilled } from "./spill-replay.ts";
import type { SpilledTransaction } from "./spilled-transaction.ts";
import type { StreamProgress } from "./stream-state.ts";
import type { StreamRelation } from "./stream-table.ts";

export class TransactionIntake {
  readonly #progress: StreamProgress;
  readonly #partBytes: number;
  readonly #stopping: () => boolean;
  readonly #consolidator = new Consolidator();

  /** `partBytes`: of memory for a part of a spilled transaction. */
  constructor(progress: StreamProgress, partBytes: number, stopping: () => boolean) {
    this.#progress = progress;
    this.#partBytes = partBytes;
    this.#stopping = stopping;
  }

  /** What is in the transaction's store. Its tuples must stay until the batch has encoded them. */
  put(batch: Batch, transaction: CommittedTransaction): void {
    const progress = this.#progress;
    const before = progress.changeCount;
    this.#add(batch, transaction);
    noteSize(progress.transactionChanges, progress.changeCount - before);
  }

  /** What counts of a spilled transaction, piece by piece, until all stops. */
  async putSpilled(batch: Batch, transaction: CommittedTransaction, spilled: SpilledTransaction): Promise<void> {
    const progress = this.#progress;
    const before = progress.changeCount;
    const accepts = (relation: StreamRelation) => transaction.relations.has(relation);
    const arena = new Arena(4096, 2 * this.#partBytes);
    for await (const stores of replaySpilled(spilled, arena, accepts)) {
      for (const store of stores) this.#add(batch, { ...transaction, store });
      await batch.encodePending(arena);
      if (this.#stopping()) return;
    }
    noteSize(progress.transactionChanges, progress.changeCount - before);
  }

  #add(batch: Batch, { store, commitLsn, xid, commitTimeUs }: CommittedTransaction): void {
    const progress = this.#progress;
    const rowsBefore = batch.rowCount;
    batch.beginTransaction(commitLsn, xid, commitTimeUs);
    this.#consolidator.consolidate(store, batch);
    progress.changeCount += countChanges(store, (relation, count) => batch.countChanges(relation, count));
    progress.rowCount += batch.rowCount - rowsBefore;
  }
}
