// What comes out of the change reader.
import type { Lsn } from "../base/lsn.ts";
import type { Relation } from "../postgres/relation.ts";
import type { CommittedTransaction } from "./committed-transaction.ts";
import type { StreamTable } from "./stream-table.ts";

export interface ChangeReaderEvents {
  /** Changes that count, in one transaction. */
  committed(transaction: CommittedTransaction): void;
  /** Every commit up to here has been seen, whether it had changes for us or not. */
  reached(position: Lsn): void;
  /**
   * A change that counts fits no registered definition of its table. Nothing of its transaction counts, nor of what
   * comes after it: all of it is read again when the definition is known.
   */
  halted(misfit: Misfit): void;
}

/** A Relation message that fits no registered definition of its table. */
export interface Misfit {
  readonly table: StreamTable;
  readonly reason: string;
  readonly message: Relation;
}
