// Cuts of tables that came later: awaited while their slot is created, then taken over between two transactions,
// together with the changes that were held for them.
import { PgFloError } from "../base/errors.ts";
import { failpoint } from "../base/failpoints.ts";
import type { Lsn } from "../base/lsn.ts";
import type { Batch } from "./batch.ts";
import type { ChangeReader } from "./change-reader.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import type { DurableBatches } from "./durable-batches.ts";
import type { StreamTable } from "./stream-table.ts";

interface NewCut {
  readonly tables: readonly StreamTable[];
  readonly cut: Lsn;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The stream, as far as a cut concerns it. */
export interface CutTaker {
  readonly tables: ReadonlyMap<number, StreamTable>;
  readonly reader: ChangeReader;
  readonly durable: DurableBatches;
  /** Closes the open batch and gives a new one, and up to where all is closed. */
  separate(): { readonly batch: Batch; readonly position: Lsn };
  /** Brings a held transaction into the batch; a promise for one that is spilled. */
  put(batch: Batch, transaction: CommittedTransaction): Promise<void> | undefined;
  readonly stopping: () => boolean;
}

export class NewCuts {
  readonly #taker: CutTaker;
  #waiting: NewCut[] = [];
  #ended = false;
  /** Something of it was spilled and is being read back. */
  taking = false;

  constructor(taker: CutTaker) {
    this.#taker = taker;
  }

  get waiting(): boolean {
    return this.#waiting.length > 0;
  }

  /**
   * From now on the changes of these tables are held: the slot that decides their cut is asked for after this call.
   * Given are table ids and the generation that the cut is for: a table that is copied again has a new one, and files
   * of the old would be refused.
   */
  awaitCut(generations: ReadonlyMap<number, number>): StreamTable[] {
    const tables = [...this.#taker.tables.values()].filter((table) => generations.has(table.tableId));
    this.#forgetHeld(generations);
    for (const table of tables) {
      table.cut = "awaited";
      table.generation = generations.get(table.tableId)!;
    }
    return tables;
  }

  /**
   * The cut of awaited tables is known. It is stored together with the changes that were held and count, in one
   * commit: a crash before it leaves the tables without a cut, one after it has lost nothing. Rejects when the stream
   * ended before; the tables then still have no cut.
   */
  add(tables: readonly StreamTable[], cut: Lsn): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.#ended) reject(streamEnded());
    else this.#waiting.push({ tables, cut, resolve, reject });
    return promise;
  }

  /** Takes what waits, between two transactions. A promise when something held was spilled: reading must be held back. */
  take(): Promise<void> | undefined {
    for (let newCut = this.#waiting.shift(); newCut; newCut = this.#waiting.shift()) {
      const taken = this.#take(newCut);
      if (taken) return taken.then(() => this.take());
    }
    return undefined;
  }

  /** The stream takes no more of them. */
  end(): void {
    this.#ended = true;
    for (const { reject } of this.#waiting.splice(0)) reject(streamEnded());
  }

  /** A slot that could not be created is asked for once more: what was held for it is before every cut to come. */
  #forgetHeld(generations: ReadonlyMap<number, number>): void {
    const { tables, reader, durable } = this.#taker;
    const others = [...tables.values()].some(({ cut, tableId }) => cut === "awaited" && !generations.has(tableId));
    if (others || this.waiting || this.taking) return;
    reader.forgetHeld();
    if (!durable.encoding) reader.heldArena.reset();
  }

  /** Whoever waits for the cut is told of a failure, as the stream is that ends with it. */
  #take(newCut: NewCut): Promise<void> | undefined {
    const fail = (error: unknown): never => {
      newCut.reject(error);
      throw error;
    };
    try {
      return this.#put(newCut)?.catch(fail);
    } catch (error) {
      return fail(error);
    }
  }

  #put(newCut: NewCut): Promise<void> | undefined {
    const { cut } = newCut;
    // A table that failed meanwhile gets no cut: its changes are dropped.
    const tables = newCut.tables.filter((table) => table.cut === "awaited" && this.#fits(table, cut));
    for (const table of tables) table.cut = cut;
    // A batch of their own: the tuples of held changes lie in another arena.
    const { batch, position } = this.#taker.separate();
    const finish = () => {
      const { durable, reader } = this.#taker;
      failpoint("cut.held-put");
      durable.finish(batch, reader.heldArena, position, { tables, lsn: cut }).then(newCut.resolve, newCut.reject);
    };
    const held = this.#taker.reader.takeHeld();
    if (held.some(({ spilled }) => spilled !== null)) return this.#putSpilled(newCut, batch, held, finish);
    for (const transaction of held) if (transaction.commitLsn >= cut) this.#taker.put(batch, transaction);
    finish();
    return undefined;
  }

  async #putSpilled(
    { cut, reject }: NewCut,
    batch: Batch,
    held: readonly CommittedTransaction[],
    finish: () => void,
  ): Promise<void> {
    const { stopping, reader } = this.#taker;
    this.taking = true;
    try {
      for (const transaction of held) {
        if (transaction.spilled) await batch.encodePending(reader.heldArena);
        if (transaction.commitLsn >= cut && !stopping()) await this.#taker.put(batch, transaction);
      }
      if (!stopping()) return finish();
      reject(streamEnded());
      await batch.abort();
    } catch (error) {
      await batch.abort();
      throw error;
    } finally {
      this.taking = false;
      for (const { spilled } of held) await spilled?.release();
    }
  }

  #fits(table: StreamTable, cut: Lsn): boolean {
    const { reader, durable } = this.#taker;
    const reason = reader.takeMisfit(table, cut);
    if (reason === null) return true;
    durable.tableFailed(table, definitionChanged(table, reason));
    return false;
  }
}

export function definitionChanged(table: StreamTable, reason: string): PgFloError {
  return new PgFloError("TABLE_CHANGED", `table ${table.schema}.${table.name}, definition, ${reason}`);
}

function streamEnded(): PgFloError {
  return new PgFloError("CONNECTION_LOST", "stream, cut of new tables, the stream ended before it was stored");
}
