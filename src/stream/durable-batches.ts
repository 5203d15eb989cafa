// Closed batches on their way: files finished, then the manifest and the position at once, in the order in which they
// were closed; then the slot is confirmed. The next batch fills meanwhile.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Arena } from "./arena.ts";
import type { Batch } from "./batch.ts";
import type { StreamCommits, TakenCut } from "./stream-options.ts";
import type { DurableBatch } from "./stream-state.ts";
import type { StreamTable } from "./stream-table.ts";

export interface DurableBatchesOptions {
  readonly commits: StreamCommits;
  /** Number of the newest committed batch. */
  readonly number: bigint;
  /** Everything up to here is durable. */
  readonly durable: (position: Lsn) => void;
  readonly committed: (durable: DurableBatch) => void;
  /** The rows of a closed batch are encoded: their tuples in the arena are of no use to it any more. */
  readonly encoded: (arena: Arena) => void;
  readonly failed: (error: unknown) => void;
}

interface ClosedBatch {
  readonly batch: Batch;
  readonly arena: Arena;
  readonly number: bigint;
  readonly position: Lsn;
  readonly cut: TakenCut | null;
}

export class DurableBatches {
  readonly #options: DurableBatchesOptions;
  #number: bigint;
  /** Settles when every closed batch is durable; rejects with the first failure. */
  #closing: Promise<void> = Promise.resolve();
  #failures: Promise<void> = Promise.resolve();
  #closingCount = 0;
  #encodingCount = 0;

  constructor(options: DurableBatchesOptions) {
    this.#options = options;
    this.#number = options.number;
  }

  /** Whether something is on its way. */
  get busy(): boolean {
    return this.#closingCount > 0;
  }

  /** Whether tuples of closed batches still lie in their arenas. */
  get encoding(): boolean {
    return this.#encodingCount > 0;
  }

  /** When all that was closed is durable. Rejects with the first failure. */
  all(): Promise<void> {
    return this.#closing;
  }

  /** Makes the batch durable, whose pending rows lie in `arena`, with all commits up to `position`. */
  finish(batch: Batch, arena: Arena, position: Lsn, cut: TakenCut | null): Promise<void> {
    const number = ++this.#number;
    const before = this.#closing;
    return this.#follow(this.#makeDurable({ batch, arena, number, position, cut }, before), position);
  }

  /** Makes the position of an idle stream durable. */
  move(position: Lsn): Promise<void> {
    const number = this.#number;
    // A table's failure first, as for a batch: behind the position its dropped changes would be lost unnoticed.
    const moved = this.#closing.then(() => this.#failures).then(() => this.#options.commits.position(number, position));
    return this.#follow(moved, position);
  }

  tableFailed(table: StreamTable, error: PgFloError): void {
    table.cut = "unknown";
    this.#failures = this.#failures.then(() => this.#options.commits.tableFailed(table, error));
    this.#failures.catch((failure: unknown) => this.#options.failed(failure));
  }

  /** Waits for all that is on its way, and rejects with what failed. */
  async settle(): Promise<void> {
    const outcomes = await Promise.allSettled([this.#closing, this.#failures]);
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  #follow(work: Promise<void>, position: Lsn): Promise<void> {
    this.#closingCount++;
    this.#closing = work
      .then(() => {
        failpoint("batch.before-confirm");
        this.#options.durable(position);
        failpoint("batch.confirmed");
      })
      .finally(() => {
        this.#closingCount--;
      });
    this.#closing.catch((error: unknown) => this.#options.failed(error));
    return this.#closing;
  }

  async #makeDurable({ batch, arena, number, position, cut }: ClosedBatch, before: Promise<void>): Promise<void> {
    let asked = false;
    const closedAt = performance.now();
    try {
      failpoint("batch.closed");
      this.#encodingCount++;
      await batch.encodePending(arena).finally(() => this.#encodingCount--);
      this.#options.encoded(arena);
      const files = await batch.finish();
      failpoint("batch.files-durable");
      for (const [table, error] of batch.failedTables) this.tableFailed(table, error);
      await before;
      await this.#failures;
      asked = true;
      await this.#options.commits.batch(number, position, files, cut, batch.changes);
      this.#options.committed({ batch, files, tookMs: performance.now() - closedAt });
    } catch (error) {
      // Files of a commit whose outcome is not known must stay: they may be in the manifest. Orphans go by age.
      await Promise.allSettled([before]); // the run must not end while an earlier batch is on its way
      if (!asked) await batch.abort();
      throw toStreamError(error, number);
    }
  }
}

function toStreamError(error: unknown, batch: bigint): unknown {
  if (error instanceof PgFloError) return error;
  return new PgFloError(
    "INTERNAL",
    `finish batch ${batch}, ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
    },
  );
}
