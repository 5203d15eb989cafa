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

export interface IntakeOptions {
  readonly progress: StreamProgress;
  /** Of a part of a spilled transaction. */
  readonly partBytes: number;
  readonly stopping: () => boolean;
}

export class TransactionIntake {
  readonly #options: IntakeOptions;
  readonly #consolidator = new Consolidator();

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** What is in the transaction's store. Its tuples must stay until the batch has encoded them. */
  put(batch: Batch, transaction: CommittedTransaction): void {
    const { progress } = this.#options;
    const before = progress.changeCount;
    this.#add(batch, transaction);
    noteSize(progress.transactionChanges, progress.changeCount - before);
  }

  /** What counts of a spilled transaction, part by part, until all stops. */
  async putSpilled(batch: Batch, transaction: CommittedTransaction, spilled: SpilledTransaction): Promise<void> {
    const { progress, partBytes, stopping } = this.#options;
    const before = progress.changeCount;
    const accepts = (relation: StreamRelation) => transaction.relations.has(relation);
    const arena = new Arena(4096, 2 * partBytes);
    for await (const store of replaySpilled(spilled, arena, accepts)) {
      this.#add(batch, { ...transaction, store });
      await batch.encodePending(arena);
      if (stopping()) return;
    }
    noteSize(progress.transactionChanges, progress.changeCount - before);
  }

  #add(batch: Batch, { store, commitLsn, xid, commitTimeUs }: CommittedTransaction): void {
    const { progress } = this.#options;
    const rowsBefore = batch.rowCount;
    batch.beginTransaction(commitLsn, xid, commitTimeUs);
    this.#consolidator.consolidate(store, batch);
    progress.changeCount += countChanges(store, (relation, count) => batch.countChanges(relation, count));
    progress.rowCount += batch.rowCount - rowsBefore;
  }
}
